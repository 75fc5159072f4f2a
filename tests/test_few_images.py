"""Too few images are refused before training, and no figure that fails costs a run."""

import contextlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.errors import BadInput
from bench.core.protocol import SplitConfig, load_protocol
from bench.core.store import Store
from bench.data import load_set, load_splits, require_images
from bench.execution.runner import execute, ignore_epochs
from bench.figures import draw_files, drawing
from bench.figures.latent import principal_plane
from bench.records.files import iter_records, read_arrays
from bench.registry import publishing
from bench.registry.promotion import promote
from bench.registry.results import Scope

pytest_plugins = ("registry_fixtures",)


def _npz(folder: Path, per_class: int, classes: int = 10, test: int | None = None) -> str:
    """Real images, equally many of each class; with `test`, so many of them as a test part."""
    part = load_set("fashion_mnist_mini").parts["train"]
    chosen = np.concatenate([np.flatnonzero(part.labels == c)[:per_class] for c in range(classes)])
    arrays = {"x_train": part.images[chosen].squeeze(1), "y_train": part.labels[chosen]}
    if test is not None:
        arrays |= {"x_test": part.images[:test].squeeze(1), "y_test": part.labels[:test]}
    np.savez(folder / "few.npz", **arrays)
    return f"npz:{folder / 'few.npz'}"


