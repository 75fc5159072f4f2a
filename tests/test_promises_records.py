"""What is on disk is there completely or not at all, also through a kill or a power cut: bytes are
forced to the disk before they get their name, names are forced there after it, and what a kill
left aside comes back."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from invented import invent_row, record_of, specs_of
from registry_store import D8, files_of, tiny_protocol

from bench.benchmark.forecast import known_forecast
from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import Protocol
from bench.core.repairs import Care
from bench.core.spec import RunRecord, SplitSizes
from bench.core.store import Store, new_folder, write_atomically
from bench.records.files import (
    damage_of,
    iter_records,
    read_arrays,
    read_record,
    read_weights,
    record_folder,
    survey_records,
    write_record,
)
from bench.records.mending import remove_temporary
from bench.records.studies import read_study
from bench.registry import champions as folders
from bench.registry import publishing
from bench.registry.cards import read_card
from bench.registry.changes import mend_registry
from bench.registry.confirmations import read_confirmations
from bench.registry.pages import read_page
from bench.registry.promotion import promote, rollback
from bench.registry.results import Scope, read_results
from bench.sweep.winner import read_winner
from bench.training.checkpoint import load_checkpoint

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")

OLD = {"val": {"mse": 0.03}, "test": {"mse": 0.03}}
NEW = {"val": {"mse": 0.03, "mae": 0.1}, "test": {"mse": 0.03, "mae": 0.1}}
WEIGHTS = {"w": np.arange(3, dtype=np.float32)}
ARRAYS = {"test/mse": np.full(4, 0.03, dtype=np.float32)}


@pytest.fixture
def small(store: Store) -> Protocol:
    return tiny_protocol(store.root)


@pytest.fixture
def record(store: Store, small: Protocol) -> RunRecord:
    """A record that is not written yet."""
    return record_of(specs_of(store, small, "fc_ae")[0], OLD)


@pytest.fixture
def replaced_once(store: Store, small: Protocol) -> Store:
    """A champion, fc_ae, that took the place of another, deep_ae."""
    for model, score in (("deep_ae", 0.04), ("fc_ae", 0.03)):
        invent_row(store, small, model, val=score, test=score)
        publishing.write(store, Scope(), refresh=False)
        promote(store, Scope())
    return store


def identity(path: Path) -> int:
    """What stays the same when a file or folder gets another name."""
    return path.stat().st_ino


class Disk(list[tuple[str, int]]):
    """What was asked of the disk, in order: "sync", "name" or "remove", and of what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.bytes: dict[int, int] = {}
        fsync, rename, replace, remove = os.fsync, os.rename, os.replace, shutil.rmtree

        def synced(handle):
            fsync(handle)
            about = os.fstat(handle)
            self.append(("sync", about.st_ino))
            self.bytes[about.st_ino] = about.st_size

        def renamed(source, target, **more):
            rename(source, target, **more)
            self.append(("name", identity(Path(target))))

        def replaced(source, target, **more):
            replace(source, target, **more)
            self.append(("name", identity(Path(target))))

        def removed(path, *rest, **more):
            if Path(path).exists():
                self.append(("remove", identity(Path(path))))
            remove(path, *rest, **more)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "rename", renamed)
        monkeypatch.setattr(os, "replace", replaced)
        monkeypatch.setattr(shutil, "rmtree", removed)

    def holds_in_order(self, *wanted: tuple[str, int]) -> bool:
        """Whether these happened one after the other, whatever else happened in between."""
        rest = iter(self)
        return all(step in rest for step in wanted)


def snapshots(monkeypatch: pytest.MonkeyPatch, folder: Path, into: Path) -> list[Path]:
    """Copies of a folder as it was before and after every renaming and removal: what a kill at
    that moment would have left."""
    copies: list[Path] = []

    def watching(work):
        def watched(*given, **more):
            for moment in ("before", "after"):
                if moment == "after":
                    work(*given, **more)
                copies.append(into / str(len(copies)))
                shutil.copytree(folder, copies[-1])

        return watched

    for module, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, watching(getattr(module, name)))
    return copies


