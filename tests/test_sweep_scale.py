"""Sweeps at scale: heads on machines of their own share PostgreSQL and an MLflow server, and the
servers go away in the middle. Minutes each."""

import collections
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer, running_mlflow
from postgres import Server, running_server

from bench.core.store import Store
from bench.records.files import iter_records
from bench.sweep.results import iter_trials
from bench.sweep.storage import open_storage

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
NAME = "tiny.fc_ae.d4"


class Head:
    """`bench sweep` on a machine of its own: a process with a workspace that nobody shares."""

    def __init__(self, home: Path, protocol: str, mlflow: str, *options: str) -> None:
        home.mkdir(exist_ok=True)
        self.store = Store(home)
        self.environment = {**os.environ, "BENCH_HOME": str(home), "MLFLOW_TRACKING_URI": mlflow}
        self._command = ["sweep", "-m", "fc_ae", "-p", protocol, "--workers", "1", *options]
        self.start()

    def start(self) -> None:
        """Give the command, again if need be."""
        self.process = self.bench(*self._command, "--json")

    def bench(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self.environment,
            start_new_session=True,
        )

    def kill(self) -> None:
        """The whole machine, so to speak: the head and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def trials(self) -> int:
        return len(list((self.store.mlruns / "studies" / NAME / "trials").glob("[!.]*.json")))

    def wait_for(self, trials: int, seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while self.trials() < trials and time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)
        assert self.trials() >= trials

    def end(self) -> str:
        """Wait for the command; what it said on stderr."""
        _, errors = self.process.communicate(timeout=400)
        assert self.process.returncode == 0, errors
        return errors


def told_once(mlflow: str, experiment: str) -> dict[str, int]:
    """How many runs of each kind MLflow has, after checks that none is there twice."""
    client = MlflowClient(tracking_uri=mlflow)
    # Where MLflow was away when the experiment should be made, sync makes it from the record alone.
    names = (experiment, f"{experiment} on fashion_mnist_mini")
    found = next(e for name in names if (e := client.get_experiment_by_name(name)) is not None)
    runs = client.search_runs([found.experiment_id])
    keys = collections.Counter(run.data.tags["bench.run_key"] for run in runs)
    assert not [key for key, count in keys.items() if count > 1]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "val/mse")
        steps = [metric.step for metric in history]
        assert steps == sorted(set(steps)), run.info.run_name
        if "search/epochs" in run.data.metrics and run.data.tags.get("trial"):
            assert len(steps) == run.data.metrics["search/epochs"]
    parents = sum("mlflow.parentRunId" not in run.data.tags for run in runs)
    return {"parents": parents, "trials": len(runs) - parents}


def check_study(storage: str, store: Store, trials: int) -> list[optuna.trial.FrozenTrial]:
    """Exactly N finished, none running; returned by number."""
    study = optuna.load_study(study_name=NAME, storage=open_storage(store, storage))
    states = collections.Counter(trial.state.name for trial in study.get_trials())
    assert states["COMPLETE"] + states["PRUNED"] == trials, states
    assert states["RUNNING"] == 0
    return [t for t in study.get_trials() if t.state.name in ("COMPLETE", "PRUNED")]


@pytest.fixture
def long_protocol(tiny_protocol: str) -> str:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 12"))
    return tiny_protocol


def test_heads_on_postgresql_through_a_restart_and_a_kill(
    tmp_path: Path, long_protocol: str
) -> None:
    with running_server() as postgres, running_mlflow(tmp_path / "mlflow") as mlflow:
        _restart_and_kill(tmp_path, long_protocol, postgres, mlflow)


def _restart_and_kill(
    tmp_path: Path, protocol: str, postgres: Server, mlflow: MlflowServer
) -> None:
    """Three heads start at once; the server restarts, one head is killed for good."""
    wanted = 16
    options = ("--storage", postgres.address, "--trials", str(wanted))
    heads = [Head(tmp_path / name, protocol, mlflow.address, *options) for name in "abc"]
    victim, *others = heads
    try:
        victim.wait_for(1)
        postgres.restart()
        victim.wait_for(victim.trials() + 1)
        acknowledged = {record.number for record in iter_trials(victim.store, NAME)}
        victim.kill()
        said = [head.end() for head in others]
    finally:
        for head in heads:
            head.kill()
    finished = check_study(postgres.address, others[0].store, wanted)
    assert acknowledged - {trial.number for trial in finished} in (set(), {max(acknowledged)})
    closed = [head for head in others if list(iter_records(head.store.records))]
    assert len(closed) == 1, "one head trains the winner"
    assert sum("still works on it" in text for text in said) == 1
    points = [tuple(sorted(trial.params.items())) for trial in finished]
    assert len(set(points)) == wanted
    # The killed head's last words reach MLflow when its machine is back.
    victim.start()
    victim.end()
    assert told_once(mlflow.address, "tiny sweeps") == {"parents": 1, "trials": wanted}
    check_study(postgres.address, victim.store, wanted)


def test_half_a_minute_without_mlflow_stalls_nothing_and_loses_nothing(
    tmp_path: Path, long_protocol: str
) -> None:
    with running_mlflow(tmp_path / "mlflow") as mlflow:
        head = Head(tmp_path / "a", long_protocol, mlflow.address, "--trials", "30")
        try:
            head.wait_for(2)
            mlflow.kill()
            gone = time.monotonic()
            while time.monotonic() - gone < 30 and head.process.poll() is None:
                time.sleep(0.1)
            mlflow.start()
            errors = head.end()
        finally:
            head.kill()
        assert "did not take a result" in errors
        ends = sorted(record.finished_unix_ms for record in iter_trials(head.store, NAME))
        assert len(ends) == 30
        longest = max(later - earlier for earlier, later in itertools.pairwise(ends))
        assert longest < 10_000, f"training stood still for {longest / 1000:.1f} s"
        sync = head.bench("sync")
        out, said = sync.communicate(timeout=200)
        assert sync.returncode == 0, said + out
        assert told_once(mlflow.address, "tiny sweeps") == {"parents": 1, "trials": 30}
        records = list(iter_records(head.store.records))
        assert records
        assert told_once(mlflow.address, "tiny")["parents"] == len(records)
        again = head.bench("sync", "--json")
        told = json.loads(again.communicate(timeout=200)[0])
        assert again.returncode == 0
        assert told["told"] == told["missed"] == 0
