"""What long commands say while they work, and that what they say leads further."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Generator
from pathlib import Path

import pytest
from invented import specs_of

from bench.benchmark.forecast import Forecast, Remaining
from bench.benchmark.running import Added, PlanResult, _followed
from bench.cli import console
from bench.cli.console import RunProgress
from bench.cli.plan_view import shown_in
from bench.core.owners import owner
from bench.core.protocol import load_protocol
from bench.core.spec import EpochValues, RunSpec
from bench.core.store import Store
from bench.execution import EpochEnded, Event, Failed, Finished, Started, Waiting
from bench.records.files import read_record
from bench.tracking.address import interface_address, noted_port

LATER = 4_102_444_800_000  # 2100-01-01, in milliseconds


@pytest.fixture
def spec(store: Store, tiny_protocol: str) -> RunSpec:
    return specs_of(store, load_protocol(tiny_protocol), "fc_ae", (0,), 4)[0]


@pytest.mark.parametrize(
    ("done", "spent", "least", "most"),
    [
        (0.3, 75, 200, 500),  # a closed form whose evaluation took long says little about the rest
        (100, 400, 300, 800),  # a machine four times as slow as forecast
        (0, 0, 200, 201),
    ],
)
def test_what_is_left_follows_the_speed_of_much_work_not_of_little(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch, done: float, spent: float, least: int, most: int
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    remaining = Remaining(Forecast({spec.run_key: done, "others": 200.0}, 1))
    if done:
        remaining.hear(Failed(spec, "", ""))
    now += spent
    assert least <= remaining.seconds <= most


def _epoch(spec: RunSpec, epoch: int, unix_ms: int) -> EpochEnded:
    return EpochEnded(spec, EpochValues(epoch, epoch, unix_ms, {"val/mse": 0.0123}))


def test_a_run_that_resumes_says_once_where_it_goes_on(
    spec: RunSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, epochs=24))
    with RunProgress(1) as progress:
        hear = shown_in(progress, Forecast({spec.run_key: 60.0}, 1))
        hear(Started(spec))
        for epoch in (1, 2, 3):
            hear(_epoch(spec, epoch, 1000))
        assert "goes on" not in capsys.readouterr().err
        hear(Waiting())
        assert f"{spec.title}: goes on at epoch 4 of 24\n" in capsys.readouterr().err
        hear(_epoch(spec, 4, LATER))
        hear(Waiting())
        assert "goes on" not in capsys.readouterr().err


def test_a_run_that_begins_does_not_resume(
    spec: RunSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunProgress(1) as progress:
        hear = shown_in(progress, Forecast({spec.run_key: 60.0}, 1))
        for event in (Started(spec), _epoch(spec, 1, LATER), Waiting()):
            hear(event)
    assert "goes on" not in capsys.readouterr().err


@pytest.mark.parametrize("epochs", [0, 2])
def test_without_a_terminal_a_line_says_every_30_seconds_where_the_runs_are(
    spec: RunSpec, epochs: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while no epoch ends."""
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with RunProgress(1) as progress:
        hear = shown_in(progress, Forecast({spec.run_key: 3000.0}, 1))
        hear(Started(spec))
        for epoch in range(1, epochs + 1):
            hear(_epoch(spec, epoch, LATER))
        spoken = []
        for now in range(1, 100):
            hear(Waiting())
            spoken += [now] * capsys.readouterr().err.count(spec.title)
    assert spoken == [31, 62, 93]


def test_an_added_seed_is_counted_and_lengthens_what_remains(
    spec: RunSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    more = dataclasses.replace(spec, seed=1)
    cost = Forecast({spec.run_key: 100.0}, 1, later={more.run_key: 3000.0})
    with RunProgress(1) as progress:
        hear = shown_in(progress, cost)
        hear(Added(more, 0.0312))
        hear(Failed(spec, "for this test"))
        said = capsys.readouterr().err
        assert "fc_ae d=4 seed 1: added, the mean of the seeds so far is known to ± 3.1 %" in said
        assert "[1/2] fc_ae d=4 seed 0: failed: for this test; about 50 min left" in said
        hear(Failed(more, "as well"))
    assert "[2/2]" in capsys.readouterr().err


def test_a_forecast_with_seeds_that_may_follow_has_two_ends() -> None:
    """Those of one cell follow one after the other, however many workers there are."""
    cost = Forecast({"a": 10.0, "b": 10.0}, 2, later={"c": 10.0, "d": 10.0}, longest=20.0)
    worker = 3.0
    assert cost.total_seconds == 10 + worker
    assert cost.most_seconds == cost.most_on(8) == 10 + worker + 20
    assert cost.most_on(1) == 40 + worker


def test_the_run_key_that_is_shown_finds_the_run(
    store: Store, tiny_protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.benchmark.redraw import find
    from bench.execution.runner import execute, ignore_epochs

    specs = specs_of(store, load_protocol(tiny_protocol), "mean_image", (0,), 4)
    record = execute(specs[0], store, ignore_epochs)
    with RunProgress(1) as progress:
        shown_in(progress, Forecast({record.run_key: 1.0}, 1))(Finished(specs[0], record))
    said = capsys.readouterr().err
    key = said.partition("(run ")[2].partition(")")[0]
    assert len(key) == 8
    assert [subject.name for subject in find(store, key)] == [record.run_key]
    assert [subject.name for subject in find(store, "mean_image")] == [record.run_key]
    assert read_record(store.records, record.run_key) is not None


def test_links_carry_the_port_of_the_interface_that_runs(store: Store) -> None:
    assert interface_address(store) == "http://127.0.0.1:5000"
    with noted_port(store, 5077):
        assert interface_address(store) == "http://127.0.0.1:5077"
    assert interface_address(store) == "http://127.0.0.1:5000"


@pytest.mark.parametrize("content", ["5077 {gone}", "5077", "x {me}", ""])
def test_a_note_of_a_killed_interface_is_not_believed(store: Store, content: str) -> None:
    code = "from bench.core.owners import owner; print(owner())"
    gone = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    ).stdout.strip()
    (store.mlruns / "ui.port").write_text(content.format(gone=gone, me=owner()))
    assert interface_address(store) == "http://127.0.0.1:5000"


class _Loses:
    """Ctrl-C while Python runs a callback of the garbage collector, which swallows exceptions."""

    def __init__(self) -> None:
        thing = type("Thing", (), {})()
        self._callback = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGINT))


@pytest.mark.parametrize("at", [1, 3])
def test_ctrl_c_is_never_lost_and_interrupts_between_two_events(spec: RunSpec, at: int) -> None:
    """Also in the last step: another plan may follow."""
    done: list[int] = []

    def steps() -> Generator[Event | Waiting, None, PlanResult]:
        for number in (1, 2, 3):
            if number == at:
                _Loses()
                time.sleep(0.01)
            done.append(number)
            if number < 3:
                yield Started(spec)
        return PlanResult()

    with pytest.raises(KeyboardInterrupt):
        _followed(steps(), lambda _: None)
    assert done == list(range(1, at + 1))
