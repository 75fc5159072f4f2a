"""`bench figures`: pictures from records, end to end, and every mistake in one line."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from bench.benchmark.plan import Request, plan
from bench.cli import main
from bench.core import protocol as protocols
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.figures import FIGURES, TRACK_FIGURES
from bench.records.files import iter_records, read_arrays, read_record, read_weights, write_record
from bench.records.selection import shown_record

BOARD = "fashion_mnist_mini/tiny"
MEASURED = "error_under_damage"
"""Of protocols that switch robustness on."""
OF_TRACK = [n for n, row in TRACK_FIGURES.items() if not row.all_tracks and n != MEASURED]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two code sizes of three variants, trained for three epochs on bundled images."""
    home = tmp_path_factory.mktemp("home")
    (home / "tiny.toml").write_text(TINY.replace("[4]", "[4, 8]"))
    store = Store(home).prepare()
    for spec in plan(Request(load_protocol(str(home / "tiny.toml"))), store).specs:
        execute(spec, store, ignore_epochs)
    return store


ORIGIN = """
name = "unvalidated"
description = "an origin's kind of recipe: nothing is held out for validation, sizes differ"
dataset = "fashion_mnist_mini"
models = ["mean_image", "pca", "fc_ae"]
latent_dims = [4, 8]
seeds = [42, 7]
ranked = false
[split]
kind = "pooled"
validation = 0
test = 7000
[train]
epochs = 2
batch_size = 64
lr = 0.003
keep = "last"
"""