# Power cuts.


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_after_it(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "result.json"
    for content in (b"first", b"second one"):
        with monkeypatch.context() as patch:
            disk = Disk(patch)
            write_atomically(path, content)
        file, folder = identity(path), identity(path.parent)
        assert disk == [("sync", file), ("name", file), ("sync", folder)]
        assert disk.bytes[file] == len(content)
        assert path.read_bytes() == content
        assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


def test_a_record_is_on_the_disk_before_it_has_its_name_and_the_name_after_it(
    store, record, monkeypatch
):
    disk = Disk(monkeypatch)
    write_record(store.records, record, WEIGHTS, ARRAYS)
    folder = record_folder(store.records, record.run_key)
    place, within = identity(folder), identity(store.records)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        file, inner = identity(path), identity(path.parent)
        assert disk.bytes[file] == path.stat().st_size
        steps = [("sync", file), ("name", file), ("sync", inner), ("name", place)]
        assert disk.holds_in_order(*steps, ("sync", within)), path
        for above in path.relative_to(folder).parents:
            steps = [("sync", identity(folder / above)), ("name", place)]
            assert disk.holds_in_order(*steps), above


def test_an_older_record_goes_when_the_new_one_is_on_the_disk(store, record, monkeypatch):
    write_record(store.records, record, WEIGHTS, ARRAYS)
    folder = record_folder(store.records, record.run_key)
    older, within = identity(folder), identity(store.records)
    disk = Disk(monkeypatch)
    write_record(store.records, dataclasses.replace(record, scores=NEW), WEIGHTS, ARRAYS)
    newer = identity(folder)
    assert newer != older
    assert disk.holds_in_order(
        ("name", older), ("name", newer), ("sync", within), ("remove", older)
    )


def test_an_older_champion_goes_when_the_new_one_is_on_the_disk(replaced_once, monkeypatch):
    folder = replaced_once.registry / folders.champion(replaced_once.registry, D8).folder
    older, within = identity(folder), identity(folder.parent)
    disk = Disk(monkeypatch)
    rollback(replaced_once, D8)
    newer = identity(folder)
    assert disk[-1][0] == "remove"  # the folder of the change, with the older champion in it
    assert disk.holds_in_order(
        ("sync", newer), ("name", older), ("name", newer), ("sync", within), disk[-1]
    )


# Kills.


def test_a_kill_at_any_moment_leaves_the_old_record_or_the_new(
    store, record, tmp_path, monkeypatch
):
    old = write_record(store.records, record, WEIGHTS, ARRAYS)
    with monkeypatch.context() as patch:
        left = snapshots(patch, store.records, tmp_path / "left")
        changed = dataclasses.replace(record, scores=NEW)
        new = write_record(store.records, changed, WEIGHTS, ARRAYS)
    found = []
    for records in left:
        (there,) = iter_records(records)
        assert read_record(records, record.run_key) == there
        assert read_weights(records, there).keys() == WEIGHTS.keys()
        assert read_arrays(records, there).keys() == ARRAYS.keys()
        found.append(there)
    assert {old.to_json(), new.to_json()} == {there.to_json() for there in found}
    # Once the new one was there, it stayed.
    first = found.index(new)
    assert found == [old] * first + [new] * (len(found) - first)


def test_a_kill_at_any_moment_leaves_the_old_champion_or_the_new(
    replaced_once, tmp_path_factory, monkeypatch
):
    with monkeypatch.context() as patch:
        left = snapshots(patch, replaced_once.root, tmp_path_factory.mktemp("left"))
        rollback(replaced_once, D8)
    found = []
    for root in left:
        registry = Store(root).registry
        mend_registry(Store(root))
        assert folders.check_champions(registry) == 1
        (card,) = folders.champions(registry).values()
        found.append(card.spec.model)
    first = found.index("deep_ae")
    assert 0 < first < len(found)
    assert found == ["fc_ae"] * first + ["deep_ae"] * (len(found) - first)


@pytest.mark.parametrize("look", [read_record, lambda records, _: next(iter_records(records))])
def test_a_record_that_a_kill_left_aside_comes_back(store, record, look):
    made = write_record(store.records, record, WEIGHTS, ARRAYS)
    folder = record_folder(store.records, made.run_key)
    folder.rename(folder.with_name(f".aside-{made.run_key}"))
    assert look(store.records, made.run_key) == made
    assert [path.name for path in store.records.iterdir()] == [made.run_key]
    assert read_weights(store.records, made).keys() == WEIGHTS.keys()


def test_what_a_kill_left_aside_gives_way_to_the_newer_record(store, record):
    older = write_record(store.records, record, WEIGHTS, ARRAYS)
    folder = record_folder(store.records, record.run_key)
    shutil.copytree(folder, folder.with_name(f".aside-{older.run_key}"))
    newer = write_record(store.records, dataclasses.replace(record, scores=NEW), WEIGHTS, ARRAYS)
    assert list(iter_records(store.records)) == [newer]
    assert [path.name for path in store.records.iterdir()] == [newer.run_key]


def test_a_champion_that_a_kill_left_aside_comes_back(replaced_once):
    registry = replaced_once.registry
    folder = registry / folders.champion(registry, D8).folder
    before = files_of(folder)
    folder.rename(folder.with_name(f".aside-{folder.name}"))
    assert mend_registry(replaced_once) == 1
    assert folders.champion(registry, D8).spec.model == "fc_ae"
    assert files_of(folder) == before
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_a_champion_aside_gives_way_to_the_newer_and_half_a_one_counts_for_nothing(replaced_once):
    registry = replaced_once.registry
    folder = registry / folders.champion(registry, D8).folder
    shutil.copytree(folder / "previous", folder.with_name(f".aside-{folder.name}"))
    half = folder.with_name(f".new-{folder.name}-x")
    half.mkdir()
    (half / "card.json").write_text('{"schema_version": 1,')
    assert promote(replaced_once, Scope()).changed == []
    assert folders.champion(registry, D8).spec.model == "fc_ae"
    assert not list(registry.rglob(".*"))


def test_a_record_that_cannot_be_written_leaves_the_old_one_and_no_rest(store, record, monkeypatch):
    made = write_record(store.records, record, WEIGHTS, ARRAYS)
    rename = os.rename

    def failing(source, target, **more):
        if Path(source).name.startswith(".new-"):
            raise OSError(28, "No space left on device", str(target))
        rename(source, target, **more)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="No space left"):
        write_record(store.records, dataclasses.replace(record, scores=NEW), WEIGHTS, ARRAYS)
    monkeypatch.undo()
    assert read_record(store.records, made.run_key) == made
    assert [path.name for path in store.records.iterdir()] == [made.run_key]


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"newer")
    assert files_of(tmp_path) == {"result.json": b"old"}


