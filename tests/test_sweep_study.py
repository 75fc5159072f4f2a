"""A study's identity, its reach (no test images), its store, its figures and its winner."""

import dataclasses
import itertools
import json
import sqlite3
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import RDBStorage
from sqlalchemy.exc import OperationalError
from sweep_support import Scripted, Silent, make_plan, open_book, search

import bench.execution.runner
from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import load_protocol
from bench.core.recipes import tuned
from bench.core.spec import Choice, FloatRange, SearchRange
from bench.core.store import Store
from bench.data import SearchSplits
from bench.execution.runner import execute, execute_trial, ignore_epochs
from bench.figures import STUDY_FIGURES, to_png
from bench.figures.study import expected_best
from bench.records.files import read_record
from bench.sweep.analysis import analyse
from bench.sweep.events import TrialDone
from bench.sweep.loop import Search
from bench.sweep.opening import (
    Before,
    alone,
    attend,
    changed_search,
    folder_owner,
    look_up,
)
from bench.sweep.plan import StudyPlan, SweepRequest, plan_studies, tunable
from bench.sweep.results import iter_trials, study_folder
from bench.sweep.running import at_study
from bench.sweep.space import search_space
from bench.sweep.storage import existing_storage, open_storage
from bench.sweep.syncing import sync_trials
from bench.sweep.trials import Ticket
from bench.sweep.winner import plan_winner, winner_text, with_larger_budget, write_winner
from bench.tracking import Began, Epoch, StudyCard, open_study_tracker
from bench.tracking.server import experiment_links


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": FloatRange(1e-4, 5e-2, log=True)}, "range of lr is 0.0001 to 0.02"),
        ({"lr": FloatRange(1e-4, 2e-2)}, "range of lr"),
        ({"batch_size": Choice((64, 32, 128, 256))}, r"\[64, 32, 128, 256\] now"),
        ({"adam_eps": FloatRange(1e-9, 1e-6, log=True)}, "range of adam_eps is not searched"),
    ],
)
def test_another_space_is_refused(
    change: dict[str, SearchRange], named: str, tiny_protocol: str, store: Store
) -> None:
    plan = make_plan(tiny_protocol, store)
    open_book(plan, store).ask()
    other = dataclasses.replace(plan, space={**plan.space, **change})
    with pytest.raises(BadInput, match=f"{named}.*--new-study"):
        open_book(other, store)
    open_book(plan, store)


