"""A tiny protocol and what tests of the registry do with a workspace."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from bench.benchmark.plan import Request, plan
from bench.core.protocol import Protocol, load_protocol
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.records.files import iter_records, record_folder
from bench.registry import publishing
from bench.registry.promotion import Promotion, promote
from bench.registry.results import Scope

PROTOCOL = """\
name = "small"
description = "one epoch, for tests"
dataset = "{dataset}"
models = ["mean_image", "pca", "fc_ae"]
latent_dims = [4, 8]
seeds = [0, 1, 2]

[train]
epochs = 1
batch_size = 128
lr = 3e-3
"""
FRONT = "# Title\n\n<!-- leaderboard:begin -->\n<!-- leaderboard:end -->\n\nThe end.\n"
D4, D8 = "fashion_mnist_mini.quick.d4", "fashion_mnist_mini.quick.d8"


def tiny_protocol(root: Path, dataset: str = "fashion_mnist_mini", **changes: str) -> Protocol:
    """The protocol of these tests, written to a file below `root` and read back."""
    text = PROTOCOL.format(dataset=dataset)
    for old, new in changes.items():
        assert f"{old} = " in text
        text = "\n".join(
            f"{old} = {new}" if line.startswith(f"{old} = ") else line for line in text.splitlines()
        )
    path = root / "tiny.toml"
    path.write_text(text)
    # The table in the README is that of `quick`; a file of a person could not take that name.
    return dataclasses.replace(load_protocol(str(path)), name="quick")


def run_all(store: Store, protocol: Protocol, models: tuple[str, ...] = ()) -> None:
    """Train what is missing, in this process."""
    for spec in plan(Request(protocol, models=models, device="cpu"), store).missing:
        execute(spec, store, ignore_epochs)


def publish(store: Store) -> Promotion:
    """Write the tables, then promote."""
    publishing.write(store, Scope(), refresh=False)
    return promote(store, Scope())


def forget(store: Store, *models: str) -> Callable[[], None]:
    """Put the records of these variants aside; what is returned brings them back."""
    aside = store.root / "aside"
    aside.mkdir()
    for record in list(iter_records(store.records)):
        if record.spec.model in models:
            shutil.move(record_folder(store.records, record.run_key), aside)

    def bring_back() -> None:
        for folder in aside.iterdir():
            shutil.move(folder, store.records)
        aside.rmdir()

    return bring_back


class Told(list[tuple[str, str, str]]):
    """What MLflow would have been told: (name, alias, run key); an empty key: alias cleared."""

    def alias(self, name: str, alias: str) -> str:
        """The run key that an alias points at."""
        return next(key for n, a, key in reversed(self) if (n, a) == (name, alias))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
