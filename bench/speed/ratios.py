"""`bench speed`: ratios measured within one run, so that a slow or busy machine cancels out.

The upper bound of a training loop is the bare step (loss, backward, Adam) repeated on one resident
batch. The alternatives are the same seeds one by one for seeds that train as one network, and
common practice: a DataLoader with one transform per image for training, scikit-image's function
called once per image for SSIM, and pythae's trainer with the same network, if that optional extra
is installed. All on one thread of the CPU.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bench
from bench.benchmark.plan import Request, plan
from bench.core.protocol import DEFAULT_PROTOCOL, EvaluationConfig, TrainConfig, load_protocol
from bench.core.spec import RunSpec
from bench.core.store import open_store
from bench.data import load_splits
from bench.evaluation.evaluate import Labelled
from bench.execution.processor import prepare_torch
from bench.execution.runner import build_for, ignore_epochs
from bench.execution.speeds import step_seconds
from bench.execution.stopwatch import MEASURED
from bench.metrics import per_image, seen_of
from bench.models.base import Autoencoder, ImageModel
from bench.speed.peers import pythae_is_here, pythae_rate
from bench.training.stack import fit_together
from bench.training.train import FitConfig, FitData, FitResult, fit

_BATCH = 128
_IMAGES = 10_000
_PEERS = (("fc_ae", ">= 2.2"), ("cnn_ae", ""))
"""Networks whose loop is compared with pythae's, and the ratio that is wanted."""
_STACKS = (("fc_ae", 1.4), ("plain_ae", 1.2))
"""Networks whose seeds are trained as one, and the ratio that is wanted."""


def measure_all(seconds: float) -> list[dict[str, Any]]:
    """One row per measurement (`what, ours, against, theirs, ratio, wanted`), `seconds` each."""
    threads = torch.get_num_threads()
    prepare_torch(threads=1)
    try:
        images = _images()
        rows = []
        for model, wanted in (("fc_ae", 0.85), ("deep_ae", 0.85), ("cnn_ae", 0.95)):
            rows += _training(_spec(model), images, seconds, wanted)
        rows += [_stack(_spec(model), images, seconds, at_least) for model, at_least in _STACKS]
        if pythae_is_here():
            rows += [_peer(_spec(model), images, seconds, asked) for model, asked in _PEERS]
        rows += [_ssim("ssim", images, 8.0), _ssim("ssim_gaussian", images, 20.0)]
        return [*rows, _help(), *forecasts()]
    finally:
        torch.set_num_threads(threads)


