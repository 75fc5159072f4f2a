"""plan() every RunSpec of a protocol; run what is missing; draw and publish what comes back.

A plan is complete before anything starts: which runs there are, which have a record on disk, what
the rest will cost. Only the head process comes here; it alone speaks to the tracker.
"""

import dataclasses
import os
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.checks import check_images, check_names, check_tasks, said_of
from bench.data import dataset_label, load_splits
from bench.errors import BadInput
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
from bench.figures import draw_figures
from bench.forecast import Counts, Forecast, forecast
from bench.metrics import METRICS
from bench.models.zoo import MODELS, checked_hyperparameters, variant
from bench.protocol import Protocol
from bench.records import read_arrays, sound_record
from bench.runner import checked_device
from bench.sharing import SharedQueue, one_at_a_time
from bench.spec import RunRecord, RunSpec
from bench.store import Store
from bench.tracking import Tracker


@dataclass(frozen=True)
class Request:
    """What a person asked for; empty fields mean what the protocol says."""

    protocol: Protocol
    models: tuple[str, ...] = ()
    latent_dims: tuple[int, ...] = ()
    native: bool = False
    seeds: tuple[int, ...] = ()
    dataset: str = ""
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class Plan:
    """Every run of a request: those with a record on disk and those that are missing."""

    protocol: Protocol
    dataset_label: str
    counts: Counts
    specs: tuple[RunSpec, ...]
    done: Mapping[str, RunRecord]

    @property
    def missing(self) -> list[RunSpec]:
        """The specs without a record of the same training and the same evaluation."""
        return [spec for spec in self.specs if spec.run_key not in self.done]

    def on_device(self, device: str) -> "Plan":
        """The same runs on a device of other machines; as they are for ""."""
        if not device:
            return self
        specs = tuple(dataclasses.replace(spec, device=device) for spec in self.specs)
        return dataclasses.replace(self, specs=specs)


def resolved_device(name: str) -> str:
    """`auto` becomes the best device of this machine; others are checked. BadInput otherwise."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    checked_device(name)
    return name


def default_workers(request: Request, device: str) -> int:
    """One worker a GPU, or as many as the cores that this process may use carry."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // request.threads)


def dataset_reference(name: str) -> str:
    """`csv:PATH` and its like with an absolute path: workers may have another folder."""
    kind, separator, path = name.partition(":")
    if separator and not path:
        raise BadInput(f"data set '{name}' has no path; expected one such as {kind}:images")
    return f"{kind}:{Path(path).expanduser().resolve()}" if separator else name


def plan(request: Request, store: Store) -> Plan:
    """Lay out every run; nothing is trained. Raises BadInput for anything that cannot be run."""
    protocol = request.protocol
    check_names(protocol)
    dataset = dataset_reference(request.dataset or protocol.dataset)
    models = request.models or protocol.models or _models_of_task(protocol)
    check_tasks(models, protocol)
    device = resolved_device(request.device)
    with said_of(protocol, "" if request.dataset else "dataset"):
        splits = load_splits(dataset, protocol.split)
        label = dataset_label(dataset)
    check_images(protocol, dataset, splits.image_shape, len(splits.class_names))

    def spec(model: str, latent_dim: int | None, seed: int) -> RunSpec:
        row = variant(model)
        given = protocol.hyperparameters.get(model, {})
        return RunSpec(
            protocol=protocol.name,
            protocol_fingerprint=protocol.fingerprint,
            task=protocol.task,
            dataset=dataset,
            dataset_label=label,
            data_digest=splits.digest,
            split=protocol.split,
            model=model,
            model_revision=row.revision,
            latent_dim=latent_dim,
            hyperparameters=checked_hyperparameters(model, given),
            train=protocol.train,
            evaluation=protocol.evaluation,
            metric_revisions={name: METRICS[name].revision for name in protocol.evaluation.metrics},
            selection_metric=protocol.selection_metric,
            seed=seed,
            device=device,
            threads=request.threads,
        )

    specs = tuple(
        spec(model, size, seed)
        for size in _sizes(request)
        for model in models
        for seed in _seeds(request, model)
    )
    counts = Counts(
        len(splits.train.images),
        len(splits.validation.images),
        len(splits.test.images),
        splits.image_shape,
        len(splits.class_names),
    )
    return Plan(protocol, label, counts, specs, recorded(specs, store))


def _models_of_task(protocol: Protocol) -> tuple[str, ...]:
    return tuple(name for name, row in MODELS.items() if row.task == protocol.task)


