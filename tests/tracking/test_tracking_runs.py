"""What MLflow is told of runs: complete, equal in form for all variants, and told once."""

import dataclasses
import json
import time

import pytest
import tracked_store
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from tracked_store import client_of, runs_of

from bench.benchmark.doctor import tell_mlflow
from bench.benchmark.plan import Request, plan
from bench.benchmark.running import run_plan
from bench.core.protocol import Protocol, load_protocol, origin_protocols
from bench.core.spec import EpochValues, RunRecord
from bench.core.store import Store
from bench.execution import Finished, LocalPool
from bench.models.zoo import MODELS
from bench.records.files import iter_records, write_record
from bench.records.selection import median_record
from bench.tracking import (
    Began,
    Ended,
    Epoch,
    clear_alias,
    content,
    open_tracker,
    register_version,
)
from bench.tracking.address import Address
from bench.tracking.experiment import plan_for_protocol
from bench.tracking.views import view_tags

DEAD_SERVER = "http://127.0.0.1:9"


def test_runs_of_all_variants_have_equal_parameter_names(
    tracked: Store, protocol: Protocol
) -> None:
    said = {
        model: content.parameters(tracked_store.specs_of(protocol, tracked, model)[0])
        for model, row in MODELS.items()
        if protocol.task in row.tasks
    }
    assert len(said) >= 6
    assert len({frozenset(names) for names in said.values()}) == 1
    told = {frozenset(run.data.params) for run in runs_of(tracked).values()}
    assert told == {frozenset(said["pca"])}
    # The Compare page opens with the first three that differ, in the order of the alphabet.
    a, b = said["fc_ae"], said["deep_ae"]
    assert next(name for name in sorted(a) if a[name] != b[name]) == "model"


def test_a_run_holds_all_of_its_record(tracked: Store) -> None:
    client = client_of(tracked)
    runs = runs_of(tracked)
    records = list(iter_records(tracked.records))
    assert len(records) == len(runs) == 4
    for record in records:
        run = runs[record.run_key]
        assert run.info.status == "FINISHED"
        assert run.info.start_time == record.started_unix_ms
        assert run.info.end_time == record.finished_unix_ms
        assert run.data.metrics["test/mse"] == pytest.approx(record.scores["test"]["mse"], rel=1e-5)
        assert run.data.metrics["test/mse_x1000"] == pytest.approx(
            1000 * record.scores["test"]["mse"], rel=1e-5
        )
        assert run.data.metrics["kept/val_ssim"] == pytest.approx(
            record.scores["val"]["ssim"], rel=1e-5
        )
        assert [m.step for m in client.get_metric_history(run.info.run_id, "test/mse")] == [0]
        curve = client.get_metric_history(run.info.run_id, "val/mse")
        assert [(m.step, m.timestamp) for m in curve] == [
            (values.epoch, values.unix_ms) for values in record.history
        ]
        contexts = {item.tags[0].value for item in run.inputs.dataset_inputs}
        assert contexts == {"train", "validation", "test"}
        assert len({item.dataset.digest for item in run.inputs.dataset_inputs}) == 3
        files = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert "record.json" in files
        assert record.spec.model in run.data.tags["mlflow.note.content"]


def test_figures_and_learning_by_step_are_there(tracked: Store) -> None:
    client = client_of(tracked)
    record = next(r for r in iter_records(tracked.records) if r.spec.model == "fc_ae")
    run_id = runs_of(tracked)[record.run_key].info.run_id
    figures = [item.path for item in client.list_artifacts(run_id, "figures")]
    assert figures and all(path.endswith(".png") for path in figures)
    images = [item.path for item in client.list_artifacts(run_id, "images")]
    full = [path for path in images if path.endswith(".png")]
    assert len(full) == 3 and all("+step+" in path for path in full)


def test_sync_tells_a_new_store_everything_and_nothing_twice(tracked: Store, fresh: Store) -> None:
    store = tracked_store.copy(tracked, fresh.root, with_mlflow=False)
    report = tell_mlflow(store)
    assert (report.told, report.known, report.missed) == (4, 0, 0)
    report = tell_mlflow(store)
    assert (report.told, report.known, report.missed) == (0, 4, 0)
    runs, client = runs_of(store), client_of(store)
    for record in iter_records(store.records):
        run = runs[record.run_key]
        assert run.info.start_time == record.started_unix_ms
        curve = client.get_metric_history(run.info.run_id, "val/mse")
        assert len(curve) == len(record.history)
    medians = [run for run in runs.values() if run.data.tags.get("median_seed") == "true"]
    assert len(medians) == len(tracked_store.MODELS)