def _images() -> Tensor:
    """10,000 images: the bundled ones, repeated as often as needed."""
    protocol = load_protocol(DEFAULT_PROTOCOL)
    splits = load_splits(protocol.dataset, protocol.split)
    images = torch.from_numpy(splits.train.images)
    return images.repeat(_IMAGES // len(images) + 1, 1, 1, 1)[:_IMAGES]


def _spec(model: str) -> RunSpec:
    """The spec of a variant at 64 numbers, used only for its recipe; nothing is recorded."""
    request = Request(load_protocol(DEFAULT_PROTOCOL), (model,), (64,), seeds=(0,), device="cpu")
    return plan(request, open_store()).specs[0]


def _row(
    what: str, ours: float, against: str, theirs: float, wanted: str, unit: str
) -> dict[str, Any]:
    """Two rates (higher is better) and their ratio."""
    return {
        "what": what,
        "ours": f"{ours:,.0f} {unit}",
        "against": against,
        "theirs": f"{theirs:,.0f} {unit}",
        "ratio": f"{ours / theirs:.2f}",
        "wanted": wanted,
    }


def _training(spec: RunSpec, images: Tensor, seconds: float, wanted: float) -> list[dict[str, Any]]:
    """The loop against the bare step, alternating, and against a DataLoader."""
    floors, loops = [], []
    # Alternating cancels the drift of a shared machine; the best of each is the least disturbed.
    for _ in range(3):
        floors.append(_floor(spec, images, seconds / 3))
        loops.append(_loop(spec, images, seconds / 3))
    loader = _data_loader(spec, images, seconds / 3)
    name, unit = f"training {spec.model}", "images/s"
    return [
        _row(name, max(loops), "bare step", max(floors), f">= {wanted}", unit),
        _row(name, max(loops), "DataLoader with ToTensor", loader, "", unit),
    ]


def _stack(spec: RunSpec, images: Tensor, seconds: float, wanted: float) -> dict[str, Any]:
    """As many seeds as the planner measures, as one network and one by one, alternating.

    In processor time: two trainings of seconds meet a busy machine differently.
    """
    count = max(_BATCH * 24, int(_floor(spec, images, 0.2) * seconds / 6 / MEASURED))
    data = FitData(_labelled(images[:count]), _labelled(images[:0]))
    config = TrainConfig(epochs=1, batch_size=_BATCH, lr=1e-3, schedule="one_cycle")
    seeds = range(MEASURED)
    configs = [FitConfig(config, spec.evaluation, "mse", seed) for seed in seeds]
    hooks = [ignore_epochs] * MEASURED

    def rate(results: Iterable[FitResult]) -> float:
        begun = time.process_time()
        return sum(each.images for each in results) / (time.process_time() - begun)

    together, alone = [], []
    for _ in range(3):
        models = [_model(spec, images) for _ in seeds]
        together.append(rate(found for _, found in fit_together(models, data, configs, hooks)))
        fitted = map(fit, (_model(spec, images) for _ in seeds), repeat(data), configs, hooks)
        alone.append(rate(fitted))
    name = f"training {spec.model}, {MEASURED} seeds"
    return _row(name, max(together), "one by one", max(alone), f">= {wanted}", "images/s")


def _peer(spec: RunSpec, images: Tensor, seconds: float, wanted: str) -> dict[str, Any]:
    """The loop against pythae's trainer with the same network, alternating."""
    model = _model(spec, images)
    assert isinstance(model, Autoencoder)
    ours, theirs = [], []
    for _ in range(3):
        ours.append(_loop(spec, images, seconds / 3))
        theirs.append(pythae_rate(model, images, _BATCH, seconds / 3))
    name = f"training {spec.model}"
    return _row(name, max(ours), "pythae's trainer", max(theirs), wanted, "images/s")


def _model(spec: RunSpec, images: Tensor) -> ImageModel:
    return build_for(spec, (images.shape[1], images.shape[2], images.shape[3]), classes=0)


def _floor(spec: RunSpec, images: Tensor, seconds: float) -> float:
    model = _model(spec, images)
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    batch = (images[:_BATCH].float() / 255).contiguous(memory_format=layout)
    return 1 / step_seconds(model, batch, spec, seconds=seconds)


def _loop(spec: RunSpec, images: Tensor, seconds: float) -> float:
    """Images per second of `fit` by its own clock, over epochs that take about `seconds`."""
    rate = _floor(spec, images, 0.2)
    count = min(len(images), max(_BATCH * 8, int(rate * seconds)))
    epochs = max(1, round(rate * seconds / count))
    config = TrainConfig(epochs=epochs, batch_size=_BATCH, lr=1e-3, schedule="one_cycle")
    result = fit(
        _model(spec, images),
        FitData(_labelled(images[:count]), _labelled(images[:0])),
        FitConfig(config, spec.evaluation, "mse", seed=0),
        ignore_epochs,
    )
    return result.images / result.seconds


def _labelled(images: Tensor) -> Labelled:
    """Images with dummy classes, which autoencoders ignore."""
    return Labelled(images, torch.zeros(len(images), dtype=torch.int64))


def _data_loader(spec: RunSpec, images: Tensor, seconds: float) -> float:
    """Images per second of the usual way: one image at a time through ToTensor and a collate."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms.functional import to_tensor

    class _Images(Dataset[Tensor]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> Tensor:
            tensor: Tensor = to_tensor(images[index].permute(1, 2, 0).numpy())
            return tensor

    model = _model(spec, images)
    labels = torch.zeros(_BATCH, dtype=torch.int64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    begun, seen = time.perf_counter(), 0
    for batch in DataLoader(_Images(), batch_size=_BATCH, shuffle=True):
        loss = model.loss(batch, labels[: len(batch)]).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(batch)
        if time.perf_counter() - begun > seconds:
            break
    return seen / (time.perf_counter() - begun)


def _ssim(metric: str, images: Tensor, wanted: float) -> dict[str, Any]:
    """SSIM of 10,000 pairs at once against scikit-image's loop over 1,000 of them."""
    from skimage.metrics import structural_similarity

    x = images.float() / 255
    x_hat = x.roll(1, dims=0) * 0.2 + x * 0.8
    config = EvaluationConfig()
    keywords: dict[str, Any] = {"data_range": 1.0, "win_size": 7}
    if metric == "ssim_gaussian":
        keywords = {
            "data_range": 1.0,
            "gaussian_weights": True,
            "sigma": 1.5,
            "use_sample_covariance": False,
        }
    pairs = list(zip(x[:1000, 0].numpy(), x_hat[:1000, 0].numpy(), strict=True))
    loop = _best(lambda: [structural_similarity(a, b, **keywords) for a, b in pairs])
    theirs = loop / len(pairs)
    seen = seen_of({"images": x, "reconstructions": x_hat})
    ours = _best(lambda: per_image((metric,), seen, config)) / len(x)
    title = {"ssim": "SSIM 7x7", "ssim_gaussian": "SSIM Gaussian"}[metric]
    return _row(title, 1 / ours, "scikit-image loop", 1 / theirs, f">= {wanted:.0f}", "images/s")


def _best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of a few calls."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return min(took)


def _help() -> dict[str, Any]:
    """`bench --help` against a bare interpreter, as whole processes."""
    ours = _best(lambda: _process("-m", "bench", "--help"))
    theirs = _best(lambda: _process("-c", "pass"))
    return {
        "what": "bench --help",
        "ours": f"{ours:.2f} s",
        "against": "python -c pass",
        "theirs": f"{theirs:.2f} s",
        "ratio": f"{ours / theirs:.1f}",
        "wanted": "<= 0.5 s",
    }


def _process(*arguments: str, home: str = "") -> str:
    """Run an interpreter, on a workspace of its own if `home` is given; returns its output."""
    root = Path(bench.__file__).resolve().parent.parent
    environment = {**os.environ, "BENCH_HOME": home} if home else None
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, check=True, capture_output=True, cwd=root, env=environment, text=True
    )
    return done.stdout


