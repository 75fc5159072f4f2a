"""execute(): one RunSpec -> one RunRecord on disk. Runs in a worker, knows no tracker.

Splits, build, fit, evaluate, record: the test images are looked at once, after training.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.data import LabelledImages, SearchSplits, Splits, load_search_splits, load_splits
from bench.environment import environment
from bench.errors import BadInput, CheckFailed
from bench.evaluate import Evaluation, evaluate
from bench.gallery import build_gallery
from bench.metrics.latent import active_fraction, active_units, dead_codes
from bench.models.base import Autoencoder, ClosedFormAutoencoder
from bench.models.zoo import build_model
from bench.protocol import WHOLE_LOSS, SplitConfig
from bench.records import Arrays, read_arrays, read_weights, sound_record, write_record
from bench.spec import SCHEMA_VERSION, EpochValues, RunRecord, RunSpec, TrialResult, TrialSpec
from bench.store import Store
from bench.train import EpochHook, FitConfig, FitData, FitResult, fit


def prepare_torch(threads: int) -> None:
    """Threads of this process; numbers too small for a float's full precision count as 0.

    The moments that Adam keeps of a dead unit decay into such numbers, and processors compute with
    them many times slower; beside Adam's eps of 1e-8 they move no weight.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


class StoppedEarly(Exception):
    """The training was asked to stop; its checkpoint is on disk and no record was written."""


@dataclass(frozen=True)
class _Scored:
    """A run's scores by part, and what else the evaluation showed."""

    validation: Evaluation | None
    test: Evaluation

    def means(self) -> dict[str, dict[str, float]]:
        """`means()[part][metric]`: averages over images in float64."""
        parts = {"val": self.validation, "test": self.test}
        return {part: _means(scored) for part, scored in parts.items() if scored is not None}

    @property
    def ranked(self) -> Evaluation:
        """The validation images' evaluation where there are any, else the test images'."""
        return self.validation or self.test


def _means(scored: Evaluation) -> dict[str, float]:
    means = {name: float(np.mean(v, dtype=np.float64)) for name, v in scored.scores.items()}
    return means if scored.whole_loss is None else means | {WHOLE_LOSS: scored.whole_loss}


@functools.lru_cache(maxsize=1)
def _splits(dataset: str, split: SplitConfig) -> Splits:
    """A worker trains many specs on one data set: read it once."""
    return load_splits(dataset, split)


def execute(spec: RunSpec, store: Store, on_epoch: EpochHook) -> RunRecord:
    """Train and score `spec`, write its record, return it.

    A record that is there already is returned as it is; one that was scored by other metrics is
    scored again from its weights and nothing is trained. Raises StoppedEarly when `on_epoch` asked
    to stop, CheckFailed when the data are not those that were planned, BadInput for a device that
    this machine lacks.
    """
    prepare_torch(spec.threads)
    splits = _splits(spec.dataset, spec.split)
    if splits.digest != spec.data_digest:
        raise CheckFailed(f"{spec.dataset} changed since the plan was made; plan the run again")
    device = checked_device(spec.device)
    model = build(spec, splits.image_shape).to(device)
    known = sound_record(store.records, spec.run_key)
    if known is not None and known.evaluation_digest == spec.evaluation_digest:
        return known
    if known is not None and known.status == "finished":
        return _rescored(known, spec, splits, store)
    return _trained(model, spec, splits, store, on_epoch)


@functools.lru_cache(maxsize=1)
def _search_splits(dataset: str, split: SplitConfig) -> SearchSplits:
    """What trials train on: there is no test part that they could look at."""
    return load_search_splits(dataset, split)


def execute_trial(spec: TrialSpec, store: Store, on_epoch: EpochHook) -> TrialResult:
    """Train a trial, score it on validation, record nothing; raises as `execute` does."""
    prepare_torch(spec.threads)
    splits = _search_splits(spec.dataset, spec.split)
    if splits.digest != spec.data_digest:
        raise CheckFailed(f"{spec.dataset} changed since the study was planned; start it again")
    model = build(spec, splits.image_shape).to(checked_device(spec.device))
    checkpoint = trial_checkpoint(store, spec)
    result = _fit(model, spec, splits, checkpoint, on_epoch)
    if result.status == "stopped":
        raise StoppedEarly(spec.title)
    checkpoint.unlink(missing_ok=True)
    return TrialResult(result.status, result.history, result.seconds)


