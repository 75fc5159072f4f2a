"""fit(): the one training loop, for every variant; `stack` takes its steps for several seeds.

Images stay in memory as one uint8 tensor on the device and are gathered, with their classes, by a
permutation; nothing is read back from the device within an epoch. The loop does not know MLflow
or Optuna: it passes each epoch's values to `on_epoch`, which may stop it. The clock runs during
training steps only.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import EvaluationConfig, TrainConfig
from bench.core.spec import EpochValues, Status
from bench.evaluation.evaluate import Labelled, mean_scores
from bench.metrics import METRICS
from bench.models.base import ImageModel
from bench.training.adam import BETAS, FusedAdam
from bench.training.checkpoint import (
    Checkpoint,
    global_random,
    load_checkpoint,
    save_checkpoint,
    set_global_random,
)
from bench.training.gradients import gradients_of

CHECKPOINT_SECONDS = 20.0
SNAPSHOTS = 8
"""How many progress pictures are taken during a training."""

EpochHook = Callable[[EpochValues], bool]
"""Called after each epoch; returns True to stop."""


@dataclass(frozen=True)
class FitData:
    """Training and validation images with their classes, on the device of the model."""

    train: Labelled
    validation: Labelled


@dataclass(frozen=True)
class FitConfig:
    """What `fit` needs besides the model and the images."""

    train: TrainConfig
    evaluation: EvaluationConfig
    selection_metric: str
    seed: int
    checkpoint: Path | None = None
    """The checkpoint file; None for trainings too short to need one."""


@dataclass
class FitState:
    """The state of a training after an epoch, besides model and optimiser."""

    epoch: int = 0
    seconds: float = 0.0
    images: int = 0
    best_epoch: int = 0
    best_score: float = math.nan
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[EpochValues] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class FitResult:
    """The result; the trained model is the one passed in, with the weights the recipe keeps.

    `seconds` of training steps, `images` passed through them; `snapshots`: reconstructions of the
    first 8 validation images by epoch (classifiers have none). `status` is "stopped" if
    `on_epoch` asked for it.
    """

    status: Status
    history: tuple[EpochValues, ...]
    best_epoch: int
    seconds: float
    images: int
    snapshots: dict[int, Tensor]


def fit(model: ImageModel, data: FitData, config: FitConfig, on_epoch: EpochHook) -> FitResult:
    """Train `model` in place by the recipe; deterministic in `config.seed` on one thread.

    A training whose loss or validation score is no longer finite ends as "diverged". A stopped
    training leaves a checkpoint and resumes from it, with the same result as without the stop.
    Raises BadInput if a network with batch normalisation would see batches of one image.
    """
    training = Training(model, data, config, on_epoch)
    while not training.is_over:
        training.end_epoch(_train_epoch(training))
    return training.result()


class Training:
    """One training between its epochs: what follows an epoch's steps, whoever takes the steps.

    Its making seeds torch's global generators and resumes from the checkpoint, whose epochs it
    tells. `optimizer` and `random` are the state that a checkpoint stores with the model's.
    """

    def __init__(
        self, model: ImageModel, data: FitData, config: FitConfig, on_epoch: EpochHook
    ) -> None:
        recipe = config.train.for_images(len(data.train))
        _refuse_lone_images(model, min(recipe.batch_size, len(data.train)))
        self.model, self.data = model, data
        self.config = dataclasses.replace(config, train=recipe)
        self.random: Callable[[], Mapping[str, Tensor]] = global_random
        self._on_epoch = on_epoch
        self._status: Status = "finished"
        self._saved_at = time.monotonic()
        torch.manual_seed(config.seed)
        self.optimizer = make_optimizer(model, recipe)
        self.state = _resume(model, self.optimizer, config) or FitState()
        for earlier in self.state.history:
            on_epoch(earlier)

    @property
    def is_over(self) -> bool:
        """Whether no epoch follows."""
        recipe, state = self.config.train, self.state
        ended = self._status != "finished" or state.epoch >= recipe.epochs
        return ended or _out_of_patience(state, recipe)

    def end_epoch(self, trained: dict[str, float]) -> None:
        """Validate, keep the best weights and tell the epoch, of which `trained` are the values."""
        state, recipe, data = self.state, self.config.train, self.data
        with _unchanged(self.model):
            values = trained | _validate(self.model, data.validation, self.config)
        state.epoch += 1
        finite = {key: value for key, value in values.items() if math.isfinite(value)}
        step = state.epoch * recipe.steps_per_epoch(len(data.train))
        now = EpochValues(state.epoch, step, int(time.time() * 1000), finite)
        state.history.append(now)
        if len(finite) < len(values):
            self._status = "diverged"
            return
        _keep_best(self.model, state, values, self.config)
        with _unchanged(self.model):
            _take_snapshot(self.model, data.validation.images, state, recipe.epochs)
        stop = self._on_epoch(now)
        late = time.monotonic() - self._saved_at > CHECKPOINT_SECONDS
        if self.config.checkpoint and (stop or late):
            _save(self, self.config.checkpoint)
            self._saved_at = time.monotonic()
        if stop:
            self._status = "stopped"

    def result(self) -> FitResult:
        """The result of a training that is over; the model gets the weights the recipe keeps."""
        state, keeps_best = self.state, self.config.train.keep == "best"
        if keeps_best and state.best_weights and self._status != "stopped":
            self.model.load_state_dict(state.best_weights)
        kept = state.best_epoch if keeps_best else state.epoch
        return FitResult(
            self._status,
            tuple(state.history),
            kept,
            state.seconds,
            state.images,
            state.snapshots,
        )


def make_optimizer(model: nn.Module, recipe: TrainConfig) -> FusedAdam:
    """The optimiser of a recipe over every parameter."""
    return FusedAdam(
        model.parameters(),
        weight_decay=recipe.weight_decay,
        decoupled=recipe.optimizer == "adamw",
    )


def adam_epsilon(recipe: TrainConfig, step: int) -> float:
    """The epsilon for Adam's update of a step (from 0).

    In the efficient form epsilon is added before the bias correction. This equals adding
    epsilon / sqrt(1 - beta2^t) after it: 30 times as much in the first step, a warm-up where
    gradients are as small as epsilon. It decides how many ReLU units of a code die early.
    """
    if not recipe.adam_eps_hat:
        return recipe.adam_eps
    return recipe.adam_eps / math.sqrt(1 - BETAS[1] ** (step + 1))


def learning_rate(recipe: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step (from 0) under the schedules described in `TrainConfig`.

    `one_cycle` rises by a cosine from lr/25 to lr and falls by a cosine to lr/250,000, the
    defaults of the paper's common implementations, and leaves Adam's betas unchanged.
    """
    total = recipe.epochs * steps_per_epoch
    warm = recipe.warm_up * total
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "step":
        return recipe.lr * recipe.step_gamma ** (step // (recipe.step_epochs * steps_per_epoch))
    fall = (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1))) / 2
    if recipe.schedule == "cosine":
        return recipe.lr * ((step + 1) / (warm + 1) if step < warm else fall)
    lowest, highest, last = recipe.lr / 25, recipe.lr, recipe.lr / 250_000
    if step < warm:
        return lowest + (highest - lowest) * (1 - math.cos(math.pi * step / warm)) / 2
    return last + (highest - last) * fall


