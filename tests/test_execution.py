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
from bench.core.spec import TOGETHER, RunSpec
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
from bench.execution.runner import execute, ignore_epochs
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


@pytest.fixture
def seeds(tiny_protocol: str, store: Store) -> tuple[RunSpec, ...]:
    """Three runs that differ only by seed."""
    request = Request(load_protocol(tiny_protocol), ("fc_ae",), seeds=(0, 1, 2))
    return plan(request, store).specs


def _kinds(heard: list[Event], spec: RunSpec) -> list[type]:
    return [type(event) for event in heard if event.spec == spec]


def test_a_stack_of_seeds_gives_each_its_events_and_its_record(
    pool: LocalPool, seeds: tuple[RunSpec, ...], store: Store
) -> None:
    """One worker trains them; they are recorded as if each had been trained alone."""
    alone = execute(seeds[1], Store(store.root / "alone").prepare(), ignore_epochs)
    pool.submit(*seeds)
    heard = pool.events(timeout=0.1)
    assert pool.running == list(seeds)
    while pool.running:
        heard += pool.events(timeout=0.5)
    for spec in seeds:
        assert _kinds(heard, spec) == [Started, EpochEnded, EpochEnded, EpochEnded, Finished]
        assert read_record(store.records, spec.run_key).facts[TOGETHER] == 3
    record = read_record(store.records, seeds[1].run_key)
    assert TOGETHER not in alone.facts
    assert (record.run_key, record.evaluation_digest) == (alone.run_key, alone.evaluation_digest)
    assert record.scores["test"]["mse"] == pytest.approx(alone.scores["test"]["mse"], rel=1e-4)
    assert not list(store.checkpoints.glob("*"))
    pool.submit(*seeds)  # all of them are recorded: nothing is trained
    heard = []
    while not heard or pool.running:
        heard += pool.events(timeout=0.5)
    assert [type(event) for event in heard] == [Started] * 3 + [Finished] * 3


def test_a_member_of_a_stack_is_stopped_alone(
    pool: LocalPool, endless: RunSpec, store: Store
) -> None:
    other, waiting = (dataclasses.replace(endless, seed=seed) for seed in (8, 9))
    pool.submit(endless, other)
    pool.submit(waiting, dataclasses.replace(endless, seed=10))
    _until(pool, EpochEnded)
    pool.stop(endless)
    pool.stop(waiting)
    halted = _until(pool, Halted)
    assert _kinds(halted, endless)[-1] is Halted
    assert pool.running == [other]
    pool.stop(other)
    heard = _until(pool, Halted)
    assert [event.spec.seed for event in heard if isinstance(event, Started)] in ([], [10])
    for spec in (endless, other):
        assert (store.checkpoints / f"{spec.run_key}.safetensors").is_file()


def test_the_members_of_a_stack_are_tried_once_more_alone(
    pool: LocalPool, endless: RunSpec
) -> None:
    other = dataclasses.replace(endless, seed=8)
    pool.submit(endless, other)
    _until(pool, EpochEnded)
    os.kill(pool._workers[0].process.pid or 0, signal.SIGKILL)
    heard = _until(pool, Started)
    lost = [event.spec for event in heard if isinstance(event, Lost)]
    assert sorted(spec.seed for spec in lost) == sorted((endless.seed, 8))
    assert len(pool.running) == 1, "its death may be the memory that a stack takes"


def test_a_record_that_cannot_be_written_costs_no_other_member(
    pool: LocalPool, seeds: tuple[RunSpec, ...], store: Store
) -> None:
    """Its folder is there without a record, and the place for what is replaced is taken."""
    (store.records / seeds[0].run_key).mkdir()
    (store.records / f".aside-{seeds[0].run_key}").write_text("a file where a folder is meant")
    pool.submit(*seeds)
    heard = pool.events(timeout=0.1)
    while pool.running:
        heard += pool.events(timeout=0.5)
    assert [_kinds(heard, spec)[-1] for spec in seeds] == [Failed, Finished, Finished]


def test_what_stands_in_the_place_of_a_record_gives_way(
    pool: LocalPool, seeds: tuple[RunSpec, ...], store: Store
) -> None:
    (store.records / seeds[0].run_key).write_text("a file where a folder is meant")
    (store.records / seeds[1].run_key).symlink_to(store.records / seeds[1].run_key)
    pool.submit(*seeds)
    heard = pool.events(timeout=0.1)
    while pool.running:
        heard += pool.events(timeout=0.5)
    assert [_kinds(heard, spec)[-1] for spec in seeds] == [Finished] * 3
    assert {path.name for path in store.records.iterdir()} == {spec.run_key for spec in seeds}
    assert all(read_record(store.records, spec.run_key) for spec in seeds)


def test_a_stack_fails_in_one_line_for_each_member(
    pool: LocalPool, seeds: tuple[RunSpec, ...]
) -> None:
    lost = [dataclasses.replace(spec, dataset="csv:/nowhere/at-all.csv") for spec in seeds]
    pool.submit(*lost)
    heard = pool.events(timeout=0.1)
    while pool.running:
        heard += pool.events(timeout=0.5)
    failed = [event for event in heard if isinstance(event, Failed)]
    assert [event.spec.seed for event in failed] == [0, 1, 2]
    assert all("at-all.csv" in event.reason and event.detail == "" for event in failed)