def test_another_direction_protocol_or_data_is_refused(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    open_book(plan, store).ask()
    for change, named in {
        "data_digest": "data digest",
        "protocol_fingerprint": "protocol fingerprint",
        "seed": "training seed",
    }.items():
        value = 7 if change == "seed" else "0" * 16
        other = dataclasses.replace(plan, base=dataclasses.replace(plan.base, **{change: value}))
        with pytest.raises(BadInput, match=named):
            open_book(other, store)
    upwards = dataclasses.replace(plan.base, selection_metric="psnr", metric_revisions={"psnr": 1})
    with pytest.raises(BadInput, match="direction is minimize in the study and maximize now"):
        open_book(dataclasses.replace(plan, base=upwards), store)


def test_what_differs_is_said_by_its_name_and_not_by_its_digest(
    tiny_protocol: str, store: Store
) -> None:
    open_book(make_plan(tiny_protocol, store), store)
    text = Path(tiny_protocol).read_text()
    Path(tiny_protocol).write_text(text.replace("epochs = 3", "epochs = 2"))
    with pytest.raises(BadInput) as refused:
        look_up([make_plan(tiny_protocol, store)], store)
    assert "train.epochs is 3 in the study and 2 now" in str(refused.value)
    assert "fingerprint" not in str(refused.value)


def test_another_sampler_or_pruner_goes_on_and_is_said(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    book = open_book(plan, store)
    assert not changed_search(plan, book.trials.study)
    request = dataclasses.replace(plan.request, sampler="random", pruner="none")
    other = dataclasses.replace(plan, request=request)
    assert changed_search(other, open_book(other, store).trials.study) == [
        "the sampler is random from here on; the study was begun with tpe",
        "the pruner is none from here on; the study was begun with third",
    ]


def test_a_new_study_stands_beside_the_old_one(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    open_book(plan, store).ask()
    fresh = dataclasses.replace(plan, request=dataclasses.replace(plan.request, new_study=True))
    assert open_book(fresh, store).name == "tiny.fc_ae.d4.2"
    assert look_up([plan], store) == [Before("tiny.fc_ae.d4.2")], "the newest is the one"
    assert look_up([fresh], store) == [Before("tiny.fc_ae.d4.3")]


def test_a_foreign_study_of_that_name_is_refused(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    study = optuna.create_study(
        study_name=plan.name, storage=open_storage(store), direction="minimize"
    )
    study.ask()
    with pytest.raises(BadInput, match="did not make"):
        open_book(plan, store)


def test_heads_share_a_study_and_a_sync_is_alone(store: Store) -> None:
    with attend(store, "s"), attend(store, "s"), alone(store, "s") as free:
        assert not free
    with alone(store, "s") as free:
        assert free
        with pytest.raises(BadInput, match="another command"), attend(store, "s"):
            pass
    with attend(store, "s"):
        pass


def test_trials_cannot_reach_test_images(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tiny_protocol, store)

    def never(*_: object) -> None:
        raise AssertionError("a trial loaded the test images")

    seen: list[SearchSplits] = []
    real = bench.execution.runner._fit

    def watch(model: object, spec: object, splits: SearchSplits, *rest: object) -> object:
        seen.append(splits)
        return real(model, spec, splits, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.execution.runner, "load_splits", never)
    monkeypatch.setattr(bench.execution.runner, "_splits", never)
    monkeypatch.setattr(bench.execution.runner, "_fit", watch)
    result = execute_trial(plan.base, store, ignore_epochs)
    assert result.status == "finished"
    assert len(result.history) == plan.base.train.epochs
    assert all("val/mse" in values.values for values in result.history)
    assert not any(key.startswith("test") for v in result.history for key in v.values)
    assert not hasattr(seen[0], "test")
    assert not list(store.records.iterdir())
    assert not (store.checkpoints / plan.base.checkpoint_name).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ("pca",)}, "nothing to tune"),
        ({"models": ("fc_aee",)}, "did you mean"),
        ({"sampler": "tpee"}, "unknown sampler"),
        ({"pruner": "medain"}, "unknown pruner"),
    ],
)
def test_bad_requests(
    options: dict[str, object], message: str, tiny_protocol: str, store: Store
) -> None:
    request = SweepRequest(load_protocol(tiny_protocol), ("fc_ae",))
    with pytest.raises(BadInput, match=message):
        plan_studies(dataclasses.replace(request, **options), store)  # type: ignore[arg-type]


def test_every_sampler_that_is_here_proposes_points(tiny_protocol: str, store: Store) -> None:
    for sampler in ("tpe", "random", "gp", "qmc"):
        plan = make_plan(tiny_protocol, store, trials=4, sampler=sampler, new_study=True)
        done = [e for e in search(plan, store, Scripted()) if isinstance(e, TrialDone)]
        assert len(done) == 4, sampler


@pytest.mark.parametrize("address", ["nonsense", "foo://x/y", "sqlite:///:memory:"])
def test_bad_storage_is_one_line(address: str, store: Store) -> None:
    with pytest.raises(BadInput, match="--storage"):
        open_storage(store, address)


def test_a_damaged_store_is_named(store: Store) -> None:
    (store.mlruns / "optuna.db").write_bytes(b"hello" * 1000)
    with pytest.raises(BadInput, match=r"optuna\.db"):
        open_storage(store)


def test_a_folder_is_no_store_and_gets_no_lock_beside_it(store: Store) -> None:
    folder = store.root / "studies"
    folder.mkdir()
    before = sorted(store.root.iterdir())
    with pytest.raises(BadInput, match="is a folder; expected sqlite:///FILE"):
        existing_storage(store, f"sqlite:///{folder}")
    assert sorted(store.root.iterdir()) == before


def _searched(plan: StudyPlan, store: Store) -> list[object]:
    with at_study(plan, store) as desk:
        return list(Search(desk.book, store, Scripted(), Silent()).events())  # type: ignore[arg-type]


@pytest.mark.parametrize("why", ["database or disk is full", "disk I/O error"])
@pytest.mark.parametrize("call", ["set_trial_intermediate_value", "set_trial_state_values"])
def test_a_store_that_fails_in_the_middle_of_a_search_is_one_line(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch, call: str, why: str
) -> None:
    """And the same search goes on where it was."""
    plan = make_plan(tiny_protocol, store, trials=3)

    def failing(*_: object, **__: object) -> None:
        cause = OperationalError("INSERT", {}, sqlite3.OperationalError(why))
        raise optuna.exceptions.StorageInternalError("An exception is raised") from cause

    with monkeypatch.context() as patch:
        patch.setattr(RDBStorage, call, failing)
        with pytest.raises(BadInput, match=rf"optuna\.db.*{why}"):
            _searched(plan, store)
    _searched(plan, store)
    assert len(list(iter_trials(store, plan.name))) == 3


