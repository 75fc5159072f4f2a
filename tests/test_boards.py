"""One training on several boards: other protocols, metrics, and names of the same images."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.benchmark.running import execute_plan
from bench.cli import app
from bench.core.errors import BadInput
from bench.core.protocol import Protocol, SplitConfig, load_protocol
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.data import load_set, load_splits
from bench.execution import runner
from bench.execution.places import Workers
from bench.execution.runner import execute, ignore_epochs
from bench.records.files import iter_records, read_arrays
from bench.registry import frames, publishing
from bench.registry.champions import champions
from bench.registry.naming import label_of, located
from bench.registry.promotion import promote
from bench.registry.results import Scope
from bench.registry.verification import raise_problems, targets, verify

EVERYTHING = Scope()
OWN = """
name = "mine"
description = "a few steps on a few small images"
dataset = "{dataset}"
models = ["mean_image", "pca", "fc_ae"]
latent_dims = [3]
seeds = [0, 1, 2]
[split]
validation = 0.2
test = 0.2
[train]
epochs = 1
batch_size = 32
lr = 0.003
"""


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """160 real images of 12 x 12 pixels, and their classes."""
    train = load_splits("fashion_mnist_mini", SplitConfig()).train
    return train.images[:160, 0, 2:26:2, 2:26:2], train.labels[:160]


@pytest.fixture
def own(store: Store, images, monkeypatch: pytest.MonkeyPatch) -> Protocol:
    """A protocol on images inside the workspace, without tracking."""
    monkeypatch.setenv("BENCH_TRACKING", "off")
    path = store.root / "photos" / "clothes.npz"
    path.parent.mkdir()
    np.savez(path, x=images[0], y=images[1])
    return written(store, "mine", OWN.format(dataset=f"npz:{path}"))


def written(store: Store, name: str, text: str) -> Protocol:
    path = store.root / f"{name}.toml"
    path.write_text(text.replace('name = "mine"', f'name = "{name}"'))
    return load_protocol(str(path))


def run(store: Store, protocol: Protocol, dataset: str = "") -> int:
    """Train what is missing here, then what `bench run` does; returns how many were missing."""
    request = Request(protocol, dataset=dataset, device="cpu")
    missing = plan(request, store).missing
    for spec in missing:
        execute(spec, store, ignore_epochs)
    with Workers(1, store) as workers:
        execute_plan(plan(request, store), workers)
    return len(missing)


def table(protocol: Protocol, dataset: str = "") -> dict[str, float]:
    """Mean validation errors by row, of the one board that there is."""
    frame = frames.table(protocol.source, dataset)
    assert len(set(zip(frame["dataset"], frame["protocol"], strict=True))) == 1
    return dict(zip(frame["row"], frame["val_mse"], strict=True))


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_):
        raise AssertionError("this training is recorded")

    monkeypatch.setattr(runner, "_fit", refuse)


def test_a_copied_protocol_has_its_table_and_takes_none_away(store, own, monkeypatch):
    assert run(store, own) == 5
    before = table(own)
    no_training(monkeypatch)
    copy = written(store, "copy", (store.root / "mine.toml").read_text())
    assert run(store, copy) == 0
    assert table(copy) == before == table(own)
    assert len(before) == 3


def test_boards_over_the_same_trainings_have_a_champion_each(store, own):
    run(store, own)
    publishing.write(store, EVERYTHING, refresh=False)
    promote(store, EVERYTHING)
    copy = written(store, "copy", (store.root / "mine.toml").read_text())
    run(store, copy)
    found = publishing.write(store, EVERYTHING, refresh=False)
    assert "5 rows are new" in found.lines
    promote(store, EVERYTHING)
    cards = champions(store.registry)
    assert [card.spec.protocol for card in cards.values()] == ["copy", "mine"]
    assert len({card.run_key for card in cards.values()}) == 1
    (store.root / "README.md").write_text("<!-- leaderboard:begin -->\n<!-- leaderboard:end -->\n")
    publishing.write(store, EVERYTHING, refresh=False)
    assert publishing.check(store)


def test_other_metrics_are_scored_from_the_weights_beside_the_first(store, own, monkeypatch):
    run(store, own)
    before = {record.run_key: record for record in iter_records(store.records)}
    no_training(monkeypatch)
    text = (store.root / "mine.toml").read_text() + '[evaluation]\nmetrics = ["mse", "mae"]\n'
    other = written(store, "other", text)
    assert run(store, other) == 5
    found: dict[str, list[RunRecord]] = {"mine": [], "other": []}
    for record in iter_records(store.records):
        found[record.spec.protocol].append(record)
    assert {record.run_key: record for record in found["mine"]} == before
    assert len(found["other"]) == 5
    for record in found["other"]:
        assert record.scores["val"].keys() == {"mse", "mae"}
        assert record.weights_sha256 == before[record.run_key].weights_sha256
        assert "test/ssim" not in read_arrays(store.records, record)
        assert "test/ssim" in read_arrays(store.records, before[record.run_key])
    assert run(store, own) == run(store, other) == 0
    assert len(table(other)) == len(table(own)) == 3


def test_three_names_of_the_same_images_are_one_data_set(store, own, images, tmp_path, monkeypatch):
    run(store, own)
    before = table(own)
    no_training(monkeypatch)
    pixels = images[0].reshape(160, -1)
    heads = ["label", *(f"pixel{i}" for i in range(pixels.shape[1]))]
    lines = [
        ",".join(map(str, (label, *row))) for label, row in zip(images[1], pixels, strict=True)
    ]
    (tmp_path / "list.csv").write_text("\n".join([",".join(heads), *lines]) + "\n")
    shutil.copy(store.root / "photos" / "clothes.npz", tmp_path / "renamed.npz")
    first = load_set(f"npz:{store.root}/photos/clothes.npz")
    names = [f"csv:{tmp_path}/list.csv", f"npz:{tmp_path}/renamed.npz"]
    for name in names:
        assert load_set(name).digest == first.digest
        assert run(store, own, name) == 0
        assert table(own, label_of(store, name)) == before
    label = f"npz.clothes-{first.digest[:6]}"
    assert {record.spec.dataset_label for record in iter_records(store.records)} == {label}
    assert label_of(store, label) == label


def folder_of(root: Path, images: np.ndarray, labels: np.ndarray) -> str:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = root / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03}.png")
    return f"folder:{root}"


@pytest.mark.parametrize("names", [("a/photos", "b/photos"), ("фото", "写真")])
def test_two_folders_of_one_name_have_tables_of_their_own(store, own, images, tmp_path, names):
    x, y = images
    pca = dataclasses.replace(own, models=("pca", "mean_image"))
    halves = [
        folder_of(tmp_path / name, x[part], y[part])
        for name, part in zip(names, (slice(80), slice(80, None)), strict=True)
    ]
    tables = []
    for half in halves:
        assert run(store, pca, half) == 2
        tables.append(table(pca, label_of(store, half)))
    assert tables[0] != tables[1]
    assert tables[0] == table(pca, label_of(store, halves[0]))
    assert len({label_of(store, half) for half in halves}) == 2


def test_a_board_of_ones_own_that_is_not_ranked_never_is(store, own):
    text = (store.root / "mine.toml").read_text().replace("seeds", "ranked = false\nseeds")
    run(store, written(store, "shown", text))
    assert frames.table()["rank_low"].isna().all()
    (record, *_) = iter_records(store.records)
    assert record.spec.definition is not None
    assert record.spec.definition.ranked is False


def test_what_is_stored_holds_the_whole_protocol_and_no_path(store, own):
    run(store, own)
    listed = list(store.records.rglob("boards/*.json"))
    assert len(listed) == 5
    for path in listed:
        spec = json.loads(path.read_text())["spec"]
        kept = spec["definition"]
        assert kept["seeds"] == [0, 1, 2]
        assert kept["models"] == ["mean_image", "pca", "fc_ae"]
        assert not {"source", "expected"} & kept.keys()
        assert kept["dataset"] == spec["dataset_label"]
        assert spec["dataset"] == "npz:./photos/clothes.npz"
    for path in store.records.rglob("*.json"):
        entry = path.parent.name == "boards"
        assert entry or str(store.root) not in path.read_text(), path
    solved = {r.spec.model: r.closed_form for r in iter_records(store.records)}
    assert solved == {"mean_image": True, "pca": True, "fc_ae": False}


def test_a_moved_workspace_goes_on(store, own, tmp_path, monkeypatch):
    run(store, own)
    before = table(own)
    moved = Store(tmp_path / "elsewhere" / "again")
    shutil.copytree(store.root, moved.root, ignore=shutil.ignore_patterns("elsewhere"))
    shutil.rmtree(store.root / "photos")
    shutil.rmtree(store.mlruns)
    monkeypatch.setenv("BENCH_HOME", str(moved.root))
    raise_problems(list(verify(moved, targets(moved, [], everything=True))))
    assert table(own) == before
    no_training(monkeypatch)
    assert run(moved, own, f"npz:{moved.root}/photos/clothes.npz") == 0


def test_images_that_moved_are_found_where_they_were_seen_last_or_where_it_is_said(
    store, own, tmp_path
):
    run(store, dataclasses.replace(own, models=("pca",)))
    old, new = store.root / "photos" / "clothes.npz", tmp_path / "archive.npz"
    old.rename(new)
    (found,) = verify(store, targets(store, [], everything=True))
    assert "the images of npz.clothes-" in found.problem
    assert "--dataset" in found.problem
    (found,) = verify(store, targets(store, [], everything=True), f"npz:{new}")
    assert not found.problem
    run(store, dataclasses.replace(own, models=("pca",)), f"npz:{new}")
    (found,) = verify(store, targets(store, [], everything=True))
    assert not found.problem
    with pytest.raises(BadInput, match="unknown data set"):
        label_of(store, "npz.clothes-000000")


def test_verify_reads_what_it_is_given_before_it_begins_and_for_own_images_only(store, own):
    run(store, dataclasses.replace(own, models=("pca",)))
    wrong = CliRunner().invoke(app, ["verify", "--all", "--dataset", "npz:nowhere.npz"])
    assert wrong.exit_code == 2
    assert "nowhere.npz: no such file" in wrong.stderr
    (record,) = iter_records(store.records)
    known = dataclasses.replace(record.spec, dataset="fashion_mnist_mini")
    assert located(store, known, "npz:nowhere.npz") == "fashion_mnist_mini"
