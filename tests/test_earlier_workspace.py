"""A workspace made by the version before boards goes on, and nothing in it is trained again.

`earlier_workspace.tar.xz` was made by that version in another folder: own images under a protocol
of one's own (`mine.toml`: tables, a champion, a study of two trials with a winner) and a stopped
run with its checkpoint (`long.toml`).
"""

import contextlib
import json
import os
import tarfile
import time
from pathlib import Path

import pytest

import bench
from bench.benchmark.doctor import examine
from bench.benchmark.plan import Request, plan
from bench.core.errors import CheckFailed
from bench.core.protocol import Protocol, load_protocol
from bench.core.repairs import Care
from bench.core.store import Store
from bench.execution import runner
from bench.execution.runner import StoppedEarly, execute
from bench.records.files import iter_records, read_arrays, read_weights
from bench.registry.champions import champions
from bench.registry.earlier import convert_names
from bench.registry.publishing import check, write
from bench.registry.results import Scope
from bench.registry.verification import raise_problems, targets, verify
from bench.sweep.results import iter_trials

PACKED = Path(__file__).with_name("earlier_workspace.tar.xz")
KEYS = {"18fc4f1225549b30", "ae828397105b6984", "bd11abfa02d35f0a", "c4a9bb6d5ac63c67"}
STUDY = "mine.npz.clothes.cnn_ae.d3"


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The workspace, in another folder than where it was made."""
    with tarfile.open(PACKED) as packed:
        packed.extractall(tmp_path, filter="data")
    root = tmp_path / "work"
    monkeypatch.setenv("BENCH_HOME", str(root))
    monkeypatch.setenv("BENCH_TRACKING", "off")
    monkeypatch.chdir(root)
    return Store(root).prepare()


def mine() -> Protocol:
    return load_protocol("mine.toml")


def label(store: Store) -> str:
    (found,) = {record.spec.dataset_label for record in iter_records(store.records)}
    return found


def test_records_are_read_as_they_are_and_need_no_training(earlier, monkeypatch):
    records = list(iter_records(earlier.records))
    assert {record.run_key for record in records} == KEYS
    assert {record.spec.run_key for record in records} == KEYS
    assert label(earlier) == f"npz.clothes-{records[0].spec.data_digest[:6]}"
    assert {r.spec.model: r.closed_form for r in records} == {
        "mean_image": True,
        "pca": True,
        "cnn_ae": False,
    }
    monkeypatch.setattr(runner, "_fit", None)
    made = plan(Request(mine(), device="cpu"), earlier)
    assert not made.missing
    assert made.dataset_label == label(earlier)
    for spec in made.specs:
        execute(spec, earlier, runner.ignore_epochs)
    frame = bench.table("mine.toml")
    assert {"mean_image", "pca", "cnn_ae"} <= set(frame["row"])


def test_doctor_converts_every_record_and_the_registry(earlier):
    before = {
        record.run_key: (record, read_weights(earlier.records, record))
        for record in iter_records(earlier.records)
    }
    table = (earlier.registry / "results.csv").read_text()
    files = {path: path.read_bytes() for path in earlier.root.rglob("*") if path.is_file()}
    for fix, state in ((False, "found"), (True, "repaired")):
        found = examine(Care(earlier, fix))
        kinds = [finding.kind for finding in found if finding.state == state]
        assert kinds.count("records of an earlier version") == len(KEYS)
        assert kinds.count("names of own data in the registry") == 1
        if not fix:
            assert files == {path: path.read_bytes() for path in files}
    for record in iter_records(earlier.records):
        assert (record, read_weights(earlier.records, record).keys()) == (
            before[record.run_key][0],
            before[record.run_key][1].keys(),
        )
        assert read_arrays(earlier.records, record)
        folder = earlier.records / record.run_key
        assert json.loads((folder / "record.json").read_text())["schema_version"] == 2
        assert not (folder / "arrays.safetensors").exists()
    assert label(earlier) in (earlier.registry / "results.csv").read_text()
    assert table.count("\n") == (earlier.registry / "results.csv").read_text().count("\n")
    assert not examine(Care(earlier))


def test_what_was_recorded_verifies_where_the_workspace_is_now(earlier):
    chosen = targets(earlier, [], everything=True)
    assert len(chosen) == len(KEYS) + 1
    raise_problems(list(verify(earlier, chosen)))
    examine(Care(earlier, fix=True))
    raise_problems(list(verify(earlier, targets(earlier, [], everything=True))))


def test_the_champion_keeps_its_track(earlier):
    examine(Care(earlier, fix=True))
    (card,) = champions(earlier.registry).values()
    assert card.track == f"{label(earlier)}.mine.d3"
    assert "/home/" not in (earlier.registry / card.folder / "card.json").read_text()
    assert bench.load(f"{label(earlier)}.mine.d3").code_size == 3
    assert sorted(path.name for path in earlier.registry.iterdir() if path.is_dir()) == [
        label(earlier)
    ]
    assert check_again(earlier)


def check_again(earlier):
    """Comparisons by the rule of then are made again from the records, by `bench leaderboard`."""
    with pytest.raises(CheckFailed, match="bench leaderboard --write"):
        check(earlier)
    write(earlier, Scope(), refresh=False)
    return check(earlier)


@pytest.mark.parametrize("step", range(1, 12))
def test_a_kill_while_names_are_converted_loses_nothing(earlier, monkeypatch, step):
    """Stopped at its n-th rename: the next doctor ends it."""
    rename, count = os.rename, []

    def dying(*given, **more):
        count.append(given)
        if len(count) == step:
            raise SystemExit
        rename(*given, **more)

    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(os, "rename", dying)
        patch.setattr(os, "replace", dying)
        convert_names(earlier)
    convert_names(earlier)
    (card,) = champions(earlier.registry).values()
    assert card.track == f"{label(earlier)}.mine.d3"
    assert check_again(earlier)
    assert convert_names(earlier) == 0


def test_a_study_goes_on_with_the_trials_that_it_has(earlier):
    before = {trial.spec.run_key for trial in iter_trials(earlier, STUDY)}
    assert len(before) == 2
    bench.tune("cnn_ae", "mine.toml", trials=3, workers=1)
    after = {trial.spec.run_key for trial in iter_trials(earlier, STUDY)}
    assert before < after
    assert len(after) == 3


def test_a_stopped_run_goes_on_from_its_checkpoint(earlier):
    (spec,) = plan(Request(load_protocol("long.toml"), seeds=(0,), device="cpu"), earlier).missing
    began = int(time.time() * 1000)
    trained = []

    def stop(values):
        trained.extend([values.epoch] if values.unix_ms >= began else [])
        return bool(trained)

    with pytest.raises(StoppedEarly):
        execute(spec, earlier, stop)
    assert trained[0] > 100