_FORECAST = (
    ("a plan of 2 solved runs", ("run", "--model", "pca", "--latent-dim", "8,32")),
    ("a plan of 5 runs", ("run", "-m", "fc_ae", "-m", "cnn_ae", "-d", "8", "--seeds", "2")),
    ("a sweep of 6 trials", ("sweep", "-m", "fc_ae", "-d", "8", "--trials", "6")),
)


def forecasts() -> list[dict[str, Any]]:
    """What commands forecast against what they take, as whole processes in an empty workspace."""
    rows = []
    with tempfile.TemporaryDirectory() as home:
        for what, command in _FORECAST:
            told = json.loads(_process("-m", "bench", *command, "--dry-run", "--json", home=home))
            if isinstance(told, list):
                expected = sum(row["search_seconds"] + row["confirm_seconds"] for row in told)
            else:
                expected = told["forecast_seconds"]
            begun = time.perf_counter()
            _process("-m", "bench", *command, home=home)
            took = time.perf_counter() - begun
            rows.append(
                {
                    "what": what,
                    "ours": f"{expected:.0f} s forecast",
                    "against": "wall clock",
                    "theirs": f"{took:.0f} s",
                    "ratio": f"{expected / took:.2f}",
                    "wanted": "0.7 to 1.3",
                }
            )
    return rows
