"""execute(): one RunSpec -> one RunRecord on disk. Runs in a worker, without the tracker.

Split, build, fit, evaluate, record: the test images are used once, after training.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import SplitConfig
from bench.core.spec import (
    COPIED,
    TOGETHER,
    EpochValues,
    RunRecord,
    RunSpec,
    TrialResult,
    TrialSpec,
)
from bench.core.store import Store
from bench.data import DATASETS, SearchSplits, Splits, load_search_splits, load_splits
from bench.evaluation.scoring import Means, Scored, on_device, score
from bench.execution.decoding import decoder_of
from bench.execution.environment import environment
from bench.execution.operations import multiply_adds
from bench.execution.processor import prepare_torch
from bench.models.base import Autoencoder, ClosedFormAutoencoder, ImageModel
from bench.models.zoo import build_network, variant
from bench.records.files import (
    Arrays,
    enter,
    read_arrays,
    read_weights,
    sound_record,
    write_record,
    write_scores,
)
from bench.training.train import EpochHook, FitConfig, FitData, FitResult, fit


class StoppedEarly(Exception):
    """The training was asked to stop; its checkpoint is on disk and there is no record."""


@functools.lru_cache(maxsize=1)
def _splits(dataset: str, split: SplitConfig) -> Splits:
    """Read a data set once: a worker trains many specs on it."""
    return load_splits(dataset, split)


def execute(spec: RunSpec, store: Store, on_epoch: EpochHook) -> RunRecord:
    """Train and score `spec`, write its record, return it.

    A training that is recorded is not repeated: it is put on the board of the spec and, if it was
    scored by other metrics only, scored from its weights. Raises StoppedEarly if `on_epoch` asked
    to stop, CheckFailed if the data differ from the planned ones, BadInput for a device that this
    machine lacks.
    """
    splits = planned_splits(spec)
    model = build(spec, splits).to(checked_device(spec.device))
    known = sound_record(store.records, spec)
    if known is not None and known.evaluation_digest == spec.evaluation_digest:
        enter(store.records, known)
        return known
    if known is not None:
        return _rescored(known, spec, store)
    started = int(time.time() * 1000)
    result = _fit(model, spec, splits, store.checkpoints / spec.checkpoint_name, on_epoch)
    return record_training(model, spec, splits, store, Fitted(result, started))


def planned_splits(spec: RunSpec) -> Splits:
    """The images of a spec. Raises CheckFailed if they differ from the planned ones."""
    prepare_torch(spec.threads)
    splits = _splits(spec.dataset, spec.split)
    if splits.digest != spec.data_digest:
        raise CheckFailed(f"{spec.dataset} changed since the plan was made; plan the run again")
    return splits


@functools.lru_cache(maxsize=1)
def _search_splits(dataset: str, split: SplitConfig) -> SearchSplits:
    """What trials train on: there is no test part."""
    return load_search_splits(dataset, split)


def execute_trial(spec: TrialSpec, store: Store, on_epoch: EpochHook) -> TrialResult:
    """Train a trial and score it on validation; records nothing. Raises as `execute` does."""
    prepare_torch(spec.threads)
    splits = _search_splits(spec.dataset, spec.split)
    if splits.digest != spec.data_digest:
        raise CheckFailed(f"{spec.dataset} changed since the study was planned; start it again")
    model = build(spec, splits).to(checked_device(spec.device))
    checkpoint = store.checkpoints / spec.checkpoint_name
    result = _fit(model, spec, splits, checkpoint, on_epoch)
    if result.status == "stopped":
        raise StoppedEarly(spec.title)
    checkpoint.unlink(missing_ok=True)
    return TrialResult(result.status, result.history, result.seconds)


def build(spec: RunSpec, splits: SearchSplits) -> ImageModel:
    """The untrained network of a spec, initialised from the spec's seed."""
    return build_for(spec, splits.image_shape, len(splits.class_names))


