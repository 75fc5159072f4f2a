"""run(): train the missing runs of a plan; draw and publish the results.

Runs in the head process only, which alone talks to the tracker.
"""

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from bench.benchmark.plan import Plan
from bench.benchmark.sharing import SharedQueue, one_at_a_time
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.execution import (
    STOP_SECONDS,
    EpochEnded,
    Event,
    Executor,
    Failed,
    Finished,
    Halted,
    Lost,
    Started,
)
from bench.tracking import Began, Ended, Epoch, Tracker, WorkOver


@dataclass
class PlanResult:
    """The outcome of a plan, during and after its run."""

    records: dict[str, RunRecord] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    trained: int = 0


def run(
    plan: Plan, store: Store, executor: Executor | None, tracker: Tracker
) -> Generator[Event, None, PlanResult]:
    """Run what is missing and yield each event after publishing it; returns the PlanResult.

    Records are on disk before the tracker gets them. On KeyboardInterrupt, or when the caller
    closes the generator, the workers save and stop and their runs are closed in the tracker.
    `executor` may be None if nothing is missing. Runs that another command on this store trains
    meanwhile are not trained again: their records are used.
    """
    outcome = PlanResult(records=dict(plan.done))
    _tell(plan, outcome.records, tracker)
    waiting = {spec.run_key for spec in plan.missing}
    if executor is None:
        return outcome
    with SharedQueue(plan.missing, store, executor) as queue:
        try:
            while waiting:
                for spec, record in queue.hand_out():
                    tracker.tell(record)
                    outcome.records[spec.run_key] = record
                    waiting.discard(spec.run_key)
                    _publish_cell(spec, plan, outcome, store, tracker)
                    yield Finished(spec, record)
                for event in executor.events(timeout=1.0):
                    _publish(event, tracker)
                    _account(event, outcome, waiting)
                    if isinstance(event, Finished):
                        _publish_cell(event.spec, plan, outcome, store, tracker)
                    if isinstance(event, Finished | Failed | Halted):
                        queue.release(event.spec.run_key)
                    yield event
        except (KeyboardInterrupt, GeneratorExit):
            for spec in plan.missing:
                if spec.run_key in waiting:
                    executor.stop(spec)
            _drain(executor, tracker)
            raise
    if tracker.missed:
        tracker.watch(WorkOver())
        _tell(plan, outcome.records, tracker)
    return outcome


def _tell(plan: Plan, records: Mapping[str, RunRecord], tracker: Tracker) -> None:
    """Send MLflow the records and complete cells that it lacks."""
    for record in records.values():
        tracker.tell(record)
    for cell in _complete_cells(plan, records):
        tracker.cell_finished(cell)


def _publish(event: Event, tracker: Tracker) -> None:
    """Send an event to the tracker."""
    match event:
        case Started(spec):
            tracker.watch(Began(spec))
        case EpochEnded(spec, values):
            tracker.watch(Epoch(spec, values))
        case Finished(_, record):
            tracker.tell(record)
        case Failed(spec, reason):
            tracker.watch(Ended(spec, reason))
        case Halted(spec) | Lost(spec):
            tracker.watch(Ended(spec))


def _account(event: Event, outcome: PlanResult, waiting: set[str]) -> None:
    match event:
        case Finished(spec, record):
            outcome.records[spec.run_key] = record
            outcome.trained += 1
            waiting.discard(spec.run_key)
        case Failed(spec):
            outcome.failures.append(event)
            waiting.discard(spec.run_key)
        case Halted(spec):
            waiting.discard(spec.run_key)


def _publish_cell(
    spec: RunSpec, plan: Plan, outcome: PlanResult, store: Store, tracker: Tracker
) -> None:
    """Log a cell's model once all of its seeds are recorded, whoever trained them."""
    keys = [other.run_key for other in plan.specs if other.cell == spec.cell]
    if all(key in outcome.records for key in keys):
        with one_at_a_time(store, "cells"):
            tracker.cell_finished([outcome.records[key] for key in keys])


def _complete_cells(plan: Plan, records: Mapping[str, RunRecord]) -> list[list[RunRecord]]:
    cells: dict[object, list[RunSpec]] = {}
    for spec in plan.specs:
        cells.setdefault(spec.cell, []).append(spec)
    return [
        [records[spec.run_key] for spec in specs]
        for specs in cells.values()
        if all(spec.run_key in records for spec in specs)
    ]


def _drain(executor: Executor, tracker: Tracker) -> None:
    """Wait for stopping runs; publish those that finished meanwhile."""
    give_up = time.monotonic() + STOP_SECONDS
    while executor.running and time.monotonic() < give_up:
        for event in executor.events(timeout=0.5):
            if not isinstance(event, Started):
                _publish(event, tracker)