def _refuse_lone_images(model: ImageModel, batch: int) -> None:
    if batch == 1 and any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()
    ):
        raise BadInput(
            "train.batch_size: this network normalises over the images of a batch and cannot learn "
            "from batches of one; expected at least 2 images"
        )


def epoch_order(count: int, recipe: TrainConfig, seed: int, epoch: int) -> Tensor:
    """The images of an epoch in their order (int64), without those of a last batch left out.

    It depends on seed and epoch only, and is drawn on the CPU: the same on every device.
    """
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    usable = count - count % recipe.batch_size + recipe.last_batch(count)
    return torch.randperm(count, generator=generator)[:usable]


def batches(
    data: Labelled, recipe: TrainConfig, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """An epoch's batches: images in [0, 1] and classes, in the order of `epoch_order`."""
    order = epoch_order(len(data), recipe, seed, epoch).to(data.images.device)
    for chosen in order.split(recipe.batch_size):
        yield gathered(data.images, chosen), data.labels[chosen]


def gathered(images: Tensor, chosen: Tensor) -> Tensor:
    """The chosen images of (N, C, H, W), uint8, in [0, 1]."""
    return images.index_select(0, chosen).to(torch.float32).div_(255.0)


def _train_epoch(training: Training) -> dict[str, float]:
    """One pass over the training images; mean loss terms over images, and the last rate."""
    model, state, config = training.model, training.state, training.config
    recipe, data, compute = config.train, training.data.train, gradients_of(model)
    steps_per_epoch = recipe.steps_per_epoch(len(data))
    step, seen = state.epoch * steps_per_epoch, 0
    sums: dict[str, Tensor] = {}
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    model.train()
    started = time.perf_counter()
    for images, labels in batches(data, recipe, config.seed, state.epoch):
        terms = compute(images.contiguous(memory_format=layout), labels)
        rate, epsilon = learning_rate(recipe, step, steps_per_epoch), adam_epsilon(recipe, step)
        training.optimizer.step(rate, epsilon)
        for name, term in terms.items():
            sums.setdefault(name, torch.zeros_like(term)).add_(term, alpha=len(images))
        seen, step = seen + len(images), step + 1
    values = {f"train/{name}": (total / seen).item() for name, total in sums.items()}
    state.seconds += time.perf_counter() - started  # reading the sums has waited for the device
    state.images += seen
    return values | {"train/lr": learning_rate(recipe, step - 1, steps_per_epoch)}


def _validate(model: ImageModel, data: Labelled, config: FitConfig) -> dict[str, float]:
    """The selection metric and the task's watched metrics on the validation images."""
    if not len(data):
        return {}
    metrics = tuple(dict.fromkeys((config.selection_metric, *model.watched)))
    scores = mean_scores(model, data, metrics, config.evaluation)
    return {f"val/{name}": value for name, value in scores.items()}


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Also where a training diverged: NaN equals NaN."""
    return torch.equal(one, other) or (
        one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    )


@contextlib.contextmanager
def _unchanged(model: ImageModel) -> Iterator[None]:
    """CheckFailed if the model changes its weights while it is scored: with validation images in
    its buffers, it would be chosen and ranked for knowing them."""
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    yield
    for name, value in model.state_dict().items():
        if name not in before or not _is_same(before[name], value):
            raise CheckFailed(
                f"it changes its weights ({name}) where it is scored on validation images: change "
                "them in training alone (self.training)"
            )


def _keep_best(
    model: ImageModel, state: FitState, values: dict[str, float], config: FitConfig
) -> None:
    """Copy the weights if the validation score is the best so far."""
    score = values.get(f"val/{config.selection_metric}")
    if score is None:
        return
    higher = METRICS[config.selection_metric].higher_is_better
    better = score > state.best_score if higher else score < state.best_score
    if better or math.isnan(state.best_score):
        state.best_epoch, state.best_score = state.epoch, score
        state.best_weights = {k: v.detach().clone() for k, v in model.state_dict().items()}


def _out_of_patience(state: FitState, recipe: TrainConfig) -> bool:
    return recipe.patience is not None and state.epoch - state.best_epoch >= recipe.patience


def _take_snapshot(model: ImageModel, validation: Tensor, state: FitState, epochs: int) -> None:
    """Snapshot 8 validation images at epochs spread evenly on a log scale."""
    chosen = {round(epochs ** (k / (SNAPSHOTS - 1))) for k in range(SNAPSHOTS)} | {epochs}
    if not len(validation) or state.epoch not in chosen:
        return
    taken = model.snapshot(validation[:8].to(torch.float32) / 255.0)
    if taken is not None:
        state.snapshots[state.epoch] = taken.contiguous().cpu()


def _save(training: Training, path: Path) -> None:
    state = training.state
    scalars = {
        name: getattr(state, name)
        for name in ("epoch", "seconds", "images", "best_epoch", "best_score")
    }
    save_checkpoint(
        path,
        Checkpoint(
            weights=training.model.state_dict(),
            best_weights=state.best_weights,
            optimizer=training.optimizer.state_dict(),
            snapshots=state.snapshots,
            history=tuple(state.history),
            scalars=scalars,
            random=training.random(),
        ),
    )


def _resume(model: ImageModel, optimizer: FusedAdam, config: FitConfig) -> FitState | None:
    """Restore model, optimiser and random state from the checkpoint, if there is one."""
    if config.checkpoint is None:
        return None
    found = load_checkpoint(config.checkpoint)
    if found is None:
        return None
    model.load_state_dict(found.weights)
    optimizer.load_state_dict(found.optimizer)
    set_global_random(found.random)
    scalars = found.scalars
    return FitState(
        epoch=int(scalars["epoch"]),
        seconds=scalars["seconds"],
        images=int(scalars["images"]),
        best_epoch=int(scalars["best_epoch"]),
        best_score=scalars["best_score"],
        best_weights=found.best_weights,
        history=list(found.history),
        snapshots=found.snapshots,
    )
