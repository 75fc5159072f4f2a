"""execute_plan(): train the missing runs of a plan and publish the results.

Runs in the head process only, which alone talks to the tracker.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from bench.benchmark.forecast import known_forecast
from bench.benchmark.memory import require_memory
from bench.benchmark.plan import Plan, Request, default_workers, plan
from bench.benchmark.seeding import width_of
from bench.benchmark.sharing import SharedQueue, one_at_a_time
from bench.core.disk import StorageFailed, require_room
from bench.core.errors import Stopped
from bench.core.interrupts import gentle_interrupt
from bench.core.memory import return_freed_memory
from bench.core.protocol import Protocol, default_protocol, load_protocol
from bench.core.spec import RunRecord, RunSpec, Stack, cells_of
from bench.core.store import Store, open_store
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
    Waiting,
)
from bench.execution.places import Workers
from bench.records.files import enter
from bench.tracking import Began, Ended, Epoch, Tracker, WorkOver, open_tracker

RECORD_BYTES = 6 << 20
"""Room asked for each missing run before training: a record on the bundled sets takes 0.3 to 5.5 MB
(weights, and the arrays of its figures); larger images or networks may take more."""


@dataclass
class PlanResult:
    """The outcome of a plan, during and after its run. `specs`: its runs, with the seeds that were
    added; `link`: its view in MLflow; `missed`: how many runs MLflow lacks."""

    specs: tuple[RunSpec, ...] = ()
    records: dict[str, RunRecord] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    trained: int = 0
    link: str = ""
    missed: int = 0


class Wanted(TypedDict, total=False):
    """What `run` takes besides a protocol; what is left out comes from it."""

    models: tuple[str, ...]
    latent_dims: tuple[int, ...]
    native: bool
    seeds: tuple[int, ...]
    dataset: str
    device: str
    threads: int


@dataclass(frozen=True)
class Stopping:
    """Ctrl-C came: the runs in progress save where they are."""


@dataclass(frozen=True)
class Added:
    """A cell gets another seed: those so far give its mean to `half_width`, in the unit of
    comparisons (`leaderboard/seeds.py`); infinite if fewer than two of them finished."""

    spec: RunSpec
    half_width: float


PlanEvent = Event | Waiting | Stopping | Added
"""What `execute_plan` tells its caller."""


def execute_plan(
    plan: Plan, workers: Workers, on_event: Callable[[PlanEvent], None] = lambda _: None
) -> PlanResult:
    """Run what is missing of a plan and log it; `on_event` gets each event after publishing it.

    Raises BadInput if the local MLflow store cannot be used, Stopped on Ctrl-C: the same call
    resumes.
    """
    store = workers.store
    require_room(
        store.records, RECORD_BYTES * len(plan.missing), f"the records of {len(plan.missing)} runs"
    )
    tracker = open_tracker(store, plan.protocol, plan.dataset_label)
    try:
        pool = workers.pool() if plan.missing else None
        steps = run_plan(plan, store, pool, tracker, _together(plan, workers))
        try:
            result = _followed(steps, on_event)
        except KeyboardInterrupt:
            on_event(Stopping())
            steps.close()
            now = plan.with_records(store)
            raise Stopped(
                f"stopped with {len(now.done)} of {now.in_words} runs recorded; "
                "the same command resumes from here"
            ) from None
    finally:
        tracker.close()
    result.link, result.missed = tracker.link, tracker.missed
    return result


def _together(plan: Plan, workers: Workers) -> tuple[Stack, ...]:
    """The missing runs that train as stacks, by the speeds that were measured for the forecast."""
    if not (workers.place.is_local and plan.missing):
        return ()
    known = known_forecast(plan.missing, plan.sizes, workers.store, workers.count, plan.later)
    return known.together if known is not None else ()


def _followed(
    steps: Generator[Event | Waiting | Added, None, PlanResult],
    on_event: Callable[[PlanEvent], None],
) -> PlanResult:
    """Pass the events on to the end. Raises KeyboardInterrupt between two of them: a second at
    most after Ctrl-C, and never in the middle of a write."""
    with gentle_interrupt() as interrupt:
        while not interrupt.asked:
            try:
                event = next(steps)
            except StopIteration as end:
                if interrupt.asked:  # whoever runs several plans must not begin the next
                    break
                outcome: PlanResult = end.value
                return outcome
            on_event(event)
    raise KeyboardInterrupt


def run(
    protocol: str | Protocol = "",
    *,
    workers: int = 0,
    on_event: Callable[[PlanEvent], None] = lambda _: None,
    **wanted: Unpack[Wanted],
) -> PlanResult:
    """Train and score every run of a protocol without a record, as `bench run`.

    PCA and the mean image run along. No protocol is `quick`, or `own` for the caller's own images.
    `workers`: 0 means one per core or GPU. They are processes that import the caller's main module:
    call this under `if __name__ == "__main__":`. Raises BadInput for anything that cannot be run,
    Stopped on Ctrl-C.
    """
    named = protocol or default_protocol(wanted.get("dataset", ""))
    chosen = load_protocol(named) if isinstance(named, str) else named
    request = Request(chosen, baselines=True, **wanted)
    store = open_store().prepare()
    made = plan(request, store)
    count = workers or default_workers(request, made.specs[0].device)
    require_memory(made.missing, made.sizes, count)
    with Workers(count, store) as pool:
        return execute_plan(made, pool, on_event)


def run_plan(
    plan: Plan,
    store: Store,
    executor: Executor | None,
    tracker: Tracker,
    together: Sequence[Stack] = (),
) -> Generator[Event | Waiting | Added, None, PlanResult]:
    """Run what is missing and yield each event after publishing it; returns the PlanResult.

    Records are on disk before the tracker gets them. On KeyboardInterrupt, or when the caller
    closes the generator, the workers save and stop and their runs are closed in the tracker.
    `executor` may be None if nothing is missing. A cell's further seeds are added, one at a time,
    while its records call for them. Runs that another command on this store trains
    meanwhile are not trained again: their records are used. `together`: missing runs that train as
    stacks.
    """
    outcome = PlanResult(plan.specs, dict(plan.done))
    # Trained for another protocol, perhaps: every board shows what it names itself.
    for record in plan.done.values():
        enter(store.records, record)
    _tell(plan, outcome.records, tracker)
    waiting = {spec.run_key for spec in plan.missing}
    if executor is None:
        return outcome
    with SharedQueue(plan.missing, store, executor, together) as queue:
        try:
            while waiting:
                for spec, record in queue.hand_out():
                    tracker.tell(record)
                    outcome.records[spec.run_key] = record
                    waiting.discard(spec.run_key)
                    plan, added = _grown(plan, outcome, queue, waiting)
                    _publish_cell(spec, plan, outcome, store, tracker)
                    yield from added
                    yield Finished(spec, record)
                happened = executor.events(timeout=1.0)
                if not happened:
                    yield Waiting()
                for event in happened:
                    _publish(event, tracker)
                    _account(event, outcome, waiting)
                    if isinstance(event, Finished):
                        plan, added = _grown(plan, outcome, queue, waiting)
                        _publish_cell(event.spec, plan, outcome, store, tracker)
                        return_freed_memory()  # of its figures
                        yield from added
                    if isinstance(event, Finished | Failed | Halted):
                        queue.release(event.spec.run_key)
                    yield event
                    _stop_if_full(event, len(outcome.records), len(plan.specs))
        except (KeyboardInterrupt, GeneratorExit, StorageFailed):
            for spec in plan.missing:
                if spec.run_key in waiting:
                    executor.stop(spec)
            _drain(executor, tracker)
            raise
    if tracker.missed:
        tracker.watch(WorkOver())
        _tell(plan, outcome.records, tracker)
    return outcome


def _grown(
    plan: Plan, outcome: PlanResult, queue: SharedQueue, waiting: set[str]
) -> tuple[Plan, list[Added]]:
    """The plan with the seeds that the records so far call for, which are queued."""
    made = plan.grown(outcome.records)
    if len(made.specs) == len(plan.specs):
        return made, []
    before, cells = {spec.run_key for spec in plan.specs}, cells_of(made.specs)
    more = [spec for spec in made.specs if spec.run_key not in before]
    queue.add(more)
    waiting |= {spec.run_key for spec in more}
    outcome.specs = made.specs
    earlier = {spec.run_key: cells[spec.cell][: cells[spec.cell].index(spec)] for spec in more}
    return made, [
        Added(spec, width_of([outcome.records[each.run_key] for each in earlier[spec.run_key]]))
        for spec in more
    ]


def _stop_if_full(event: Event, recorded: int, planned: int) -> None:
    """Raise StorageFailed if a result could not be written: the next ones would be lost as well."""
    if isinstance(event, Failed) and event.of_storage:
        raise StorageFailed(
            f"{event.reason}; stopped with {recorded} of {planned} runs recorded, and the same "
            "command resumes from here"
        )


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
    return [
        [records[spec.run_key] for spec in specs]
        for specs in cells_of(plan.specs).values()
        if all(spec.run_key in records for spec in specs)
    ]


def _drain(executor: Executor, tracker: Tracker) -> None:
    """Wait for stopping runs; publish those that finished meanwhile."""
    give_up = time.monotonic() + STOP_SECONDS
    while executor.running and time.monotonic() < give_up:
        for event in executor.events(timeout=0.5):
            if not isinstance(event, Started):
                _publish(event, tracker)
