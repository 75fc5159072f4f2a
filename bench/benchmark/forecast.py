"""What a plan will cost on this machine, measured before it starts.

Each variant at each latent size is timed over a few training steps on the plan's device and
threads; the speeds are kept in `mlruns/costs.json` under the machine's signature.
"""

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from bench.core.spec import RunSpec
from bench.core.store import Store, write_atomically
from bench.execution import EpochEnded, Event, Failed, Finished
from bench.execution.runner import build_for, checked_device, prepare_torch
from bench.models.base import ClosedFormAutoencoder, ImageModel
from bench.models.zoo import variant
from bench.training.train import make_optimizer

Speeds = tuple[float, float]
"""Seconds per trained and per scored image; for a closed form, seconds of the whole fit, and 0."""

_MEASURE_SECONDS = 0.4
_STARTUP_SECONDS = 6.0
"""Start of a worker's interpreter, torch and the images, once per worker."""
_ROUND_SECONDS = 1.0
"""Scoring, gallery and record of one run, once per run."""


@dataclass(frozen=True)
class SplitSizes:
    """The sizes of a split, the shape of its images (C, H, W) and its number of classes."""

    train: int
    validation: int
    test: int
    image_shape: tuple[int, int, int]
    classes: int = 0


@dataclass(frozen=True)
class Forecast:
    """Seconds by run key, and for the whole plan on `workers` workers."""

    by_run: Mapping[str, float]
    workers: int

    @property
    def total_seconds(self) -> float:
        """Wall-clock seconds of the longest-first schedule on the workers."""
        return self.on(self.workers)

    def on(self, workers: int) -> float:
        """The same for another number of workers."""
        if not self.by_run:
            return 0.0
        loads = [_STARTUP_SECONDS] * workers
        for seconds in sorted(self.by_run.values(), reverse=True):
            loads[loads.index(min(loads))] += seconds
        return max(loads)


def forecast(specs: Iterable[RunSpec], counts: SplitSizes, store: Store, workers: int) -> Forecast:
    """The seconds of each spec; measures the variants that were not measured before."""
    known = _read(store)
    specs, before = list(specs), len(known)
    for spec in specs:
        key = _signature(spec, counts)
        if key not in known:
            known[key] = _measure(spec, counts)
    if len(known) > before:
        write_atomically(store.costs, json.dumps(known, indent=1, sort_keys=True).encode())
    return _add_up(specs, counts, known, workers)


def known_forecast(
    specs: Iterable[RunSpec], counts: SplitSizes, store: Store, workers: int
) -> Forecast | None:
    """The forecast from earlier measurements; None if one is missing."""
    known, specs = _read(store), list(specs)
    if any(_signature(spec, counts) not in known for spec in specs):
        return None
    return _add_up(specs, counts, known, workers)


def _add_up(
    specs: Sequence[RunSpec], counts: SplitSizes, known: Mapping[str, Speeds], workers: int
) -> Forecast:
    """Seconds of each run, from its variant's speeds and the sizes of the split."""
    by_run: dict[str, float] = {}
    for spec in specs:
        train, score = known[_signature(spec, counts)]
        scored = (spec.train.epochs + 1) * counts.validation + counts.test
        trained = 1 if variant(spec.model).closed_form else spec.train.epochs * counts.train
        by_run[spec.run_key] = trained * train + scored * score + _ROUND_SECONDS
    return Forecast(by_run, max(1, min(workers, len(by_run))))


def _read(store: Store) -> dict[str, Speeds]:
    """Speeds measured before; an unreadable file is only a lost cache: measure again."""
    try:
        found = json.loads(store.costs.read_text())
        return {str(key): (float(a), float(b)) for key, (a, b) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _signature(spec: RunSpec, counts: SplitSizes) -> str:
    """What a speed depends on: machine, network, image shape, batch size, device, threads."""
    size = spec.size_name
    shape = "x".join(map(str, counts.image_shape))
    machine = f"{platform.node()} {os.cpu_count()} cores torch {torch.__version__}"
    closed = f" {counts.train} images" if variant(spec.model).closed_form else ""
    return (
        f"{machine} | {spec.model} r{spec.model_revision} {size} {dict(spec.hyperparameters)} "
        f"{shape} batch {spec.train.batch_size} {spec.device} {spec.threads} threads{closed}"
    )


def _measure(spec: RunSpec, counts: SplitSizes) -> Speeds:
    """Seconds per trained and per scored image; for a closed form (seconds of its fit, 0)."""
    threads = torch.get_num_threads()
    prepare_torch(spec.threads)
    try:
        device = checked_device(spec.device)
        model = build_for(spec, counts.image_shape, counts.classes).to(device)
        if isinstance(model, ClosedFormAutoencoder):
            return _time_fit(model, counts), 0.0
        batch = torch.rand(spec.train.batch_size, *counts.image_shape, device=device)
        if model.channels_last:
            batch = batch.contiguous(memory_format=torch.channels_last)
        return step_seconds(model, batch, spec), _time_scoring(model, batch)
    finally:
        torch.set_num_threads(threads)


def _time_fit(model: ClosedFormAutoencoder, counts: SplitSizes) -> float:
    """Seconds to solve for as many random images as the split has (at most 20,000)."""
    count = min(counts.train, 20_000)
    images = torch.randint(0, 256, (count, *counts.image_shape), dtype=torch.uint8)
    begun = time.perf_counter()
    model.fit(images)
    return (time.perf_counter() - begun) * counts.train / count


def step_seconds(
    model: ImageModel, batch: torch.Tensor, spec: RunSpec, measure: float = _MEASURE_SECONDS
) -> float:
    """Seconds per image of bare training steps on one resident batch: a bound for any loop."""
    optimizer = make_optimizer(model, spec.train)
    labels = torch.zeros(len(batch), dtype=torch.int64, device=batch.device)
    model.train()

    def step() -> None:
        loss = model.loss(batch, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        optimizer.step()

    for _ in range(3):
        step()
    _wait(batch.device)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < measure:
        step()
        steps += 1
    _wait(batch.device)
    return (time.perf_counter() - begun) / (steps * len(batch))


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


class Remaining:
    """Time left in a plan: the forecast, corrected by the speed of the runs so far."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._shares: dict[str, float] = {}
        self._begun = time.monotonic()

    def hear(self, event: Event) -> None:
        """Update with an event of the executor."""
        match event:
            case EpochEnded(spec, values):
                self._shares[spec.run_key] = values.epoch / spec.train.epochs
            case Finished(spec) | Failed(spec):
                self._shares[spec.run_key] = 1.0

    @property
    def seconds(self) -> float:
        """Remaining wall-clock seconds."""
        by_run, workers = self._forecast.by_run, self._forecast.workers
        done = sum(by_run.get(key, 0.0) * share for key, share in self._shares.items())
        total = sum(by_run.values())
        spent = time.monotonic() - self._begun
        ahead = (total - done) / workers
        # The first minute says little about speed: workers are still starting.
        return ahead * (spent * workers / done if done and spent > 60 else 1.0)
