"""MLflow's data base on disk: made once by many, healed after kills, moved with its folder."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tracked_store
from mlflow import MlflowClient
from tracked_store import client_of, runs_of

from bench.benchmark.doctor import examine
from bench.core.errors import BadInput
from bench.core.owners import owner, owner_state
from bench.core.protocol import Protocol
from bench.core.repairs import Care, Finding
from bench.core.store import Store
from bench.tracking import Began, content, open_tracker
from bench.tracking.address import find_address
from bench.tracking.database import prepare_database
from bench.tracking.mending import mend_runs

CLOSED, PATHS = "runs left open in MLflow", "paths of MLflow"


def mend(store: Store, *, other_hosts: bool = False) -> list[Finding]:
    return list(mend_runs(Care(store, True, other_hosts)))


OPEN = """
import sys
from pathlib import Path
from bench.core.repairs import Care, Finding
from bench.core.store import Store
from bench.tracking.database import prepare_database
store = Store(Path(sys.argv[1])).prepare()
print("ready", flush=True)
prepare_database(store.mlruns / "mlflow.db", store.artifacts)
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=f"sqlite:///{store.mlruns}/mlflow.db")
client.create_run("0")
"""


def _opener(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_four_processes_may_start_on_an_empty_folder(tmp_path: Path) -> None:
    openers = [_opener(tmp_path) for _ in range(4)]
    for opener in openers:
        _, errors = opener.communicate(timeout=120)
        assert opener.returncode == 0, errors
    connection = sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (4,)
    connection.close()


def test_a_kill_while_the_store_is_made_leaves_nothing_broken(tmp_path: Path) -> None:
    database = tmp_path / "mlruns" / "mlflow.db"
    building = database.with_name(".new-mlflow.db")
    opener = _opener(tmp_path)
    deadline = time.monotonic() + 60
    while not (building.exists() and building.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert building.exists(), "the store is not made under another name first"
    opener.send_signal(signal.SIGKILL)
    opener.communicate()
    assert not database.exists()
    prepare_database(database, tmp_path / "mlruns" / "artifacts")
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    assert client.get_experiment("0") is not None


def test_a_store_that_somebody_else_left_half_made_is_made_again(store: Store) -> None:
    database = store.mlruns / "mlflow.db"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    connection.commit()
    connection.close()
    prepare_database(database, store.artifacts)
    assert client_of(store).get_experiment("0") is not None
    assert list(store.mlruns.glob("mlflow.db.broken-*"))


def test_a_file_that_is_no_store_is_named_at_once(store: Store, protocol: Protocol) -> None:
    (store.mlruns / "mlflow.db").write_bytes(b"these are not the tables that you look for" * 99)
    begun = time.monotonic()
    with pytest.raises(BadInput, match=r"mlflow\.db cannot be used"):
        open_tracker(store, protocol, protocol.dataset)
    assert time.monotonic() - begun < 5


def test_a_damaged_store_is_named_at_once(fresh: Store, protocol: Protocol) -> None:
    path = fresh.mlruns / "mlflow.db"
    damaged = bytearray(path.read_bytes())
    damaged[100:4096] = b"\xff" * 3996
    path.write_bytes(bytes(damaged))
    begun = time.monotonic()
    with pytest.raises(BadInput, match=r"mlflow\.db cannot be used"):
        open_tracker(fresh, protocol, protocol.dataset)
    assert time.monotonic() - begun < 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_store_is_named_at_once(fresh: Store, protocol: Protocol) -> None:
    (fresh.mlruns / "mlflow.db").chmod(0o444)
    with pytest.raises(BadInput, match=r"mlflow\.db cannot be used"):
        open_tracker(fresh, protocol, protocol.dataset)


def test_a_folder_as_address_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(BadInput, match="MLFLOW_TRACKING_URI"):
        find_address(store)


def test_a_relative_address_is_made_absolute(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert find_address(store).database == tmp_path / "other.db"


@pytest.mark.parametrize("keep_old", [False, True], ids=["moved", "copied"])
def test_paths_follow_a_moved_folder(
    tracked: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep_old: bool,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    old = tracked_store.copy(tracked, tmp_path / "old")
    mend(old)
    shutil.copytree(old.root, tmp_path / "a new place")
    if not keep_old:
        shutil.rmtree(old.root)
    new = Store(tmp_path / "a new place")
    assert PATHS in [finding.kind for finding in mend(new)]
    assert PATHS not in [finding.kind for finding in mend(new)]
    client, here = client_of(new), new.artifacts.as_uri()
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None and experiment.artifact_location == here
    for run in runs_of(new).values():
        assert run.info.artifact_uri.startswith(here)
        assert "record.json" in {item.path for item in client.list_artifacts(run.info.run_id)}
    for model in client.search_logged_models([experiment.experiment_id]):
        assert model.artifact_location.startswith(here)
        assert client.list_logged_model_artifacts(model.model_id)


def test_runs_of_dead_processes_are_closed_and_live_ones_left(
    fresh: Store,
    protocol: Protocol,
) -> None:
    specs = tracked_store.specs_of(protocol, fresh, "fc_ae")
    tracker = open_tracker(fresh, protocol, protocol.dataset)
    for spec in specs:
        tracker.watch(Began(spec))
    client = client_of(fresh)
    runs = runs_of(fresh)
    live, dead, far = (runs[spec.run_key].info.run_id for spec in specs)
    host, pid, started = owner().rsplit(":", 2)
    client.set_tag(dead, content.OWNER, f"{host}:{pid}:{int(started) - 1000}")
    client.set_tag(far, content.OWNER, f"far-{host}:{pid}:{started}")
    assert [finding.kind for finding in mend(fresh)] == [CLOSED]
    assert client.get_run(live).info.status == "RUNNING"
    assert client.get_run(dead).info.status == "KILLED"
    assert client.get_run(far).info.status == "RUNNING"
    assert [finding.kind for finding in mend(fresh, other_hosts=True)] == [CLOSED]
    assert client.get_run(far).info.status == "KILLED"


@pytest.mark.parametrize("text", ["", "nonsense", "host:x:1", "a:b"])
def test_an_owner_that_cannot_be_read_is_gone(text: str) -> None:
    assert owner_state(text) == "gone"


def test_doctor_completes_a_run_that_was_killed_before_mlflow_heard(
    tracked: Store,
    fresh: Store,
) -> None:
    """The record is on disk, the run in MLflow still RUNNING: it is finished from the record."""
    store = tracked_store.copy(tracked, fresh.root)
    record = tracked_store.cells(store)[0][0]
    client = client_of(store)
    run_id = runs_of(store)[record.run_key].info.run_id
    client.update_run(run_id, status="RUNNING")
    client.delete_tag(run_id, content.COMPLETE)
    client.set_tag(run_id, content.OWNER, "")
    found = examine(Care(store, fix=True))
    assert {finding.kind for finding in found} == {CLOSED, PATHS, "results that MLflow lacks"}
    run = runs_of(store)[record.run_key]
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"
    assert run.info.end_time == record.finished_unix_ms
    assert len(client.get_metric_history(run_id, "test/mse")) == 1