def test_a_resumed_run_repeats_no_epoch(protocol: Protocol, fresh: Store) -> None:
    spec = tracked_store.specs_of(protocol, fresh, "fc_ae")[0]
    now = int(time.time() * 1000)
    epochs = [EpochValues(e, e, now + e, {"train/loss": 1 / e, "val/mse": 0.1}) for e in (1, 2, 3)]
    first = open_tracker(fresh, protocol, protocol.dataset)
    first.watch(Began(spec))
    for values in epochs[:2]:
        first.watch(Epoch(spec, values))
    first.watch(Ended(spec))
    first.close()
    (run,) = runs_of(fresh).values()
    assert run.info.status == "KILLED"

    second = open_tracker(fresh, protocol, protocol.dataset)
    second.watch(Began(spec))
    later = [dataclasses.replace(values, unix_ms=values.unix_ms + 5000) for values in epochs]
    for values in later:
        second.watch(Epoch(spec, values))
    second.close()
    (run,) = runs_of(fresh).values()
    assert run.info.status == "RUNNING"
    curve = client_of(fresh).get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in curve] == [1, 2, 3]


def test_a_diverged_run_looks_diverged(tracked: Store, protocol: Protocol, fresh: Store) -> None:
    found = next(r for r in iter_records(tracked.records) if r.spec.model == "fc_ae")
    history = (EpochValues(1, 1, found.started_unix_ms, {"train/loss": float("nan")}),)
    record = dataclasses.replace(
        found, status="diverged", scores={}, history=(), message="diverged in epoch 1"
    )
    record = write_record(fresh.records, record, {}, {})
    tracker = open_tracker(fresh, protocol, protocol.dataset)
    tracker.watch(Began(record.spec))
    tracker.watch(Epoch(record.spec, history[0]))
    tracker.tell(record)
    tracker.cell_finished([record])
    assert tracker.missed == 0
    (run,) = runs_of(fresh).values()
    assert run.info.status == "FAILED"
    assert run.info.run_name.endswith("(diverged)")
    assert run.data.tags["status"] == "diverged"
    assert "train/loss" not in run.data.metrics
    assert median_record([record]) is None


def test_a_rerun_replaces_what_mlflow_had(tracked: Store, protocol: Protocol, store: Store) -> None:
    store = tracked_store.copy(tracked, store.root)
    before = runs_of(store)
    record = next(r for r in iter_records(store.records) if r.spec.model == "pca")
    later = dataclasses.replace(record, finished_unix_ms=record.finished_unix_ms + 1000)
    tracker = open_tracker(store, protocol, protocol.dataset)
    assert tracker.tell(record) == "known"
    assert tracker.tell(later) == "sent"
    after = runs_of(store)
    assert len(after) == len(before)
    assert after[record.run_key].info.run_id != before[record.run_key].info.run_id


def test_all_origins_share_one_experiment_whose_views_do_not_depend_on_the_last() -> None:
    plans = [plan_for_protocol(protocol, protocol.dataset) for protocol in origin_protocols()]
    assert {plan.name for plan in plans} == {"reproduction"}
    (view,) = {plan.view for plan in plans}
    assert view.selection_metric == "mse" and {"ssim", "accuracy"} <= set(view.metrics)
    # Origins without validation images have no median seed that could stand for the others.
    for tag in view_tags(view, ["d64"], 0).values():
        assert "median_seed" not in json.loads(tag)["state"]
    own = dataclasses.replace(load_protocol("quick"), experiment="mine")
    assert plan_for_protocol(own, "fashion_mnist_mini").view.metrics == own.evaluation.metrics


def test_the_experiment_opens_with_a_useful_view(tracked: Store, protocol: Protocol) -> None:
    tracker = open_tracker(tracked, protocol, protocol.dataset)
    client = client_of(tracked)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    assert tracker.link.endswith(
        f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        "&viewStateShareKey=leaderboard"
    )
    state = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.leaderboard"])["state"])
    assert state["searchFilter"] == "tags.median_seed = 'true'"
    assert state["orderByKey"] == "metrics.`kept/val_mse`" and state["orderByAsc"]
    first = [column.split("`")[1] for column in state["selectedColumns"][:3]]
    assert first == ["model", "latent_dim", "seed"]
    bars = {
        chart["metricKey"]: chart for chart in state["compareRunCharts"] if "BAR" in chart["type"]
    }
    assert list(bars) == ["test_d4/mse_x1000"]  # one size to a chart
    assert bars["test_d4/mse_x1000"]["displayName"] == "test MSE x 1000, code size 4"
    columns = [column for column in state["selectedColumns"] if column.startswith("metrics.")]
    run = next(iter(runs_of(tracked).values()))
    assert "metrics.`test/mse_x1000`" in columns
    assert {column.split("`")[1] for column in columns} <= set(run.data.metrics)
    assert run.data.metrics["test_d4/mse_x1000"] == run.data.metrics["test/mse_x1000"]
    kinds = [chart["type"] for chart in state["compareRunCharts"]]
    assert {"BAR", "SCATTER", "PARALLEL", "LINE", "IMAGE"} == set(kinds)
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections
    assert "mlflow.sharedViewState.track-d4" in experiment.tags


