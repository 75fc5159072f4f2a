"""Several commands on one store at once: no run twice, no error, nothing doubled in MLflow."""

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sweep_support import Scripted

from bench.benchmark.plan import Request, plan
from bench.benchmark.sharing import SharedQueue
from bench.core.protocol import load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import LocalPool
from bench.execution.runner import execute, ignore_epochs
from bench.records.files import iter_records
from bench.sweep.results import iter_trials

ROOT = Path(__file__).parent.parent


class Holding(Scripted):
    """An executor that keeps what it was given."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.given: list[RunSpec] = []

    def submit(self, spec: RunSpec) -> None:
        self.given.append(spec)


def test_two_queues_share_their_runs(tiny_protocol: str, store: Store) -> None:
    request = Request(load_protocol(tiny_protocol), ("fc_ae",), seeds=tuple(range(6)))
    specs = plan(request, store).specs
    first, second = Holding(slots=1), Holding(slots=2)
    with SharedQueue(specs, store, first) as one, SharedQueue(specs, store, second) as other:
        assert not list(one.hand_out())
        assert not list(other.hand_out())
        assert first.given == list(specs[:2])
        assert second.given == list(specs[2:])
        record = execute(specs[0], store, ignore_epochs)
        assert not list(other.hand_out()), "the first still tells of it"
        one.release(specs[0].run_key)
        assert list(other.hand_out()) == []  # it has no room until something of its own ends
        other.release(specs[2].run_key)
        assert list(other.hand_out()) == [(specs[0], record)]
        assert second.given == list(specs[2:])
    with SharedQueue(specs[1:2], store, second) as later:
        list(later.hand_out())
        assert second.given[-1] == specs[1], "a lock ends with its holder"
    assert not list((store.mlruns / "locks").glob("*.lock"))


def test_a_pool_is_an_executor_for_a_queue(tiny_protocol: str, store: Store) -> None:
    spec = plan(Request(load_protocol(tiny_protocol), ("mean_image",)), store).specs[0]
    pool = LocalPool(1, store)
    try:
        with SharedQueue([spec], store, pool) as queue:
            assert not list(queue.hand_out())
            deadline = 240
            while not list(iter_records(store.records)) and deadline:
                pool.events(timeout=0.5)
                deadline -= 1
        with SharedQueue([spec], store, pool) as queue:
            ((found, record),) = queue.hand_out()
            assert found == spec
            assert record.run_key == spec.run_key
    finally:
        pool.close()


@pytest.mark.slow
def test_four_commands_at_once_on_an_empty_folder(tmp_path: Path, tiny_protocol: str) -> None:
    """Two runs and two sweeps of the same: each run once, six trials, MLflow told once."""
    home = tmp_path / "empty"
    home.mkdir()
    environment = {**os.environ, "BENCH_HOME": str(home)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    options = ["-p", tiny_protocol, "--workers", "1", "--json"]
    sweep = ["sweep", "-m", "fc_ae", "--trials", "6", *options]
    commands = [["run", *options], ["run", *options], sweep, sweep]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        for arguments in commands
    ]
    said = [process.communicate(timeout=400) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    answers = [json.loads(out) for out, _ in said]
    store = Store(home)
    keys = {record.run_key for record in iter_records(store.records)}
    default = {run["run_key"] for run in answers[0]["runs"]}
    assert default == {run["run_key"] for run in answers[1]["runs"]}
    assert default <= keys
    assert len(list(iter_trials(store, "tiny.fc_ae.d4"))) == 6
    client = MlflowClient(tracking_uri=f"sqlite:///{store.mlruns / 'mlflow.db'}")
    for name, wanted in {"tiny": len(keys), "tiny sweeps": 1 + 6}.items():
        experiment = client.get_experiment_by_name(name)
        runs = client.search_runs([experiment.experiment_id])
        told = collections.Counter(run.data.tags["bench.run_key"] for run in runs)
        assert len(told) == len(runs) == wanted
        assert {run.info.status for run in runs} == {"FINISHED"}
        for run in runs:
            history = client.get_metric_history(run.info.run_id, "val/mse")
            steps = [metric.step for metric in history]
            assert len(steps) == len(set(steps))