@pytest.mark.parametrize("old", [b'"value": 0', b'"number": 0', b'"outcome": "complete"'])
def test_a_changed_result_of_a_trial_is_noticed(
    tiny_protocol: str, store: Store, old: bytes
) -> None:
    plan = make_plan(tiny_protocol, store, trials=1)
    search(plan, store, Scripted())
    (path,) = study_folder(store, plan.name).glob("trials/*.json")
    whole = path.read_bytes()
    assert old in whole
    path.write_bytes(
        whole.replace(old, {b"comp": b'"outcome": "pruned"'}.get(old[12:16], old[:-1] + b"1"))
    )
    with pytest.raises(CheckFailed, match="does not match its digest; remove it and repeat"):
        list(iter_trials(store, plan.name))
    path.write_bytes(whole)
    path.rename(path.with_name("0" * 16 + ".json"))
    with pytest.raises(CheckFailed, match="is the result of another trial"):
        list(iter_trials(store, plan.name))


def test_a_result_without_a_digest_of_an_earlier_version_is_read(
    tiny_protocol: str, store: Store
) -> None:
    plan = make_plan(tiny_protocol, store, trials=1)
    search(plan, store, Scripted())
    (path,) = study_folder(store, plan.name).glob("trials/*.json")
    (known,) = iter_trials(store, plan.name)
    data = json.loads(path.read_bytes())
    path.write_text(json.dumps({**data, "schema_version": 1, "digest": None}))
    with pytest.raises(CheckFailed, match="is damaged"):
        list(iter_trials(store, plan.name))
    del data["digest"]
    path.write_text(json.dumps({**data, "schema_version": 1}))
    assert list(iter_trials(store, plan.name)) == [dataclasses.replace(known, schema_version=1)]


def test_a_store_in_a_folder_with_braces(tmp_path: Path) -> None:
    store = Store(tmp_path / "we{i}rd #%20 name").prepare()
    open_storage(store)
    assert (store.mlruns / "optuna.db").is_file()
    assert not list(store.mlruns.glob(".new-*"))


def test_tunable_variants_are_those_that_are_trained(tiny_protocol: str) -> None:
    assert tunable(load_protocol(tiny_protocol)) == ("fc_ae",)
    assert "pca" not in tunable(load_protocol("quick"))
    for name in tunable(load_protocol("quick")):
        assert search_space(name)