def test_leftovers_are_removed_when_nobody_writes_there_any_more(store, record):
    made = write_record(store.records, record, WEIGHTS, ARRAYS)
    old = store.records / ".new-b-2"
    old.mkdir()
    with new_folder(store.records / "a", ".new-a-") as fresh:
        assert survey_records(store.records) == ([made], [])
        assert len(list(remove_temporary(Care(store, fix=True)))) == 1
        assert {path.name for path in store.records.iterdir()} == {fresh.name, made.run_key}
    assert len(list(remove_temporary(Care(store, fix=True)))) == 1
    assert [path.name for path in store.records.iterdir()] == [made.run_key]


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


NO_FILES = {"a folder": _folder, "a loop of links": _loop, "a pipe": os.mkfifo, "a device": _device}


@pytest.mark.parametrize("what", NO_FILES)
@pytest.mark.parametrize(
    "name", ["record.json", "weights.safetensors", "scores/*/arrays.safetensors"]
)
def test_a_record_with_no_file_where_one_belongs_is_damaged(store, record, what, name):
    written = write_record(store.records, record, WEIGHTS, ARRAYS)
    (path,) = record_folder(store.records, record.run_key).glob(name)
    kept = path.rename(store.root / "kept")
    path.symlink_to(kept)
    assert not damage_of(store.records, record.run_key), "a link to a file is one"
    path.unlink()
    NO_FILES[what](path)
    assert f"{path} is {what}, expected a file" in damage_of(store.records, record.run_key)
    with pytest.raises(CheckFailed, match=what):
        {"r": list_of, "w": read_weights, "s": read_arrays}[name[0]](store.records, written)
    write_record(store.records, record, WEIGHTS, ARRAYS)
    assert not damage_of(store.records, record.run_key), "it is trained again"


def list_of(records: Path, _: RunRecord) -> list[RunRecord]:
    return list(iter_records(records))


@pytest.mark.parametrize("what", NO_FILES)
def test_other_files_that_are_none_are_named(store, what):
    store.prepare()
    readers = {
        store.registry / "results.csv": lambda _: read_results(store.registry),
        store.registry / "calibration.csv": lambda _: read_results(store.registry),
        store.registry / "confirmations.csv": lambda _: read_confirmations(store.registry),
        store.registry / "leaderboard.md": read_page,
        store.registry / "set" / "d8" / "card.json": lambda path: read_card(path, "card"),
        store.registry / "studies" / "one.json": lambda path: read_study(path, "study"),
        store.checkpoints / "one.safetensors": load_checkpoint,
        store.mlruns / "winner.toml": read_winner,
        store.costs: lambda _: known_forecast([], SplitSizes(1, 1, 1, (1, 1, 1)), store, 1),
    }
    for path, read in readers.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        NO_FILES[what](path)
        with pytest.raises((CheckFailed, BadInput)) as caught:
            read(path)
        assert f"{path} is {what}, expected a file; " in str(caught.value)
        path.rmdir() if what == "a folder" else path.unlink()


def test_a_folder_is_not_written_over(tmp_path):
    with pytest.raises(CheckFailed, match="is a folder, expected a file; move it away"):
        write_atomically(tmp_path, b"x")