@pytest.mark.parametrize(
    ("per_class", "classes", "test", "words"),
    [
        (1, 1, None, "test = 0.125 asks for 1 of 1 images"),
        (1, 2, None, "validation = 0.125 asks for 1 of 1 images"),
        (1, 3, None, "train has 1, validation has 1, test has 1"),
        (1, 10, None, "train has 8, validation has 1, test has 1"),
        (5, 2, None, "train has 8, validation has 1, test has 1"),
        (5, 10, 1, "test has 1"),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_too_few_images_are_refused_before_training(
    store: Store,
    tmp_path: Path,
    command: str,
    per_class: int,
    classes: int,
    test: int | None,
    words: str,
) -> None:
    dataset = _npz(tmp_path, per_class, classes, test)
    result = CliRunner().invoke(app, [command, "--dataset", dataset, "--model", "fc_ae"])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert "needs at least 2 images in each part" in line and words in line
    assert not list(iter_records(store.records))
    # The number that is said is the smallest that is taken.
    assert ("(12 are enough)" in line) == (test is None and per_class * classes > 2)


def test_a_dozen_images_are_enough(tmp_path: Path) -> None:
    for count, refused in ((11, True), (12, False)):
        splits = load_splits(_npz(tmp_path, count, 1), SplitConfig())
        with pytest.raises(BadInput) if refused else contextlib.nullcontext():
            require_images(splits, SplitConfig())


def test_an_empty_part_is_refused_before_training(store: Store, tmp_path: Path) -> None:
    dataset = _npz(tmp_path, 5, test=0)
    result = CliRunner().invoke(app, ["run", "--dataset", dataset])
    assert result.exit_code == 2
    assert "x_test: holds no images" in result.stderr


def test_a_class_without_training_images_is_refused_for_classifiers_only(
    store: Store, tmp_path: Path
) -> None:
    """One image of each of 20 classes."""
    images = load_set("fashion_mnist_mini").parts["train"].images[:20].squeeze(1)
    np.savez(tmp_path / "few.npz", x_train=images, y_train=np.arange(20))
    dataset = f"npz:{tmp_path / 'few.npz'}"
    run = ["run", "--dry-run", "--dataset", dataset, "--protocol"]
    result = CliRunner().invoke(app, [*run, "classifier_quick"])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "of 20 classes have no training image" in line
    assert plan(Request(load_protocol("own"), dataset=dataset), store).specs


SMALLEST = """
name = "smallest"
description = "two images in each part"
dataset = "{dataset}"
models = ["mean_image", "pca", "fc_ae"]
latent_dims = [1, 4]
seeds = [0]
split = {{ validation = 2, test = 2 }}
train = {{ epochs = 2, batch_size = 2, lr = 1e-3 }}
"""


def test_the_fewest_images_that_are_taken_are_trained_scored_and_drawn(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "smallest.toml"
    path.write_text(SMALLEST.format(dataset=_npz(tmp_path, 3, 2)))
    for spec in plan(Request(load_protocol(str(path))), store).specs:
        record = execute(spec, store, ignore_epochs)
        files = draw_files.__wrapped__(record, read_arrays(store.records, record))
        assert {"reconstructions", "extremes", "score_histogram"} <= set(files)
        assert np.isfinite([*record.scores["val"].values(), *record.scores["test"].values()]).all()
    assert not caplog.records


def test_one_code_lies_on_the_plane_of_codes() -> None:
    points, explained = principal_plane(np.arange(4.0)[None])
    assert points.shape == (1, 2) and explained == (0.0, 0.0)


@pytest.fixture
def broken_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault within a drawing, as a version of numpy or matplotlib may bring one."""

    def fail(_: object) -> None:
        raise ZeroDivisionError("no plane\nhere")

    monkeypatch.setattr("bench.figures.latent.principal_plane", fail)
    # Pictures that this process drew before the fault serve no run here.
    monkeypatch.setattr("bench.figures.draw_files", draw_files.__wrapped__)
    monkeypatch.setattr(drawing, "_said", set())


LEFT_OUT = "figure latent_map is left out: drawing it failed (ZeroDivisionError: no plane here)"


def test_a_figure_that_fails_is_left_out_with_one_note(
    ran: Store, broken_map: None, caplog: pytest.LogCaptureFixture
) -> None:
    records = [record for record in iter_records(ran.records) if record.spec.model == "pca"]
    assert len(records) > 1
    for record in records:
        files = draw_files.__wrapped__(record, read_arrays(ran.records, record))
        assert "latent_map" not in files and "samples" in files
    assert [entry.getMessage() for entry in caplog.records] == [LEFT_OUT]


def test_a_figure_that_fails_stops_neither_sync_nor_figures(
    ran: Store, broken_map: None, caplog: pytest.LogCaptureFixture
) -> None:
    key = next(r.run_key for r in iter_records(ran.records) if r.spec.model == "pca")
    for record in list(iter_records(ran.records)):
        if record.run_key != key:
            (ran.records / record.run_key).rename(ran.root / record.run_key)
    drawn = CliRunner().invoke(app, ["figures", key])
    assert drawn.exit_code == 0, drawn.output
    assert "drawing it failed (ZeroDivisionError" in drawn.output
    assert (ran.mlruns / "figures" / key / "samples.png").exists()
    caplog.set_level(logging.WARNING)
    sent = CliRunner().invoke(app, ["sync"])
    assert sent.exit_code == 0, sent.output
    assert LEFT_OUT in caplog.text
    again = CliRunner().invoke(app, ["sync"])
    assert again.exit_code == 0 and "it had 1 already" in again.output


def test_figures_that_fail_stop_neither_the_tables_nor_a_promotion(
    ran: Store, broken_map: None, mlflow_told: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing.write(ran, Scope(), refresh=False)
    (picture,) = ran.registry.rglob("*.rate_distortion.png")
    picture.unlink()

    def fail(*_: object) -> None:
        raise ValueError("no axes")

    monkeypatch.setattr("bench.figures.rate_distortion", fail)
    publishing.write(ran, Scope(), refresh=False)
    assert not list(ran.registry.rglob("*.rate_distortion.png"))
    done = promote(ran, Scope())
    assert {decision.action for decision in done.decisions} == {"first"}
    cards = [json.loads(path.read_text()) for path in ran.registry.rglob("card.json")]
    assert cards and all("latent_map.png" not in card["pictures"] for card in cards)
    assert publishing.check(ran)
