"""A full disk while something is written: the first failure ends a sweep, workers say which file
and how many bytes, and errors of libraries are known."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from safetensors import SafetensorError
from sweep_support import Scripted, Silent, make_plan, open_book
from typer.testing import CliRunner

from bench import cli
from bench.benchmark.plan import Request, plan
from bench.core.disk import NotWritten, StorageFailed, failure_behind, storage_failed
from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store, write_atomically
from bench.execution import Event, Failed
from bench.execution.worker import attempt
from bench.sweep import running
from bench.sweep.loop import Search
from bench.sweep.results import iter_trials
from bench.tracking.database import prepare_database


class _Full(Scripted):
    """An executor whose third trial finds the disk full."""

    def events(self, timeout: float) -> list[Event]:
        heard = super().events(timeout)
        if len(self.trained) >= 3:
            spec = self.trained[2]
            self._live.pop(spec.run_key, None)
            heard = [event for event in heard if event.spec.run_key != spec.run_key]
            heard.append(Failed(spec, "cannot write at /x: no space", of_storage=True))
        return heard


def test_the_first_trial_that_finds_the_disk_full_ends_the_search(
    store: Store, tiny_protocol: str
) -> None:
    study = make_plan(tiny_protocol, store, trials=9)
    book, workers = open_book(study, store), _Full(slots=1)
    with pytest.raises(StorageFailed, match=r"no space; study tiny.fc_ae.d4 stopped with 2 of 9"):
        list(Search(book, store, workers, Silent()).events())  # type: ignore[arg-type]
    assert len(workers.trained) == 3
    again = open_book(study, store)
    list(Search(again, store, Scripted(), Silent()).events())  # type: ignore[arg-type]
    assert again.counts.finished == 9 and again.counts.given_up == 0


@pytest.mark.parametrize("where", ["result", "optuna"])
def test_a_head_that_cannot_write_ends_the_search(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    study = make_plan(tiny_protocol, store, trials=5)
    book, workers = open_book(study, store), Scripted(slots=2)

    def full(*_: object, **__: object) -> None:
        if where == "result":
            raise NotWritten(errno.ENOSPC, "No space left", str(store.mlruns / "trial.json"))
        raise sa.exc.OperationalError("UPDATE", {}, _sqlite_is_full())

    with monkeypatch.context() as patch:
        if where == "result":
            patch.setattr("bench.sweep.book.write_trial", full)
        else:
            patch.setattr(book.trials, "tell", full)
        with pytest.raises(StorageFailed, match="stopped with 0 of 5 trials"):
            list(Search(book, store, workers, Silent()).events())  # type: ignore[arg-type]
    assert len(workers.trained) <= 2
    again = open_book(study, store)
    list(Search(again, store, Scripted(), Silent()).events())  # type: ignore[arg-type]
    assert again.counts.finished == len(list(iter_trials(store, book.name))) == 5


def test_no_other_study_begins_on_a_full_disk(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def full(plan: object, *_: object) -> None:
        begun.append(plan)
        raise StorageFailed("cannot write at /x: no space")

    monkeypatch.setattr(running, "tune_study", full)
    sweep = ["sweep", "-p", tiny_protocol, "-m", "fc_ae", "-d", "3,4", "--trials", "1"]
    done = CliRunner().invoke(cli.app, sweep)
    assert done.exit_code == 2 and len(begun) == 1
    assert "cannot write at /x: no space" in done.stderr


def test_room_is_asked_for_before_a_search(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.core.disk._free", lambda place: 1000)
    monkeypatch.setenv("BENCH_TRACKING", "off")
    sweep = ["sweep", "-p", tiny_protocol, "-m", "fc_ae", "--trials", "3", "--workers", "1"]
    monkeypatch.setattr("bench.execution.places.Workers.pool", lambda self: Scripted())
    done = CliRunner().invoke(cli.app, sweep)
    assert done.exit_code == 2
    assert "cannot store 3 trials and the runs of the winner" in done.stderr
    assert "bytes needed, 1,000 free" in done.stderr
    assert not list(iter_trials(store, "tiny.fc_ae.d4"))


@pytest.mark.parametrize("name", ["weights.safetensors", "record.json"])
def test_a_worker_names_the_file_and_the_bytes(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spec = plan(Request(load_protocol(tiny_protocol), ("mean_image",)), store).specs[0]
    sizes = []

    def full(path: Path, content: bytes) -> None:
        if path.name != name:
            return write_atomically(path, content)
        sizes.append(len(content))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _raise(OSError(errno.ENOSPC, "No space left on device")))
            return write_atomically(path, content)

    monkeypatch.setattr("bench.records.files.write_atomically", full)
    event = attempt(spec, store, lambda _: False)
    assert isinstance(event, Failed) and event.of_storage
    assert event.reason.startswith(f"cannot write at {store.records / spec.run_key}: No space left")
    assert f"{sizes[0]:,} bytes needed, " in event.reason
    assert not list(store.records.iterdir())


def _raise(error: Exception):
    def fail(*_: object) -> None:
        raise error

    return fail


def test_what_cannot_be_read_is_no_full_disk(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec: RunSpec = plan(Request(load_protocol(tiny_protocol), ("mean_image",)), store).specs[0]
    for number in (errno.EACCES, errno.EMFILE, errno.ENOENT):
        error = OSError(number, "why", "/data/images.gz")
        monkeypatch.setattr("bench.execution.runner._splits", _raise(error))
        event = attempt(spec, store, lambda _: False)
        assert isinstance(event, Failed) and not event.of_storage
        assert event.reason == "/data/images.gz: why" and not event.detail


def _sqlite_is_full() -> sqlite3.Error:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 2")
    try:
        connection.execute("CREATE TABLE t AS SELECT zeroblob(100000) AS b")
    except sqlite3.Error as error:
        return error
    finally:
        connection.close()
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (_sqlite_is_full(), errno.ENOSPC),
        (sa.exc.OperationalError("INSERT", {}, _sqlite_is_full()), errno.ENOSPC),
        (SafetensorError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (SafetensorError("I/O error: Read-only file system (os error 30)"), errno.EROFS),
        (OSError(errno.EDQUOT, "over quota"), errno.EDQUOT),
        (OSError(errno.EFBIG, "too large"), errno.EFBIG),
        (SafetensorError("Error while deserializing header"), None),
        (sqlite3.DatabaseError("database disk image is malformed"), None),
        (OSError(errno.ENOENT, "no such file"), None),
        (ValueError("x"), None),
    ],
)
def test_errors_of_libraries_are_known(error: Exception, number: int | None) -> None:
    wrapped = RuntimeError("a library's own words")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        found = failure_behind(each)
        assert (found and found.errno) == number


def test_a_limit_of_file_sizes_has_its_own_advice(tmp_path: Path) -> None:
    error = NotWritten.of(OSError(errno.EFBIG, "File too large"), tmp_path / "x", 5000)
    assert "5,000 bytes needed; raise the limit" in str(storage_failed(error, "write", tmp_path))


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY])
def test_a_store_on_a_full_disk_is_not_to_be_moved_away(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    error = sqlite3.OperationalError("no room, or read-only")
    error.sqlite_errorcode = code
    database = store.mlruns / "mlflow.db"
    sqlite3.connect(database).execute("CREATE TABLE t (x)")
    monkeypatch.setattr("bench.tracking.database._open", _raise(error))
    with pytest.raises(BadInput, match=f"cannot write MLflow's store at {database}") as caught:
        prepare_database(database, store.artifacts)
    assert isinstance(caught.value, StorageFailed)
    assert "aside" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="no limit of file sizes")
def test_a_real_limit_leaves_nothing_behind(store: Store) -> None:
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(NotWritten) as caught:
            write_atomically(store.mlruns / "x.bin", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (caught.value.errno, caught.value.needed) == (errno.EFBIG, 5000)
    assert caught.value.filename == str(store.mlruns / "x.bin")
    assert [path.name for path in store.mlruns.iterdir() if path.is_file()] == [".bench"]
