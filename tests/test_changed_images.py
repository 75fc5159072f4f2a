"""A folder of own images that has changed since the last run: what changed, and what to do."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.protocol import SplitConfig, load_protocol
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.data import load_splits
from bench.execution import runner
from bench.execution.runner import execute, ignore_epochs

COUNT = 40


@pytest.fixture
def photos(store: Store) -> Path:
    folder = store.root / "photos"
    folder.mkdir()
    for number, image in enumerate(load_splits("fashion_mnist_mini", SplitConfig()).test.images):
        if number <= COUNT:
            Image.fromarray(image[0]).save(folder / f"{number:03}.png")
    (folder / f"{COUNT:03}.png").rename(store.root / "one_more.png")
    return folder


@pytest.fixture
def run(store: Store, tiny_protocol: str, photos: Path) -> RunRecord:
    tiny = dataclasses.replace(
        load_protocol(tiny_protocol), split=SplitConfig(validation=8, test=8)
    )
    request = Request(tiny, ("mean_image",), (4,), dataset=f"folder:{photos}", device="cpu")
    return execute(plan(request, store).specs[0], store, ignore_epochs)


def _add(photos: Path) -> None:
    (photos.parent / "one_more.png").rename(photos / "one_more.png")


def _remove(photos: Path) -> None:
    (photos / "003.png").unlink()


def _change(photos: Path) -> None:
    (photos.parent / "one_more.png").replace(photos / "003.png")


@pytest.mark.parametrize(("change", "now"), [(_add, 41), (_remove, 39), (_change, 40)])
def test_the_table_and_verify_say_what_changed(
    photos: Path, run: RunRecord, change: Callable[[Path], None], now: int
) -> None:
    dataset = f"folder:{photos}"
    before = CliRunner().invoke(app, ["leaderboard", "--dataset", dataset])
    assert "has changed" not in before.stderr
    change(photos)
    after = CliRunner().invoke(app, ["leaderboard", "--dataset", dataset])
    assert after.exit_code == 0
    assert f"{COUNT} images then, {now} now" in after.stderr
    assert f"bench leaderboard --dataset {run.spec.dataset_label}\n" in after.stderr
    assert f"make some with: bench run --dataset {dataset}" in after.stderr
    earlier = CliRunner().invoke(app, ["leaderboard", "--dataset", run.spec.dataset_label])
    assert "mean_image" in earlier.stdout
    runner._splits.cache_clear()  # as in a new process
    verified = CliRunner().invoke(app, ["verify", run.run_key])
    assert verified.exit_code == 3
    assert "some were added, removed or changed since" in verified.stderr
