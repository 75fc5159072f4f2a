"""A local Ray cluster of two nodes: what a pool of processes does, and nodes that are lost."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from sweep_support import Silent, make_plan, open_book
from test_execution import _until

from bench.benchmark.plan import Request, plan
from bench.core.errors import BadInput
from bench.core.owners import owner
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution import EpochEnded, Failed, Finished, Halted, Lost, Started
from bench.execution.cluster import RayPool, Resources, connect
from bench.execution.places import choose_place
from bench.records.files import read_arrays, read_record, read_weights
from bench.sweep.events import SweepEvent, TrialDone, TrialEpoch, TrialPutBack
from bench.sweep.loop import Search


def test_slots_and_shares_follow_the_resources() -> None:
    assert Resources(cpus=16, gpus=0).slots(threads=2) == 8
    assert Resources(cpus=16, gpus=4).slots(threads=2) == 4
    assert Resources(cpus=1, gpus=0).slots(threads=4) == 1
    two = Resources(cpus=8, gpus=2)
    assert [two.gpu_share(n) for n in (1, 2, 3, 4, 5)] == [1, 1, 1 / 2, 1 / 2, 1 / 3]
    assert Resources(cpus=8, gpus=0).gpu_share(3) == 0


def test_an_unknown_executor_is_named() -> None:
    with pytest.raises(BadInput, match="did you mean ray"):
        choose_place("rai", "auto", 1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head node that does no work, and two nodes with two cores each."""
    pytest.importorskip("ray", reason="ray is not installed (pip install ray)")
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
    with _path_for_workers():
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        for _ in range(2):
            made.add_node(num_cpus=2)
        made.wait_for_nodes()
        yield made
        made.shutdown()


@contextlib.contextmanager
def _path_for_workers() -> Iterator[None]:
    """Workers find bench where this process found it, installed or not."""
    before = os.environ.get("PYTHONPATH")
    root = str(Path(__file__).parent.parent)
    os.environ["PYTHONPATH"] = root if before is None else f"{root}{os.pathsep}{before}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def pool_of(cluster: Any, workers: int, store: Store) -> Iterator[RayPool]:
    connect(cluster.address)
    made = RayPool(workers, store, 1, 0.0)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.slow
def test_a_spec_becomes_epochs_and_a_record_in_the_head_s_store(
    cluster: Any, tiny_protocol: str, store: Store
) -> None:
    specs = plan(Request(load_protocol(tiny_protocol), ("fc_ae",)), store).specs
    with pool_of(cluster, 1, store) as pool:
        for spec in specs:
            pool.submit(spec)
        heard = _until(pool, Finished, 180)
        while sum(isinstance(event, Finished) for event in heard) < len(specs):
            heard += _until(pool, Finished)
    for spec in specs:
        mine = [event for event in heard if event.spec == spec]
        kinds = [type(event) for event in mine]
        assert kinds == [Started, EpochEnded, EpochEnded, EpochEnded, Finished]
        record = read_record(store.records, spec.run_key)
        assert record == mine[-1].record  # type: ignore[union-attr]
        assert record is not None
        assert read_weights(store.records, record)
        assert read_arrays(store.records, record)


@pytest.mark.slow
def test_a_stop_brings_the_checkpoint_home_and_the_run_goes_on_from_it(
    cluster: Any, tiny_protocol: str, store: Store
) -> None:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 400"))
    spec = plan(Request(load_protocol(tiny_protocol), ("fc_ae",)), store).specs[0]
    with pool_of(cluster, 1, store) as pool:
        pool.submit(spec)
        before = _until(pool, EpochEnded, 180)
        pool.stop(spec)
        before += _until(pool, Halted)
        assert (store.checkpoints / f"{spec.run_key}.safetensors").is_file()
        pool.submit(spec)
        again = _until(pool, EpochEnded)
        first = next(e.values for e in again if isinstance(e, EpochEnded))
        # With the time of then: it was read from the checkpoint, not trained again.
        assert first in [e.values for e in before if isinstance(e, EpochEnded)]
        _kill_trainer(pool, 0)
        assert isinstance(_until(pool, Lost)[-1], Lost)
        _until(pool, EpochEnded, 180)
        _kill_trainer(pool, 0)
        failed = _until(pool, Failed)[-1]
        assert isinstance(failed, Failed)
        assert "died twice" in failed.reason


def _kill_trainer(pool: RayPool, index: int) -> None:
    os.kill(int(pool._slots[index].where.split()[1]), signal.SIGKILL)


class _Disaster:
    """Kills a worker after the third finished trial, and a whole node after the sixth."""

    def __init__(self, cluster: Any, pool: RayPool) -> None:
        self._cluster, self._pool = cluster, pool
        self._finished = 0
        self.done: list[str] = []

    def _other_node(self) -> Any:
        """A node that this process is not attached to itself."""
        from ray._private.worker import global_worker

        mine = global_worker.node._raylet_socket_name
        return next(n for n in self._cluster.worker_nodes if n._raylet_socket_name != mine)

    def hear(self, event: SweepEvent) -> None:
        self._finished += isinstance(event, TrialDone)
        if not isinstance(event, TrialEpoch):
            return
        if self._finished >= 3 and not self.done:
            busy = next(i for i, slot in enumerate(self._pool._slots) if slot.spec is not None)
            _kill_trainer(self._pool, busy)
            self.done.append("worker")
        elif self._finished >= 6 and self.done == ["worker"]:
            node = self._other_node()
            self._cluster.remove_node(node, allow_graceful=False)
            self.done.append("node")


@pytest.mark.slow
def test_a_search_survives_a_lost_worker_and_a_lost_node(
    cluster: Any, tiny_protocol: str, store: Store
) -> None:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 40"))
    wanted = 14
    study = make_plan(tiny_protocol, store, trials=wanted, sampler="random")
    events: list[SweepEvent] = []
    with pool_of(cluster, 4, store) as pool:
        disaster = _Disaster(cluster, pool)
        book = open_book(study, store, owner())
        for event in Search(book, store, pool, Silent()).events():  # type: ignore[arg-type]
            disaster.hear(event)
            events.append(event)
    assert disaster.done == ["worker", "node"]
    done = [event.ticket for event in events if isinstance(event, TrialDone)]
    assert len(done) == wanted
    assert len({ticket.key for ticket in done}) == wanted
    assert [e for e in events if isinstance(e, TrialPutBack) and "is gone" in e.reason]
    states = [trial.state for trial in book.trials.all()]
    assert optuna.trial.TrialState.RUNNING not in states
    outcomes = [e.record.outcome for e in events if isinstance(e, TrialDone)]
    assert outcomes.count("pruned") > 0, "a stop must reach the other machines"


def test_no_cluster_is_one_line() -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install ray)")
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(BadInput, match="no Ray cluster answers"):
        connect("127.0.0.1:1")


def test_nothing_is_left_running() -> None:
    """Actors end with their head: what this process started is gone."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        names = [p.name() for p in psutil.Process().children(recursive=True)]
        if not [name for name in names if "Trainer" in name]:
            return
        time.sleep(0.5)
    raise AssertionError(names)