def trial_checkpoint(store: Store, spec: TrialSpec) -> Path:
    """Where a trial that was stopped goes on."""
    return store.checkpoints / f"trial-{spec.run_key}.safetensors"


def build(spec: RunSpec, image_shape: tuple[int, int, int]) -> Autoencoder:
    """The untrained network of a spec, its weights drawn from the spec's seed."""
    torch.manual_seed(spec.seed)
    model = build_model(spec.model, image_shape, spec.latent_dim, spec.hyperparameters)
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


def _trained(
    model: Autoencoder, spec: RunSpec, splits: Splits, store: Store, on_epoch: EpochHook
) -> RunRecord:
    started = int(time.time() * 1000)
    checkpoint = store.checkpoints / f"{spec.run_key}.safetensors"
    result = _fit(model, spec, splits, checkpoint, on_epoch)
    if result.status == "stopped":
        raise StoppedEarly(spec.title)
    arrays: dict[str, np.typing.NDArray[np.generic]] = {}
    facts = _facts(model, splits, result)
    scores: dict[str, dict[str, float]] = {}
    if result.status == "finished":
        scored = _score(model, spec, splits)
        scores = scored.means()
        facts |= _signs(model, scored)
        arrays = {**_score_arrays(scored), **_progress(result, splits)}
        arrays |= build_gallery(model, splits, scored.ranked, spec.selection_metric)
    record = RunRecord(
        schema_version=SCHEMA_VERSION,
        run_key=spec.run_key,
        evaluation_digest=spec.evaluation_digest,
        spec=spec,
        status=result.status,
        started_unix_ms=started,
        finished_unix_ms=int(time.time() * 1000),
        history=result.history,
        scores=scores,
        facts=facts,
        image_shape=splits.image_shape,
        class_names=splits.class_names,
        data_source=splits.source,
        split_digest=splits.split_digest,
        weights_sha256="",
        arrays_sha256="",
        environment=environment(spec),
        message="" if result.status == "finished" else f"diverged in epoch {len(result.history)}",
    )
    written = write_record(store.records, record, _weights(model), arrays)
    checkpoint.unlink(missing_ok=True)
    return written


def _fit(
    model: Autoencoder, spec: RunSpec, splits: SearchSplits, checkpoint: Path, on_epoch: EpochHook
) -> FitResult:
    """Solve or train the model on the training images."""
    device = checked_device(spec.device)
    train = _tensor(splits.train, device)
    if isinstance(model, ClosedFormAutoencoder):
        begun = time.perf_counter()
        model.fit(train)
        return FitResult("finished", (), 0, time.perf_counter() - begun, len(train), {})
    data = FitData(train, _tensor(splits.validation, device))
    config = FitConfig(
        spec.train, spec.evaluation, spec.selection_metric, spec.seed, checkpoint=checkpoint
    )
    return fit(model, data, config, on_epoch)


def _tensor(images: LabelledImages, device: torch.device) -> Tensor:
    return torch.from_numpy(images.images).to(device)


def _score(model: Autoencoder, spec: RunSpec, splits: Splits) -> _Scored:
    """The one look at the test images of a run, and the final one at validation."""
    device = checked_device(spec.device)
    validation = _tensor(splits.validation, device)
    return _Scored(
        evaluate(model, validation, spec.evaluation) if len(validation) else None,
        evaluate(model, _tensor(splits.test, device), spec.evaluation),
    )


def _score_arrays(scored: _Scored) -> dict[str, np.typing.NDArray[np.generic]]:
    parts = {"validation": scored.validation, "test": scored.test}
    return {
        f"{part}/{metric}": values
        for part, evaluation in parts.items()
        if evaluation is not None
        for metric, values in evaluation.scores.items()
    }


