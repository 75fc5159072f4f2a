"""Worker processes: events in order, deaths survived, stops heard."""

import dataclasses
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.benchmark.plan import Request, plan
from bench.core.protocol import load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import (
    EpochEnded,
    Event,
    Failed,
    Finished,
    Halted,
    LocalPool,
    Lost,
    Started,
)
from bench.records.files import read_record


@pytest.fixture
def specs(tiny_protocol: str, store: Store) -> list[RunSpec]:
    return list(plan(Request(load_protocol(tiny_protocol), ("fc_ae",)), store).specs)


@pytest.fixture
def endless(tiny_protocol: str, store: Store) -> RunSpec:
    """A run that lasts until it is stopped."""
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 100000"))
    return plan(Request(load_protocol(tiny_protocol), ("fc_ae",)), store).specs[0]


@pytest.fixture
def pool(store: Store) -> Iterator[LocalPool]:
    made = LocalPool(1, store)
    yield made
    made.close()


def _until(pool: LocalPool, kind: type[Event], seconds: float = 60.0) -> list[Event]:  # type: ignore[valid-type]
    """Collect events up to the first of a kind."""
    heard: list[Event] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        heard += pool.events(timeout=0.5)
        if any(isinstance(event, kind) for event in heard):  # type: ignore[arg-type]
            return heard
    raise AssertionError(f"no {kind} among {heard}")


def test_a_spec_becomes_epochs_and_a_record(
    pool: LocalPool, specs: list[RunSpec], store: Store
) -> None:
    for spec in specs:
        pool.submit(spec)
    heard: list[Event] = []
    while sum(isinstance(event, Finished) for event in heard) < len(specs):
        heard += _until(pool, Finished)
    for spec in specs:
        mine = [event for event in heard if event.spec == spec]
        kinds = [type(event) for event in mine]
        assert kinds == [Started, EpochEnded, EpochEnded, EpochEnded, Finished]
        assert read_record(store.records, spec.run_key) == mine[-1].record  # type: ignore[union-attr]
    assert not pool.running


def test_a_killed_worker_is_replaced_and_its_run_tried_once_more(
    pool: LocalPool, endless: RunSpec
) -> None:
    pool.submit(endless)
    _until(pool, EpochEnded)
    os.kill(pool._workers[0].process.pid or 0, signal.SIGKILL)
    lost = _until(pool, Lost)[-1]
    assert isinstance(lost, Lost)
    assert "SIGKILL" in lost.reason
    _until(pool, EpochEnded)
    os.kill(pool._workers[0].process.pid or 0, signal.SIGKILL)
    failed = _until(pool, Failed)[-1]
    assert isinstance(failed, Failed)
    assert "died twice" in failed.reason


def test_a_stop_is_heard_after_the_epoch_and_saves(
    pool: LocalPool, endless: RunSpec, store: Store
) -> None:
    pool.submit(endless)
    _until(pool, EpochEnded)
    pool.stop(endless)
    assert isinstance(_until(pool, Halted)[-1], Halted)
    assert (store.checkpoints / f"{endless.run_key}.safetensors").is_file()
    assert not pool.running


def test_bad_input_in_a_worker_is_one_line(pool: LocalPool, specs: list[RunSpec]) -> None:
    pool.submit(dataclasses.replace(specs[0], dataset="csv:/nowhere/at-all.csv"))
    failed = _until(pool, Failed)[-1]
    assert isinstance(failed, Failed)
    assert "at-all.csv" in failed.reason
    assert failed.detail == ""


def test_workers_end_when_their_head_is_gone(store: Store) -> None:
    pool = LocalPool(1, store)
    process = pool._workers[0].process
    pool._workers[0].pipe.close()
    process.join(timeout=30)
    assert process.exitcode == 0
