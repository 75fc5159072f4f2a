"""`bench doctor` and MLflow's file: damaged, it is put aside and filled again from the records."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import tracked_store
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from tracked_store import client_of, runs_of

from bench.benchmark.doctor import examine
from bench.core.locks import use
from bench.core.repairs import Care
from bench.core.store import Store
from bench.tracking import content
from bench.tracking.database import damage_of
from bench.tracking.mending import mend_runs

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def told(tracked: Store, store: Store) -> Store:
    copied = tracked_store.copy(tracked, store.root)
    list(mend_runs(Care(copied, fix=True)))  # its paths follow
    return copied


def _damage(database: Path, how: str) -> None:
    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose()  # this process has no other file open under that name
    data = bytearray(database.read_bytes())
    if how == "header":
        data[:16] = b"no database here"
    elif how == "pages":
        data[4096:] = bytes(255 - byte for byte in data[4096:])
    elif how == "cut":
        del data[8192:]
    database.write_bytes(data)
    if how == "a table":
        with sqlite3.connect(database) as connection:
            connection.execute("DELETE FROM alembic_version")
        connection.close()


@pytest.mark.parametrize("how", ["pages", "a table"])
def test_a_damaged_file_is_filled_again_from_the_records(told: Store, how: str) -> None:
    database = told.mlruns / "mlflow.db"
    before = {key: run.data.metrics for key, run in runs_of(told).items()}
    _damage(database, how)
    damaged = database.read_bytes()
    (found,) = examine(Care(told))
    assert (found.kind, found.state) == ("damaged databases", "found")
    assert database.read_bytes() == damaged
    fixed = examine(Care(told, fix=True))
    assert [(each.kind, each.state) for each in fixed] == [
        ("damaged databases", "repaired"),
        ("results that MLflow lacks", "repaired"),
    ]
    (aside,) = told.mlruns.glob("quarantine/*/mlflow.db")
    assert aside.read_bytes() == damaged
    assert str(aside.relative_to(told.root)) in str(fixed[0])
    assert {key: run.data.metrics for key, run in runs_of(told).items()} == before
    assert not examine(Care(told, fix=True))


def test_a_file_in_use_is_left_alone(told: Store) -> None:
    database = told.mlruns / "mlflow.db"
    _damage(database, "pages")
    script = (
        "import sys; from pathlib import Path; from bench.core.locks import use\n"
        "use(Path(sys.argv[1])); print(flush=True); sys.stdin.readline()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    before = database.read_bytes()
    states = {each.state for each in examine(Care(told, fix=True))}
    assert "unsolved" in states
    assert database.read_bytes() == before
    holder.communicate(b"\n")
    assert all(each.state == "repaired" for each in examine(Care(told, fix=True)))


def test_who_opens_the_file_is_known_to_use_it(told: Store) -> None:
    """A tracker in this process is no reason to wait for itself."""
    use(told.mlruns / "mlflow.db")
    _damage(told.mlruns / "mlflow.db", "header")
    assert all(each.state == "repaired" for each in examine(Care(told, fix=True)))


def test_another_store_of_a_person_is_never_moved(
    told: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere" / "other.db"
    other.parent.mkdir()
    other.write_bytes(b"no database here" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    found = examine(Care(told, fix=True))
    assert [each.state for each in found] == ["unsolved", "unsolved"]
    assert "not of this workspace" in str(found[0])
    assert other.read_bytes() == b"no database here" * 100


def test_looking_closes_nothing(told: Store) -> None:
    run = next(iter(runs_of(told).values()))
    client = client_of(told)
    client.update_run(run.info.run_id, status="RUNNING")
    client.set_tag(run.info.run_id, content.OWNER, "")
    (found,) = examine(Care(told))
    assert (found.kind, found.state) == ("runs left open in MLflow", "found")
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    assert damage_of(told.mlruns / "mlflow.db") == ""