def test_without_validation_images_there_are_pictures_of_all_tracks_together(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "protocols"
    shutil.copytree(protocols.SHIPPED, folder, ignore=shutil.ignore_patterns("s?*.toml"))
    (folder / "origins" / "unvalidated.toml").write_text(ORIGIN)
    monkeypatch.setattr(protocols, "SHIPPED", folder)
    for spec in plan(Request(load_protocol("origins/unvalidated")), store).specs:
        execute(spec, store, ignore_epochs)
    out = tmp_path / "out"
    assert figures("origins/unvalidated", "--out", str(out), monkeypatch=monkeypatch) == 0
    together = out / "fashion_mnist_mini" / "unvalidated"
    found = {path.stem for path in together.iterdir()}
    assert {"rate_distortion", "side_by_side", "training_curves", "final_scores"} <= found
    assert "skipped" not in capsys.readouterr().err


def test_without_validation_images_the_lowest_seed_is_shown(trained: Store) -> None:
    """Test scores choose nothing, not even a picture."""
    some = [r for r in iter_records(trained.records) if r.spec.model == "fc_ae"]
    blind = [dataclasses.replace(r, scores={"test": r.scores["test"]}) for r in some]
    shown = shown_record(blind[::-1])
    assert shown is not None
    assert shown.spec.seed == min(record.spec.seed for record in blind)
    assert shown_record([dataclasses.replace(r, status="diverged") for r in blind]) is None


@pytest.fixture
def home(trained: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("BENCH_HOME", str(trained.root))
    return trained


def figures(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["bench", "figures", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_protocol_gives_every_track_and_the_picture_of_all(
    home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures("tiny", "--out", str(tmp_path), monkeypatch=monkeypatch) == 0
    written = [Path(line).relative_to(tmp_path) for line in capsys.readouterr().out.splitlines()]
    assert sorted(map(str, written)) == sorted(
        [f"{BOARD}.d{size}/{name}.png" for size in (4, 8) for name in OF_TRACK]
        + [f"{BOARD}/rate_distortion.png"]
    )
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")) == sorted(written)
    for path in written:
        picture = np.asarray(Image.open(tmp_path / path))
        assert picture.shape[1] > 400 and picture.std() > 10


@pytest.mark.parametrize("name", ["fashion_mnist_mini.tiny.d4", f"{BOARD}.d4"])
def test_a_track_by_either_name_goes_below_mlruns(
    home: Store, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures(name, "--only", "final_scores", "--json", monkeypatch=monkeypatch) == 0
    (drawn,) = json.loads(capsys.readouterr().out)
    path = home.mlruns / "figures" / f"{BOARD}.d4" / "final_scores.png"
    assert drawn == {
        "subject": "fashion_mnist_mini.tiny.d4",
        "figure": "final_scores",
        "path": str(path),
        "reason": "",
    }
    assert path.is_file()


def test_a_run_by_the_beginning_of_its_key(
    home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = next(r for r in iter_records(home.records) if r.spec.model == "fc_ae")
    assert figures(record.run_key[:8], "--out", str(tmp_path / "new"), monkeypatch=monkeypatch) == 0
    wanted = {f"{name}.png" for name, row in FIGURES.items() if row.expected(record)}
    assert {path.name for path in (tmp_path / "new").iterdir()} == wanted
    assert "class_scores.png" in wanted and "standard_samples.png" in wanted
    assert "skipped" not in capsys.readouterr().err


def test_pictures_of_some_runs_are_missed_only_of_these(home: Store) -> None:
    """Those of a further task, and the grid of codes of two numbers."""
    record = next(r for r in iter_records(home.records) if r.spec.model == "fc_ae")
    some = {"samplers", "paths", "latent_grid"}
    usual = {name for name, row in FIGURES.items() if row.expected(record)}
    assert usual == {n for n, row in FIGURES.items() if row.suits(record)} - some
    evaluation = dataclasses.replace(record.spec.evaluation, tasks=("generation", "interpolation"))
    measured = dataclasses.replace(
        record,
        spec=dataclasses.replace(record.spec, evaluation=evaluation),
        facts=record.facts | {"code_size": 2},
    )
    assert {n for n, row in FIGURES.items() if row.expected(measured)} == usual | some
    assert FIGURES["samplers"].lacks(measured, {}) == "no generated/ in the record"


def test_records_of_before_keep_the_pictures_that_they_can(
    home: Store,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`home` is listed first: `store` then points the command at its own workspace."""
    for record in iter_records(home.records):
        arrays = read_arrays(home.records, record)
        older = {
            k: v for k, v in arrays.items() if not k.startswith(("label/", "samples/standard"))
        }
        write_record(store.records, record, read_weights(home.records, record), older)
    assert figures("tiny", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert said.err.count("skipped class_map") == 2 and "label/test" in said.err
    assert "side_by_side.png" in said.out
    assert figures(record.run_key, "--json", monkeypatch=monkeypatch) == 0
    found = {item["figure"]: item for item in json.loads(capsys.readouterr().out)}
    assert found["class_scores"]["path"] is None
    assert found["class_scores"]["reason"] == "no label/test in the record"
    assert Path(found["extremes"]["path"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tini"], "unknown run, track, protocol or variant 'tini'; did you mean"),
        ([f"{BOARD}.d5"], "did you mean"),
        (["nowhere.toml"], "nowhere.toml"),
        (["tiny", "--only", "latent"], "unknown figure 'latent'; did you mean latent_map"),
        (["tiny", "--only", "extremes"], "figure extremes is not one of tiny; those are"),
        (["tiny", "--only", ""], "--only: is empty"),
        (["tiny", "--out", ""], "--out: is empty"),
        (["tiny", "--out", __file__], "is a file; --out takes a folder"),
        (["tiny", "--out", f"{__file__}/below"], "cannot write the figures"),
        (["tiny", "--out", "/proc/figures"], "cannot write the figures"),
    ],
)
def test_mistakes_are_one_clear_line(
    home: Store,
    arguments: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert figures(*arguments, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert says in said.err and len(said.err.splitlines()) == 1, said.err
    assert not said.out


def test_an_ambiguous_key_and_an_empty_store(
    store: Store,
    trained: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert figures("abcd", monkeypatch=monkeypatch) == 2
    assert "there are no records" in capsys.readouterr().err
    for end in ("0", "1"):
        folder = store.records / f"abcd{end * 12}"
        folder.mkdir()
        (folder / "record.json").touch()
    monkeypatch.setattr("bench.benchmark.redraw.iter_records", lambda _: iter(()))
    assert figures("abcd", monkeypatch=monkeypatch) == 2
    assert "is ambiguous: abcd000000000000, abcd111111111111" in capsys.readouterr().err


def test_a_run_that_left_nothing_says_so(
    store: Store,
    trained: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = next(r.run_key for r in iter_records(trained.records) if r.spec.model == "mean_image")
    record = read_record(trained.records, key)
    assert record is not None
    write_record(store.records, record, read_weights(trained.records, record), {})
    assert figures(key, monkeypatch=monkeypatch) == 2
    assert f"there is nothing to draw of {key}" in capsys.readouterr().err


def test_nothing_is_loaded_that_pictures_do_not_need(trained: Store) -> None:
    code = (
        "import sys; from bench.benchmark.redraw import redraw; "
        "from bench.core.store import Store; "
        "from pathlib import Path; "
        "found = list(redraw(Store(Path(sys.argv[1])), 'tiny', ['final_scores'])); "
        "print(len(found), sorted({'mlflow', 'optuna', 'torchvision'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(trained.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 []"
