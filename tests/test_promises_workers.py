"""Workers: deaf to Ctrl-C, fast where numbers are tiny, careful with data and checkpoints."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.benchmark.plan import Request, plan
from bench.core.errors import CheckFailed
from bench.core.protocol import load_protocol
from bench.core.spec import EpochValues, RunSpec, TrialSpec
from bench.core.store import Store
from bench.execution import EpochEnded, Event, Finished, Halted, LocalPool, Lost, Started, local
from bench.execution.runner import (
    StoppedEarly,
    execute,
    execute_trial,
    ignore_epochs,
)
from bench.records.files import iter_records

ROOT = Path(__file__).parent.parent


@pytest.fixture
def spec(tiny_protocol: str, store: Store) -> RunSpec:
    return plan(Request(load_protocol(tiny_protocol), ("fc_ae",)), store).specs[0]


@pytest.fixture
def endless(spec: RunSpec) -> RunSpec:
    """A run that lasts until it is stopped."""
    return dataclasses.replace(spec, train=dataclasses.replace(spec.train, epochs=100_000))


@pytest.fixture
def pool(store: Store) -> Iterator[LocalPool]:
    made = LocalPool(1, store)
    yield made
    made.close()


def _worker(pool: LocalPool) -> int:
    return pool._workers[0].process.pid or 0


def _until(pool: LocalPool, kind: type, seconds: float = 60.0) -> list[Event]:
    """Collect events up to the first of a kind."""
    heard: list[Event] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        heard += pool.events(timeout=0.5)
        if any(isinstance(event, kind) for event in heard):
            return heard
    raise AssertionError(f"no {kind} among {heard}")


def test_ctrl_c_does_not_end_a_worker(pool: LocalPool, endless: RunSpec) -> None:
    """A terminal sends it to every process; what it means is the head's decision."""
    before = _worker(pool)
    pool.submit(endless)
    _until(pool, EpochEnded)
    for _ in range(3):
        os.kill(before, signal.SIGINT)
        heard = _until(pool, EpochEnded)
        assert {type(event) for event in heard} == {EpochEnded}
    assert _worker(pool) == before
    pool.stop(endless)
    assert isinstance(_until(pool, Halted)[-1], Halted)


def test_ctrl_c_does_not_end_a_worker_that_only_starts(store: Store, spec: RunSpec) -> None:
    """Not even before it has run a line of its own."""
    pool = LocalPool(1, store)
    try:
        before = _worker(pool)
        for _ in range(20):
            os.kill(before, signal.SIGINT)
            time.sleep(0.02)
        pool.submit(spec)
        heard = _until(pool, Finished)
        assert not [event for event in heard if isinstance(event, Lost)]
        assert _worker(pool) == before
    finally:
        pool.close()


def test_the_head_still_hears_ctrl_c(pool: LocalPool) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_spec_that_waits_is_stopped_without_a_word(
    pool: LocalPool, spec: RunSpec, endless: RunSpec
) -> None:
    pool.submit(endless)
    pool.submit(spec)
    _until(pool, EpochEnded)
    pool.stop(spec)
    pool.stop(endless)
    _until(pool, Halted)
    time.sleep(0.1)
    assert not [event for event in pool.events(timeout=0.5) if isinstance(event, Started)]


def test_a_pool_that_is_closed_lets_its_worker_save(
    pool: LocalPool, endless: RunSpec, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked to stop; one that was only ended after a while would have saved nothing."""
    monkeypatch.setattr(local, "STOP_SECONDS", 8.0)
    pool.submit(endless)
    _until(pool, EpochEnded)
    pool.close()
    assert (store.checkpoints / f"{endless.run_key}.safetensors").is_file()


HEAD = """
import sys
from pathlib import Path
from bench.core.store import Store
from bench.execution import LocalPool

if __name__ == "__main__":
    pool = LocalPool(2, Store(Path(sys.argv[1])))
    print(*[worker.process.pid for worker in pool._workers], flush=True)
    raise RuntimeError("a fault of ours")
"""


def test_a_head_that_ends_on_a_fault_takes_its_workers_with_it(store: Store) -> None:
    path = store.root / "head.py"
    path.write_text(HEAD)
    head = subprocess.run(
        [sys.executable, str(path), str(store.root)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert "a fault of ours" in head.stderr
    assert head.returncode == 1
    workers = [int(number) for number in head.stdout.split()]
    assert len(workers) == 2
    assert not [number for number in workers if psutil.pid_exists(number)]


TINY_NUMBERS = """
import dataclasses, pickle, sys
from pathlib import Path
import torch
from bench.core.store import Store
from bench.execution.processor import prepare_torch
from bench.execution.runner import execute, execute_trial, ignore_epochs

how, home = sys.argv[1:]
here = torch.full((1,), 1e-30)
many = torch.full((400_000,), 1e-30)
if not torch.set_flush_denormal(True):
    print("cannot")
    sys.exit()
torch.set_flush_denormal(False)
torch.set_num_threads(3)
assert (here * 1e-10).item() > 0, "a number below float32's full precision, 1e-40"
if how == "prepare_torch":
    prepare_torch(2)
else:
    spec = pickle.loads((Path(home) / "spec").read_bytes())
    work = execute_trial if how == "execute_trial" else execute
    work(dataclasses.replace(spec, threads=2), Store(Path(home)), ignore_epochs)
print((here * 1e-10).item(), (many * 1e-10).max().item(), torch.get_num_threads())
"""


@pytest.mark.parametrize("how", ["prepare_torch", "execute", "execute_trial"])
def test_tiny_numbers_count_as_zero_where_specs_are_trained(
    how: str, spec: RunSpec, store: Store
) -> None:
    """In a process of its own, so that this one stays as it is; on all of its threads."""
    wanted = TrialSpec.of(spec) if how == "execute_trial" else spec
    (store.root / "spec").write_bytes(pickle.dumps(wanted))
    ran = subprocess.run(
        [sys.executable, "-c", TINY_NUMBERS, how, str(store.root)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    if ran.stdout.strip() == "cannot":
        pytest.skip("this processor cannot flush subnormal numbers")
    assert ran.stdout.split() == ["0.0", "0.0", "2"]


def test_a_trial_on_other_data_is_refused(spec: RunSpec, store: Store) -> None:
    trial = dataclasses.replace(TrialSpec.of(spec), data_digest="0" * 64)
    with pytest.raises(CheckFailed, match="changed since the study"):
        execute_trial(trial, store, ignore_epochs)


def test_a_stopped_run_and_a_stopped_trial_leave_a_checkpoint_until_they_end(
    spec: RunSpec, store: Store
) -> None:
    trial = TrialSpec.of(spec)
    paths = [store.checkpoints / one.checkpoint_name for one in (spec, trial)]

    def stop(values: EpochValues) -> bool:
        return values.epoch == 2

    with pytest.raises(StoppedEarly):
        execute(spec, store, stop)
    with pytest.raises(StoppedEarly):
        execute_trial(trial, store, stop)
    assert all(path.is_file() for path in paths)
    assert len(set(paths)) == 2, "a run and a trial of the same training do not share one"
    assert not list(iter_records(store.records)), "nothing is recorded before the end"
    execute(spec, store, ignore_epochs)
    result = execute_trial(trial, store, ignore_epochs)
    assert not any(path.exists() for path in paths)
    assert result.status == "finished"
    assert len(result.history) == spec.train.epochs