def build_for(spec: RunSpec, image_shape: tuple[int, int, int], classes: int) -> ImageModel:
    """As `build`, from the shape of the images (C, H, W) and the number of classes alone.

    Raises BadInput if the code of an own model is not that of the spec.
    """
    torch.manual_seed(spec.seed)
    if variant(spec.model).source != spec.source:
        raise BadInput(
            f"{spec.title} was trained with other code (digest {spec.source}) than model "
            f"{spec.model} has now; give the file as it was, or train it again"
        )
    model = build_network(spec.model, image_shape, spec.latent_dim, spec.hyperparameters, classes)
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    return model.to(memory_format=layout)


def checked_device(name: str) -> torch.device:
    """The torch device of a resolved name (`cpu`, `cuda`, `cuda:1`, `mps`)."""
    available: dict[str, Callable[[], bool]] = {
        "cpu": lambda: True,
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    kind = name.partition(":")[0]
    if kind not in available or not available[kind]():
        raise BadInput(f"device {name} is not on this machine; use --device cpu or auto")
    return torch.device(name)


@dataclass(frozen=True)
class Fitted:
    """A training that ended, when it began, and how many seeds were trained together."""

    result: FitResult
    started_unix_ms: int
    together: int = 1


def record_training(
    model: ImageModel, spec: RunSpec, splits: Splits, store: Store, fitted: Fitted
) -> RunRecord:
    """Score a trained model and write its record. Raises StoppedEarly if it is to be resumed."""
    result = fitted.result
    if result.status == "stopped":
        raise StoppedEarly(spec.title)
    arrays: dict[str, np.typing.NDArray[np.generic]] = {}
    weights = _weights(model)
    scores: dict[str, dict[str, float]] = {}
    signs: dict[str, float] = {}
    if result.status == "finished":
        scored = score_apart(model, spec, splits, weights, store)
        scores, signs = checked_means(scored), scored.signs()
        arrays = {**scored.arrays(), **_progress(result, splits)}
    record = RunRecord(
        run_key=spec.run_key,
        evaluation_digest=spec.evaluation_digest,
        spec=spec,
        status=result.status,
        started_unix_ms=fitted.started_unix_ms,
        finished_unix_ms=int(time.time() * 1000),
        history=result.history,
        scores=scores,
        facts=_facts(model, splits, fitted) | signs,
        image_shape=splits.image_shape,
        class_names=splits.class_names,
        data_source=splits.source,
        split_digest=splits.split_digest,
        weights_sha256="",
        arrays_sha256="",
        environment=environment(spec),
        message="" if result.status == "finished" else f"diverged in epoch {len(result.history)}",
    )
    # Closed forms have no epochs; classifiers take images in [0, 1].
    record = dataclasses.replace(
        record,
        closed_form=isinstance(model, ClosedFormAutoencoder),
        value_range=getattr(model, "value_range", record.value_range),
    )
    written = write_record(store.records, record, weights, arrays)
    (store.checkpoints / spec.checkpoint_name).unlink(missing_ok=True)
    return written


def _fit(
    model: ImageModel, spec: RunSpec, splits: SearchSplits, checkpoint: Path, on_epoch: EpochHook
) -> FitResult:
    """Solve or train the model on the training images."""
    device = checked_device(spec.device)
    train = on_device(splits.train, device)
    if isinstance(model, ClosedFormAutoencoder):
        begun = time.perf_counter()
        model.fit(train.images)
        return FitResult("finished", (), 0, time.perf_counter() - begun, len(train), {})
    data = FitData(train, on_device(splits.validation, device))
    return fit(model, data, fit_config(spec, checkpoint), on_epoch)


def fit_config(spec: RunSpec, checkpoint: Path) -> FitConfig:
    """What `fit` needs of a spec besides its model and images."""
    return FitConfig(
        spec.train, spec.evaluation, spec.selection_metric, spec.seed, checkpoint=checkpoint
    )


def _progress(result: FitResult, splits: Splits) -> dict[str, np.typing.NDArray[np.generic]]:
    """Reconstructions of the same validation images during training."""
    if not result.snapshots:
        return {}
    return {
        "progress/x": splits.validation.images[:8].astype(np.float32) / np.float32(255),
        "progress/x_hat": np.stack([x.numpy() for x in result.snapshots.values()]),
        "progress/epoch": np.array(list(result.snapshots), dtype=np.int64),
    }


def _facts(model: ImageModel, splits: Splits, fitted: Fitted) -> dict[str, float]:
    """Size, cost and other facts of a run."""
    result = fitted.result
    return {
        "parameters": float(model.learned_numbers),
        "multiply_adds": multiply_adds(model),
        **model.sizes,
        "train_seconds": result.seconds,
        "images_per_second": result.images / result.seconds,
        "train_images": float(len(splits.train.images)),
        "best_epoch": float(result.best_epoch),
        "epochs_run": float(len(result.history)),
        **({TOGETHER: float(fitted.together)} if fitted.together > 1 else {}),
        **copies(splits),
    }


def copies(splits: Splits) -> dict[str, float]:
    """How many own images are in two parts, if any; known sets are as their makers drew them."""
    known = splits.name in DATASETS
    return {} if known or not splits.copies else {COPIED: float(splits.copies)}


def _weights(model: ImageModel) -> Arrays:
    """A copy: what a model changes in itself while it is scored is not recorded."""
    return {
        key: value.detach().cpu().contiguous().numpy().copy()
        for key, value in model.state_dict().items()
    }


def score_apart(
    model: ImageModel, spec: RunSpec, splits: Splits, weights: Arrays, store: Store | None
) -> Scored:
    """Score a model as `scoring.score` does; the codes of an autoencoder are decoded in a process
    apart. `weights`: those of the model, as they are recorded."""
    if not isinstance(model, Autoencoder):
        return score(model, spec, splits, store)
    return score(model, spec, splits, store, decoder_of(model, spec, weights))


def checked_means(scored: Scored) -> Means:
    """The means of a model; CheckFailed if one is not finite, which no record can hold."""
    means = scored.means()
    for part, found in means.items():
        for metric, value in found.items():
            if not math.isfinite(value):
                raise CheckFailed(f"its {metric} on {part} is {value}, which is no score")
    return means


def load_weights(model: ImageModel, weights: Arrays) -> None:
    """Load recorded weights into a network built from the same spec; CheckFailed if they are those
    of another network."""
    try:
        model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckFailed(f"its weights are not those of its network: {reason}") from None


def size_of_weights(spec: RunSpec, image_shape: tuple[int, int, int], classes: int) -> int:
    """The bytes of the weights of a network, without the header of their file."""
    with torch.device("meta"):
        model = build_for(spec, image_shape, classes)
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def _evaluated(spec: RunSpec, weights: Arrays, store: Store | None) -> Scored:
    model, splits = restored(spec, weights)
    return score_apart(model, spec, splits, weights, store)


def restored(spec: RunSpec, weights: Arrays) -> tuple[ImageModel, Splits]:
    """The network of a spec with recorded weights, and its images. Raises as `recompute`."""
    prepare_torch(spec.threads)
    splits = _splits(spec.dataset, spec.split)
    if splits.digest != spec.data_digest:
        raise CheckFailed(
            f"{spec.dataset} does not hold the images that {spec.title} was trained on: some were "
            "added, removed or changed since; put them back, or say where they are with --dataset"
        )
    model = build(spec, splits)
    load_weights(model, weights)
    return model.to(checked_device(spec.device)), splits


def _rescored(known: RunRecord, spec: RunSpec, store: Store) -> RunRecord:
    """A record with the scores of another evaluation, computed from its weights."""
    if known.status != "finished":
        diverged = dataclasses.replace(known, spec=spec, evaluation_digest=spec.evaluation_digest)
        return write_scores(store.records, diverged, {})
    weights = read_weights(store.records, known)
    scored = _evaluated(spec, weights, store)
    old = read_arrays(store.records, known)
    kept = {
        key: value for key, value in old.items() if not key.startswith(("validation/", "test/"))
    }
    record = dataclasses.replace(
        known,
        spec=spec,
        evaluation_digest=spec.evaluation_digest,
        scores=checked_means(scored),
        facts={**known.facts, **scored.signs()},
    )
    return write_scores(store.records, record, {**kept, **scored.arrays()})


def ignore_epochs(values: EpochValues) -> bool:
    """An EpochHook for callers that need only the record."""
    return False