def test_mlflow_hears_of_every_trial_once_and_later_if_need_be(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With MLflow away for a whole search, `sync_trials` tells all of it; then nothing is left."""
    plan = make_plan(tiny_protocol, store, trials=4)
    done = [e for e in search(plan, store, Scripted()) if isinstance(e, TrialDone)]
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        nobody = sync_trials(store)
    assert (nobody.told, nobody.known, nobody.missed) == (0, 0, 4)
    first = sync_trials(store)
    assert (first.told, first.known, first.missed) == (4, 0, 0)
    second = sync_trials(store)
    assert (second.told, second.known, second.missed) == (0, 4, 0)
    client = MlflowClient(tracking_uri=f"sqlite:///{store.mlruns / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny sweeps")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in parents] == [plan.name]
    trials = [run for run in runs if run not in parents]
    assert len(trials) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parents[0].info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    values = {int(run.data.tags["trial"]): run.data.metrics["search/value"] for run in trials}
    assert values == {e.ticket.number: pytest.approx(e.record.value) for e in done}
    for run in trials:
        assert (
            len(client.get_metric_history(run.info.run_id, "val/mse"))
            == run.data.metrics["search/epochs"]
        )
        assert not client.list_artifacts(run.info.run_id)
    state = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.trials"])["state"])
    shown = {name.split("`")[1] for name in state["selectedColumns"] if name.startswith("params")}
    searched = {key if key in plan.base.hyperparameters else f"train.{key}" for key in plan.space}
    assert searched and searched <= shown
    assert all(shown <= set(run.data.params) for run in trials)
    ((name, link),) = experiment_links(store, 5000)
    assert (name, link.endswith("viewStateShareKey=trials")) == ("tiny sweeps", True)


def test_a_curve_ends_where_its_trial_did_however_far_a_dead_head_came(
    tiny_protocol: str, store: Store
) -> None:
    """A head dies late in a trial; the next one that runs it prunes it early."""
    plan = make_plan(tiny_protocol, store, trials=2)
    search(plan, store, Scripted())
    trial = next(iter_trials(store, plan.name))
    card = StudyCard(plan.name, folder_owner(store, plan.name), trial.spec, {}, {})
    about = (store, load_protocol(tiny_protocol), trial.spec.dataset_label, card)
    dead = open_study_tracker(*about)
    dead.watch(Began(trial.spec, trial.number))
    for values in trial.history:
        dead.watch(Epoch(trial.spec, values))
    dead.close()
    assert len(trial.history) > 1
    short = dataclasses.replace(trial, history=trial.history[:1], outcome="pruned")
    heir = open_study_tracker(*about)
    heir.watch(Began(trial.spec, trial.number))
    heir.tell(short)
    heir.close()
    assert heir.missed == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{store.mlruns / 'mlflow.db'}")
    found = client.get_experiment_by_name("tiny sweeps")
    query = f"tags.`bench.run_key` = '{trial.spec.run_key}'"
    (run,) = client.search_runs([found.experiment_id], query)
    assert [m.step for m in client.get_metric_history(run.info.run_id, "val/mse")] == [1]
    assert run.data.metrics["search/epochs"] == 1


def test_a_study_in_work_is_left_to_its_head(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=2)
    search(plan, store, Scripted())
    with attend(store, plan.name):
        report = sync_trials(store)
    assert report.told == 0


def test_a_winner_file_repeats_its_recipe(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=3)
    ticket = Ticket(2, plan.base, "", {"lr": 0.004, "batch_size": 32, "weight_decay": 1e-05})
    path = write_winner(store, plan.name, winner_text(plan, ticket, "tuned (3 trials)"))
    runs = plan_winner(path, store)
    tuned = [spec for spec in runs.specs if spec.recipe == "tuned (3 trials)"]
    assert [spec.seed for spec in tuned] == [0, 1]
    assert {(s.train.lr, s.train.batch_size, s.train.weight_decay) for s in tuned} == {
        (0.004, 32, 1e-05)
    }
    assert {s.protocol_fingerprint for s in tuned} == {plan.request.protocol.fingerprint}
    assert [s.recipe for s in runs.specs if s.model == "fc_ae"].count("default") == 2
    assert {s.model for s in runs.specs} == {"fc_ae", "pca", "mean_image"}
    same = dataclasses.replace(ticket, settings=plan.known["default"])
    write_winner(store, plan.name, winner_text(plan, same, "tuned (3 trials)"))
    assert {spec.recipe for spec in plan_winner(path, store).specs} == {"default"}
    Path(tiny_protocol).write_text(
        Path(tiny_protocol).read_text().replace("epochs = 3", "epochs = 4")
    )
    with pytest.raises(BadInput, match="has changed since"):
        plan_winner(path, store)
    path.write_text(path.read_text().replace("lr =", "rate ="))
    Path(tiny_protocol).write_text(
        Path(tiny_protocol).read_text().replace("epochs = 4", "epochs = 3")
    )
    with pytest.raises(BadInput, match=r"settings\.rate"):
        plan_winner(path, store)


def test_study_figures_are_drawn_and_the_expected_best_is_exact(
    tiny_protocol: str, store: Store
) -> None:
    plan = make_plan(tiny_protocol, store, trials=9, sampler="random")
    search(plan, store, Scripted())
    trials = analyse(open_book(plan, store).trials)
    assert len(trials.points) == 9
    assert set(trials.importance) == set(plan.space)
    for row in STUDY_FIGURES.values():
        assert row.can_draw(trials)
        assert to_png(row.draw(trials)).startswith(b"\x89PNG")
    values = [0.3, 0.1, 0.2, 0.5]
    for k, expected in enumerate(expected_best(values, higher_is_better=False), start=1):
        subsets = list(itertools.combinations(values, k))
        assert expected == pytest.approx(sum(map(min, subsets)) / len(subsets))
    assert expected_best(values, higher_is_better=True)[-1] == 0.5


def test_a_winner_that_wins_again_wears_the_larger_budget(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=3)
    settings = {**plan.known["default"], "lr": 0.004}
    first = plan.with_recipe(settings, tuned(3), store)
    (spec, *_) = (spec for spec in first.specs if spec.recipe == tuned(3))
    before = execute(spec, store, ignore_epochs)
    for trials, said in ((7, 7), (5, 7), (30, 30)):
        again = with_larger_budget(plan.with_recipe(settings, tuned(trials), store), store)
        (record,) = again.done.values()
        assert record == read_record(store.records, spec.run_key)
        assert record.spec.recipe == tuned(said)
        assert dataclasses.replace(record, spec=before.spec) == before
    default = execute(plan.defaults.specs[0], store, ignore_epochs)
    again = with_larger_budget(plan.with_recipe(settings, tuned(40), store), store)
    assert again.done[default.run_key].spec.recipe == "default"