def _progress(result: FitResult, splits: Splits) -> dict[str, np.typing.NDArray[np.generic]]:
    """The same validation images as they were reconstructed while training went on."""
    if not result.snapshots:
        return {}
    return {
        "progress/x": splits.validation.images[:8].astype(np.float32) / np.float32(255),
        "progress/x_hat": np.stack([x.numpy() for x in result.snapshots.values()]),
        "progress/epoch": np.array(list(result.snapshots), dtype=np.int64),
    }


def _facts(model: Autoencoder, splits: Splits, result: FitResult) -> dict[str, float]:
    """Size, cost and course of a run."""
    return {
        "parameters": float(model.learned_numbers),
        "multiply_adds": multiply_adds(model),
        "code_size": float(model.code_size),
        **_compression(model),
        "train_seconds": result.seconds,
        "images_per_second": result.images / result.seconds,
        "train_images": float(len(splits.train.images)),
        "best_epoch": float(result.best_epoch),
        "epochs_run": float(len(result.history)),
    }


def _compression(model: Autoencoder) -> dict[str, float]:
    """Numbers in an image by numbers in its code; for a discrete code bits by bits.

    A code of none compresses without end and has no ratio.
    """
    if model.code_bits:
        ratio = 8 * model.pixels / model.code_bits
        return {"code_bits": float(model.code_bits), "compression_ratio": ratio}
    return {"compression_ratio": model.pixels / model.code_size} if model.code_size else {}


def _signs(model: Autoencoder, scored: _Scored) -> dict[str, float]:
    """What tells a sick model: codes that do not move, outputs that do not differ."""
    signs = {"output_std": scored.ranked.output_std}
    codes = torch.from_numpy(scored.ranked.codes)
    if codes.shape[1]:
        signs["active_units"] = float(active_units(codes))
    if model.levels is not None:
        signs["dead_codes"] = float(dead_codes(codes, model.levels))
    elif codes.shape[1]:
        signs["active_fraction"] = active_fraction(codes)
    return signs


def multiply_adds(model: Autoencoder) -> float:
    """Multiply-adds of encoding and decoding one image: half of torch's count of operations."""
    weights = next(iter(model.state_dict().values()))
    x = torch.zeros(1, *model.image_shape, device=weights.device)
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.decode(model.encode(x))
    return float(counter.get_total_flops()) / 2


def _weights(model: Autoencoder) -> Arrays:
    return {
        key: value.detach().contiguous().cpu().numpy() for key, value in model.state_dict().items()
    }


def load_weights(model: Autoencoder, weights: Arrays) -> None:
    """Put recorded weights into a network that was built from the same spec."""
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})


def rescore(spec: RunSpec, weights: Arrays) -> dict[str, dict[str, float]]:
    """Recompute a row from its weights: `scores[part][metric]` for parts "val" and "test"."""
    return _evaluated(spec, weights)[1].means()


def _evaluated(spec: RunSpec, weights: Arrays) -> tuple[Autoencoder, _Scored]:
    prepare_torch(spec.threads)
    splits = _splits(spec.dataset, spec.split)
    if splits.digest != spec.data_digest:
        raise CheckFailed(f"{spec.dataset} is not the data that {spec.title} was trained on")
    model = build(spec, splits.image_shape)
    load_weights(model, weights)
    model.to(checked_device(spec.device))
    return model, _score(model, spec, splits)


def _rescored(known: RunRecord, spec: RunSpec, splits: Splits, store: Store) -> RunRecord:
    """The known record with the scores of another evaluation, from its weights."""
    weights = read_weights(store.records, known)
    model, scored = _evaluated(spec, weights)
    old = read_arrays(store.records, known)
    kept = {
        key: value for key, value in old.items() if not key.startswith(("validation/", "test/"))
    }
    arrays = {**kept, **_score_arrays(scored)}
    arrays |= build_gallery(model, splits, scored.ranked, spec.selection_metric)
    record = dataclasses.replace(
        known,
        spec=spec,
        evaluation_digest=spec.evaluation_digest,
        scores=scored.means(),
        facts={**known.facts, **_signs(model, scored)},
    )
    return write_record(store.records, record, weights, arrays)


def ignore_epochs(values: EpochValues) -> bool:
    """An EpochHook for callers that only want the record."""
    return False
