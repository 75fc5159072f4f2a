"""A disk that takes no more: one line with the right advice, and no run trained to be lost."""

import errno
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.benchmark.running import RECORD_BYTES, execute_plan
from bench.cli import app
from bench.core import disk
from bench.core.disk import NotWritten, StorageFailed, require_room, storage_failed
from bench.core.protocol import load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import Failed
from bench.execution.places import Workers
from bench.execution.worker import attempt


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "7,000 bytes needed, "),
        (errno.EDQUOT, "free space on "),
        (errno.EROFS, "writable, or set BENCH_HOME"),
        (errno.EACCES, "writable, or set BENCH_HOME"),
        (errno.EIO, "check the disk"),
    ],
)
def test_the_advice_fits_the_failure(tmp_path: Path, number: int, said: str) -> None:
    error = OSError(number, "why", str(tmp_path / "gone" / "record.json"))
    line = str(storage_failed(error, "write the record", tmp_path, 7000))
    assert line.startswith(f"cannot write the record at {tmp_path / 'gone' / 'record.json'}: why; ")
    assert said in line
    assert "move the file" not in line
    assert disk.is_of_storage(NotWritten.of(error, tmp_path))


def test_room_is_asked_for_before_training(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(Request(load_protocol(tiny_protocol)), store)
    monkeypatch.setattr(disk, "_free", lambda place: 4 * RECORD_BYTES - 1)
    with Workers(1, store) as workers, pytest.raises(StorageFailed, match="records of 4 runs"):
        execute_plan(made, workers)


def test_enough_room_is_enough(tmp_path: Path) -> None:
    require_room(tmp_path / "not" / "yet", shutil.disk_usage(tmp_path).free // 2, "this")


def test_locks_are_made_at_start(store: Store) -> None:
    assert store.locks.is_dir()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_worker_says_that_nothing_can_be_written(
    store: Store, tiny_protocol: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    spec = plan(Request(load_protocol(tiny_protocol)), store).specs[0]

    def full(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("bench.execution.runner.write_record", full)
    event = attempt(spec, store, lambda _: False)
    assert isinstance(event, Failed)
    assert event.of_storage
    assert str(store.mlruns) in event.reason


class _FullDisk:
    """An executor whose first run finds the disk full."""

    slots = 1

    def __init__(self) -> None:
        self.running: list[RunSpec] = []
        self.given: list[RunSpec] = []
        self.stopped: list[str] = []

    def submit(self, spec: RunSpec) -> None:
        self.given.append(spec)

    def stop(self, spec: RunSpec) -> None:
        self.stopped.append(spec.run_key)

    def events(self, timeout: float) -> list[Failed]:
        return [Failed(self.given[0], "cannot write", of_storage=True)]


def test_the_first_such_failure_stops_the_plan(store: Store, tiny_protocol: str) -> None:
    from bench.benchmark.running import run_plan
    from bench.tracking.contract import NullTracker

    made = plan(Request(load_protocol(tiny_protocol)), store)
    executor = _FullDisk()
    with pytest.raises(StorageFailed, match="stopped with 0 of 4 runs recorded"):
        list(run_plan(made, store, executor, NullTracker()))  # type: ignore[arg-type]
    assert len(executor.stopped) == 3


def test_the_interface_says_that_its_store_does_not_fit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: Path) -> None:
        path.write_bytes(b"begun")
        connection = sqlite3.connect(":memory:")
        connection.execute("PRAGMA max_page_count = 2")
        try:
            connection.execute("CREATE TABLE t AS SELECT zeroblob(100000) AS b")
        except sqlite3.Error as error:
            raise OperationalError("CREATE TABLE", {}, error) from error

    monkeypatch.setattr("bench.tracking.database._create_tables", full)
    done = CliRunner().invoke(app, ["ui"])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bench: cannot write MLflow's store at {store.mlruns / 'mlflow.db'}: ")
    assert "1,200,000 bytes needed, " in line
    assert not list(store.mlruns.glob("*mlflow.db")), "nothing half made stays"


def test_the_interface_does_not_start_where_its_log_does_not_fit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(path: Path, *rest: Any, **more: Any) -> Any:
        if path.name == "ui.log":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return opened(path, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr("bench.tracking.server.subprocess.Popen", None)
    done = CliRunner().invoke(app, ["ui", "--port", "47391"])
    assert done.exit_code == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"bench: cannot write at {store.mlruns / 'ui.log'}: No space left")
    assert f"free; free space on {store.mlruns}, or set BENCH_HOME" in line
