"""plan(): every RunSpec of a protocol, complete before anything starts.

A plan says which runs there are, which have a record on disk and what the others will cost.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.benchmark.checks import check_images, check_names, check_tasks, said_of
from bench.benchmark.forecast import Forecast, SplitSizes, forecast
from bench.core.errors import BadInput
from bench.core.protocol import Protocol
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.data import dataset_label, load_splits
from bench.execution.runner import checked_device
from bench.metrics import METRICS
from bench.models.zoo import MODELS, checked_hyperparameters, variant
from bench.records.files import sound_record


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
    counts: SplitSizes
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
            ranked=protocol.ranked,
        )

    specs = tuple(
        spec(model, size, seed)
        for size in _sizes(request)
        for model in models
        for seed in _seeds(request, model)
    )
    counts = SplitSizes(
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
    """What the missing runs will cost on this machine (measured; see bench.benchmark.forecast)."""
    return forecast(plan.missing, plan.counts, store, workers)
