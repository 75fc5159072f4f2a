"""The switch `BENCH_TRACKING`, the null tracker, and `tell`, which may be repeated."""

import pytest
import tracked_store
from tracked_store import client_of, runs_of
from typer.testing import CliRunner

from bench.benchmark.doctor import examine, survey
from bench.cli import app
from bench.core.protocol import Protocol
from bench.core.repairs import Care
from bench.core.store import Store
from bench.records.files import iter_records
from bench.tracking import Began, Ended, Epoch, WorkOver, open_tracker
from bench.tracking.contract import NullTracker


@pytest.mark.parametrize("command", ["ui", "sync"])
def test_commands_that_need_mlflow_say_how_to_turn_tracking_on(
    command: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "tracking is off" in line and "unset BENCH_TRACKING" in line
    assert not list(store.mlruns.glob("*mlflow.db*"))


@pytest.mark.parametrize("command", ["run", "sweep --all", "reproduce", "promote", "sync", "ui"])
def test_another_value_is_one_clear_line(
    command: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "no")
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "BENCH_TRACKING is 'no'; expected on, or off" in line
    assert not list(iter_records(store.records))


def test_doctor_leaves_mlflow_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    assert not examine(Care(store, fix=True))
    assert "tracking is off" in str(survey(store)["workspace"]["MLflow"])
    assert not list(store.mlruns.glob("*mlflow.db*"))


def test_the_null_tracker_misses_nothing(
    tracked: Store, protocol: Protocol, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    tracker = open_tracker(store, protocol, protocol.dataset)
    assert isinstance(tracker, NullTracker)
    for record in iter_records(tracked.records):
        tracker.watch(Began(record.spec))
        tracker.watch(Ended(record.spec, "no reason"))
        assert tracker.tell(record) == "off"
        tracker.cell_finished([record])
    tracker.watch(WorkOver())
    tracker.close()
    assert (tracker.missed, tracker.link) == (0, "")


@pytest.mark.parametrize("setting", ["", "on"])
def test_telling_again_changes_nothing(
    setting: str,
    tracked: Store,
    protocol: Protocol,
    fresh: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a curve that was cut off before, from this head or another one."""
    monkeypatch.setenv("BENCH_TRACKING", setting)
    store = tracked_store.copy(tracked, fresh.root, with_mlflow=False)
    record = next(r for r in iter_records(store.records) if r.spec.model == "fc_ae")
    tracker, other = (open_tracker(store, protocol, protocol.dataset) for _ in range(2))
    tracker.watch(Began(record.spec))
    tracker.watch(Epoch(record.spec, record.history[0]))
    answers = [each.tell(record) for each in (tracker, tracker, other, other)]
    assert answers == ["sent", "known", "known", "known"]
    run = runs_of(store)[record.run_key]
    curve = client_of(store).get_metric_history(run.info.run_id, "val/mse")
    assert [metric.step for metric in curve] == [values.epoch for values in record.history]