def _sizes(request: Request) -> list[int | None]:
    """The latent sizes asked for; none stands for the native code, or for no code at all."""
    if request.protocol.task == "classification":
        if request.latent_dims or request.native:
            raise BadInput(
                f"{request.protocol.source} is for classifiers, which have no code; "
                "leave --latent-dim and --native out"
            )
        return [None]
    if request.latent_dims or request.native:
        return [*request.latent_dims, *([None] if request.native else [])]
    protocol = request.protocol
    return [*protocol.latent_dims, *([None] if protocol.native else [])]


def _seeds(request: Request, model: str) -> Sequence[int]:
    """A closed form gives the same weights for every seed: one run stands for all."""
    seeds = request.seeds or request.protocol.seeds
    return seeds[:1] if variant(model).closed_form else seeds


def recorded(specs: Iterable[RunSpec], store: Store) -> dict[str, RunRecord]:
    """The records on disk that answer these specs, by run key."""
    found = ((spec, sound_record(store.records, spec.run_key)) for spec in specs)
    return {
        spec.run_key: record
        for spec, record in found
        if record is not None and record.evaluation_digest == spec.evaluation_digest
    }


def forecast_plan(plan: Plan, store: Store, workers: int) -> Forecast:
    """What the missing runs will cost on this machine (measured; see bench.forecast)."""
    return forecast(plan.missing, plan.counts, store, workers)


@dataclass
class Outcome:
    """What became of a plan while and after it ran."""

    records: dict[str, RunRecord] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    trained: int = 0


def run(
    plan: Plan, store: Store, executor: Executor | None, tracker: Tracker
) -> Generator[Event, None, Outcome]:
    """Run what is missing and yield each event after it was published; returns the Outcome.

    Records are on disk before the tracker hears of them. On KeyboardInterrupt, or when the caller
    closes the generator, the workers save and stop and their runs are closed in the tracker.
    `executor` may be None where nothing is missing. What another command on this store trains
    meanwhile is not trained again: its record is taken.
    """
    outcome = Outcome(records=dict(plan.done))
    _tell(plan, outcome.records, tracker)
    waiting = {spec.run_key for spec in plan.missing}
    if executor is None:
        return outcome
    with SharedQueue(plan.missing, store, executor) as queue:
        try:
            while waiting:
                for spec, record in queue.hand_out():
                    tracker.sync([record])
                    outcome.records[spec.run_key] = record
                    waiting.discard(spec.run_key)
                    _publish_cell(spec, plan, outcome, store, tracker)
                    yield Finished(spec, record)
                for event in executor.events(timeout=1.0):
                    _publish(event, store, tracker)
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
            _drain(executor, store, tracker)
            raise
    if tracker.missed:
        tracker.rouse()
        _tell(plan, outcome.records, tracker)
    return outcome


def _tell(plan: Plan, records: Mapping[str, RunRecord], tracker: Tracker) -> None:
    """Tell of the records, and of the cells that are complete, what MLflow does not know yet."""
    tracker.sync(records.values())
    for cell in _complete_cells(plan, records):
        tracker.cell_finished(cell)


def _publish(event: Event, store: Store, tracker: Tracker) -> None:
    """Tell the tracker; figures are drawn here, from the record."""
    match event:
        case Started(spec):
            tracker.run_started(spec)
        case EpochEnded(spec, values):
            tracker.epoch(spec, values)
        case Finished(_, record):
            publish_record(record, store, tracker)
        case Failed(spec, reason):
            tracker.run_failed(spec, reason)
        case Halted(spec) | Lost(spec):
            tracker.run_stopped(spec)


def publish_record(record: RunRecord, store: Store, tracker: Tracker) -> None:
    """Draw a record's figures and hand all of it to the tracker."""
    arrays = read_arrays(store.records, record)
    tracker.run_finished(record, arrays, draw_figures(record, arrays))


def _account(event: Event, outcome: Outcome, waiting: set[str]) -> None:
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
    spec: RunSpec, plan: Plan, outcome: Outcome, store: Store, tracker: Tracker
) -> None:
    """Log a cell's model once all of its seeds are there, whoever trained them."""
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


def _drain(executor: Executor, store: Store, tracker: Tracker) -> None:
    """Let stopping runs say their last word; what finished meanwhile is published."""
    give_up = time.monotonic() + STOP_SECONDS
    while executor.running and time.monotonic() < give_up:
        for event in executor.events(timeout=0.5):
            if not isinstance(event, Started):
                _publish(event, store, tracker)