def test_another_data_set_gets_an_experiment_of_its_own(protocol: Protocol, fresh: Store) -> None:
    tracker = open_tracker(fresh, protocol, "csv.mydigits")
    tracker.close()
    assert client_of(fresh).get_experiment_by_name("tiny on csv.mydigits") is not None


def test_a_dead_server_costs_no_time_and_is_named_once(
    tracked: Store,
    protocol: Protocol,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    store = tracked_store.copy(tracked, store.root, with_mlflow=False)
    begun = time.monotonic()
    tracker = open_tracker(store, protocol, protocol.dataset)
    for record in iter_records(store.records):
        tracker.watch(Began(record.spec))
        for values in record.history:
            tracker.watch(Epoch(record.spec, values))
        tracker.tell(record)
    tracker.cell_finished(list(iter_records(store.records)))
    assert tracker.link == ""
    assert tracker.missed == 4
    tracker.close()
    assert time.monotonic() - begun < 5
    assert sum("did not take" in message for message in caplog.messages) == 1
    assert "bench sync" in caplog.text


def test_two_heads_may_write_a_new_experiment_at_the_same_moment(
    protocol: Protocol, fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow refuses the later of two that add the same tag; that head is not cut off by it."""
    write, refused = MlflowClient.set_experiment_tag, set()

    def slow(client: MlflowClient, experiment_id: str, key: str, value: str) -> None:
        if key not in refused:
            refused.add(key)
            raise MlflowException("UNIQUE constraint failed: experiment_tags", BAD_REQUEST)
        write(client, experiment_id, key, value)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", slow)
    tracker = open_tracker(fresh, protocol, protocol.dataset)
    assert refused and not tracker.missed and tracker.link
    experiment = client_of(fresh).get_experiment_by_name(protocol.name)
    assert refused <= set(experiment.tags)


def test_what_mlflow_missed_is_told_when_the_work_is_over(
    protocol: Protocol, fresh: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that failed is left alone for a while, which ends with the last run."""
    open_tracker(fresh, protocol, protocol.dataset).close()
    away = ["it starts"]
    monkeypatch.setattr(Address, "is_server", property(lambda _: True))
    monkeypatch.setattr(Address, "why_not", lambda _: "".join(away))
    tracker = open_tracker(fresh, protocol, protocol.dataset)
    made = plan(Request(protocol, ("mean_image", "pca")), fresh)
    pool = LocalPool(1, fresh)
    try:
        for event in run_plan(made, fresh, pool, tracker):
            if isinstance(event, Finished):
                away.clear()
    finally:
        pool.close()
    assert tracker.missed == 0
    told = runs_of(fresh).values()
    assert [run.info.status for run in told] == ["FINISHED"] * 2


def test_registering_again_moves_the_alias_only(
    tracked: Store, store: Store, protocol: Protocol
) -> None:
    store = tracked_store.copy(tracked, store.root)
    first, second = (
        next(r for r in iter_records(store.records) if r.spec.model == model)
        for model in ("pca", "fc_ae")
    )

    def promote(record: RunRecord) -> bool:
        return register_version(
            store,
            record,
            registered_name="tiny.d4",
            alias="champion",
            description="the best of its track",
            tags={"rank": "1"},
        )

    assert promote(first) and promote(second) and promote(first)
    client = client_of(store)
    versions = client.search_model_versions("name = 'tiny.d4'")
    assert len(versions) == 2
    champion = client.get_model_version_by_alias("tiny.d4", "champion")
    assert champion.tags["bench.run_key"] == first.run_key
    assert champion.tags["rank"] == "1"
    assert clear_alias(store, "tiny.d4", "champion")
    assert clear_alias(store, "tiny.d4", "champion")
    assert "champion" not in client.get_registered_model("tiny.d4").aliases


def test_the_median_is_the_lower_of_two_in_the_middle(tracked: Store) -> None:
    (records,) = [cell for cell in tracked_store.cells(tracked) if cell[0].spec.model == "fc_ae"]
    assert len(records) == 3
    by_score = sorted(records, key=lambda record: record.scores["val"]["mse"])
    assert median_record(records) == by_score[1]
    assert median_record(by_score[:2]) == by_score[0]
    assert median_record([]) is None


def test_plans_of_the_same_protocol_know_what_is_done(tracked: Store, protocol: Protocol) -> None:
    made = plan(Request(protocol, ("fc_ae",), (4,), seeds=(0, 1, 2)), tracked)
    tracker = open_tracker(tracked, protocol, protocol.dataset)
    assert [tracker.tell(record) for record in made.done.values()] == ["known"] * 3
