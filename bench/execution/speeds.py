"""Speeds of one variant on this machine, measured over a few steps. Runs in a worker."""

import math
import time
from collections.abc import Callable, Sequence

import torch

from bench.core.spec import RunSpec, SplitSizes
from bench.execution.processor import prepare_torch
from bench.execution.runner import build_for, checked_device
from bench.execution.stopwatch import MEASURED, Speeds
from bench.models.base import ClosedFormAutoencoder, ImageModel
from bench.models.stacking import stacked
from bench.training.gradients import gradients_of
from bench.training.train import make_optimizer

_SECONDS = 0.4
_ROUNDS = 3


def measure(spec: RunSpec, sizes: SplitSizes) -> Speeds:
    """Seconds per trained and per scored image; for a closed form (seconds of its fit, 0)."""
    prepare_torch(spec.threads)
    device = checked_device(spec.device)
    model = build_for(spec, sizes.image_shape, sizes.classes).to(device)
    if isinstance(model, ClosedFormAutoencoder):
        return _time_fit(model, sizes), 0.0
    batch = torch.rand(spec.train.batch_size, *sizes.image_shape, device=device)
    if model.channels_last:
        batch = batch.contiguous(memory_format=torch.channels_last)
    return step_seconds(model, batch, spec), _time_scoring(model, batch)


def measure_together(spec: RunSpec, sizes: SplitSizes, seeds: int = MEASURED) -> Speeds:
    """Processor seconds per trained image, alone and as one of `seeds` that train as one network.

    Both are measured in alternation, the best of three rounds each. Time that other processes take
    does not count, so that the ratio holds on a busy machine. For variants that stack only, on the
    CPU.
    """
    prepare_torch(spec.threads)
    members = [build_for(spec, sizes.image_shape, sizes.classes) for _ in range(seeds)]
    stack = stacked(members, [torch.Generator() for _ in members])
    batch = torch.rand(seeds, spec.train.batch_size, *sizes.image_shape)
    alone, together, each = [], [], _SECONDS / _ROUNDS
    for _ in range(_ROUNDS):
        alone.append(step_seconds(members[0], batch[0], spec, each, time.process_time))
        together.append(step_seconds(stack, batch, spec, each, time.process_time, members))
    return min(alone), min(together)


def _time_fit(model: ClosedFormAutoencoder, sizes: SplitSizes) -> float:
    """Seconds to solve for as many random images as the split has (at most 20,000)."""
    count = min(sizes.train, 20_000)
    images = torch.randint(0, 256, (count, *sizes.image_shape), dtype=torch.uint8)
    begun = time.perf_counter()
    model.fit(images)
    return (time.perf_counter() - begun) * sizes.train / count


def step_seconds(
    model: ImageModel,
    batch: torch.Tensor,
    spec: RunSpec,
    seconds: float = _SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    members: Sequence[ImageModel] = (),
) -> float:
    """Seconds per image of bare training steps on one resident batch: a bound for any loop.

    A stack of `members` takes a batch for each, (S, N, C, H, W).
    """
    optimizers = [make_optimizer(each, spec.train) for each in members or [model]]
    labels = torch.zeros(len(batch), dtype=torch.int64, device=batch.device)
    model.train()
    compute = gradients_of(model, members)

    def step() -> None:
        compute(batch, labels)
        for optimizer in optimizers:
            optimizer.step(spec.train.lr, spec.train.adam_eps)

    for _ in range(3):
        step()
    _wait(batch.device)
    begun, steps = clock(), 0
    while clock() - begun < seconds:
        step()
        steps += 1
    _wait(batch.device)
    return (clock() - begun) / (steps * math.prod(batch.shape[:-3]))


def _time_scoring(model: ImageModel, batch: torch.Tensor) -> float:
    """Seconds per image of the model's answer, the larger part of scoring."""
    labels = torch.zeros(len(batch), dtype=torch.int64, device=batch.device)
    model.eval()
    model.answers(batch, labels)
    begun = time.perf_counter()
    model.answers(batch, labels)
    _wait(batch.device)
    return max((time.perf_counter() - begun) / len(batch), 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
