"""bench: the reference benchmark for image autoencoders, as a library.

    import bench

    model = bench.load("fashion_mnist_mini.quick.d32")  # the champion of a track
    codes = model.encode(images)                        # numpy arrays in and out
    frame = bench.table("quick")                        # the ranked table, a pandas frame
    mine = bench.train(bench.build("mlp_ae", latent_dim=16), "fashion_mnist_mini")

| name      | what it does                                                             |
|-----------|--------------------------------------------------------------------------|
| load      | a champion or run that encodes, decodes, interpolates and samples        |
| results   | every run of ledger and workspace, as a frame                            |
| table     | the ranked tables, as a frame                                            |
| build     | an untrained variant, a torch module                                     |
| train     | train and score a model by a protocol's recipe; nothing is recorded      |
| run       | `bench run`: every run of a protocol without a record                    |
| tune      | `bench sweep`: search a variant's recipe, measure the winner             |
| reproduce | `bench reproduce`: the published figures of the origins                  |

`run`, `tune` and `reproduce` take `on_event` and return outcomes. Errors that a user can cause are
`bench.core.errors.BenchError`s with one clear line. Everything is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bench.benchmark.reproduction import reproduce
    from bench.benchmark.running import run
    from bench.execution.direct import train
    from bench.models.zoo import build
    from bench.registry.frames import results, table
    from bench.registry.loading import load
    from bench.sweep.running import tune

__all__ = ["build", "load", "reproduce", "results", "run", "table", "train", "tune"]

_HOMES = {
    "build": "models.zoo",
    "load": "registry.loading",
    "reproduce": "benchmark.reproduction",
    "results": "registry.frames",
    "run": "benchmark.running",
    "table": "registry.frames",
    "train": "execution.direct",
    "tune": "sweep.running",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"bench.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
