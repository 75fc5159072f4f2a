"""A study from plan to winner: known recipes first, no test images, pruning, no point twice."""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

import bench.runner
from bench.data import SearchSplits
from bench.errors import BadInput
from bench.execution import (
    EpochEnded,
    Event,
    Failed,
    Halted,
    Started,
    TrialEnded,
)
from bench.figures import STUDY_FIGURES, to_png
from bench.figures.study import expected_best
from bench.models import zoo
from bench.models.zoo import MODELS
from bench.protocol import TrainConfig, load_protocol
from bench.runner import execute_trial, ignore_epochs, trial_checkpoint
from bench.spec import Choice, EpochValues, FloatRange, RunSpec, SearchRange, TrialResult, TrialSpec
from bench.store import Store
from bench.sweep.analysis import analyse
from bench.sweep.book import StudyBook, Ticket
from bench.sweep.loop import Search, TrialDone, TrialPutBack
from bench.sweep.opening import claim, generation
from bench.sweep.plan import StudyPlan, SweepRequest, plan_studies, tunable
from bench.sweep.results import iter_trials, kept_value
from bench.sweep.space import known_recipes, nearest, search_space, settings_of, with_settings
from bench.sweep.storage import open_storage
from bench.sweep.syncing import sync_trials
from bench.sweep.winner import plan_winner, winner_text, write_winner


def make_plan(tiny_protocol: str, store: Store, trials: int = 6, **options: object) -> StudyPlan:
    request = SweepRequest(
        load_protocol(tiny_protocol),
        ("fc_ae",),
        trials=trials,
        protocol_reference=tiny_protocol,
        **options,  # type: ignore[arg-type]
    )
    return plan_studies(request, store)[0]


def open_book(plan: StudyPlan, store: Store) -> StudyBook:
    storage = open_storage(store)
    book = StudyBook(plan, generation(plan, storage), store, storage)
    book.recover(others=True)
    return book


class Silent:
    """A tracker that nobody listens to."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Scripted:
    """An executor without processes: a trial's score by epoch is a function of its settings."""

    def __init__(self, slots: int = 2) -> None:
        self.slots = slots
        self.trained: list[TrialSpec] = []
        self.broken: dict[str, int] = {}
        self.diverging: set[str] = set()
        self.seconds = 0.0
        self._events: list[Event] = []
        self._live: dict[str, tuple[TrialSpec, int]] = {}
        self._stopped: set[str] = set()

    @property
    def running(self) -> list[RunSpec]:
        return [spec for spec, _ in self._live.values()]

    def submit(self, spec: RunSpec) -> None:
        assert isinstance(spec, TrialSpec)
        self.trained.append(spec)
        self._live[spec.run_key] = (spec, 0)
        self._events.append(Started(spec))

    def stop(self, spec: RunSpec) -> None:
        self._stopped.add(spec.run_key)

    def close(self) -> None:
        self._live.clear()

    def events(self, timeout: float) -> list[Event]:
        time.sleep(self.seconds)
        happened, self._events = self._events, []
        for key, (spec, epoch) in list(self._live.items()):
            happened.append(self._step(key, spec, epoch + 1))
        return happened

    def _step(self, key: str, spec: TrialSpec, epoch: int) -> Event:
        if self.broken.get(key, 0) > 0:
            self.broken[key] -= 1
            del self._live[key]
            return Failed(spec, "its worker died twice")
        if key in self.diverging and epoch == 2:
            del self._live[key]
            return TrialEnded(spec, TrialResult("diverged", (_epoch(spec, 1),), 1.0))
        if key in self._stopped:
            self._stopped.discard(key)
            del self._live[key]
            return Halted(spec)
        if epoch > spec.train.epochs:
            del self._live[key]
            history = tuple(_epoch(spec, e) for e in range(1, spec.train.epochs + 1))
            return TrialEnded(spec, TrialResult("finished", history, 1.0))
        self._live[key] = (spec, epoch)
        return EpochEnded(spec, _epoch(spec, epoch))


def _epoch(spec: TrialSpec, epoch: int) -> EpochValues:
    """Worse the further the rate is from 5e-3; falls by epoch."""
    distance = abs(math.log(spec.train.lr / 5e-3))
    score = (0.01 + 0.01 * distance) * (1 + 1 / epoch)
    return EpochValues(epoch, epoch * 15, 1_700_000_000_000 + epoch, {"val/mse": score})


def search(plan: StudyPlan, store: Store, executor: Scripted) -> list[object]:
    book = open_book(plan, store)
    return list(Search(book, store, executor, Silent()).events())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [n for n, row in MODELS.items() if not row.closed_form])
def test_every_range_is_a_setting_of_its_variant(name: str, tiny_protocol: str) -> None:
    row = MODELS[name]
    recipe = {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(row.search) <= recipe | set(row.hyperparameters)
    assert set(row.origin_recipe) <= recipe
    for kind in row.search.values():
        if isinstance(kind, FloatRange):
            assert 0 < kind.low < kind.high


def test_known_recipes_come_first_and_exactly(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    assert plan.known["default"] == {"lr": 0.003, "batch_size": 64, "weight_decay": 0.0}
    assert plan.known["origin"]["lr"] == 1e-3
    book = open_book(plan, store)
    first, second, third = (book.ask() for _ in range(3))
    assert first and second and third
    assert (first.source, second.source, third.source) == ("default", "origin", "")
    # Exactly the protocol's training, although no weight decay lies on no log scale.
    assert first.spec.train == plan.request.protocol.train
    assert second.spec.train.lr == 1e-3
    assert first.spec.seed not in plan.request.protocol.seeds


def test_the_origin_is_tried_only_where_it_differs(tiny_protocol: str, store: Store) -> None:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("lr = 0.003", "lr = 0.001"))
    plan = make_plan(tiny_protocol, store)
    assert set(known_recipes(plan.base, plan.space)) == {"default"}


def test_nearest_point_and_settings() -> None:
    space: Mapping[str, SearchRange] = {
        "lr": FloatRange(1e-4, 1e-2, log=True),
        "batch_size": Choice((32, 64)),
    }
    assert nearest({"lr": 0.0, "batch_size": 100}, space) == {"lr": 1e-4, "batch_size": 64}
    assert nearest({"lr": 5e-3, "batch_size": 32}, space) == {"lr": 5e-3, "batch_size": 32}


def test_settings_reach_recipe_and_variant(tiny_protocol: str, store: Store) -> None:
    request = SweepRequest(load_protocol(tiny_protocol), ("vae",))
    plan = plan_studies(request, store)[0]
    spec = with_settings(plan.base, {"lr": 0.01, "beta": 2})
    assert spec.train.lr == 0.01
    assert spec.hyperparameters["beta"] == 2.0
    assert settings_of(spec, plan.space)["beta"] == 2.0
    assert spec.train.epochs == plan.base.train.epochs


def test_a_search_ends_with_exactly_its_trials_and_prunes(tiny_protocol: str, store: Store) -> None:
    Path(tiny_protocol).write_text(
        Path(tiny_protocol).read_text().replace("epochs = 3", "epochs = 12")
    )
    plan = make_plan(tiny_protocol, store, trials=20, sampler="random")
    executor = Scripted()
    events = search(plan, store, executor)
    done = [event for event in events if isinstance(event, TrialDone)]
    assert len(done) == 20
    assert len({spec.run_key for spec in executor.trained}) == 20
    outcomes = [event.record.outcome for event in done]
    assert outcomes.count("pruned") >= 4
    assert outcomes.count("complete") + outcomes.count("pruned") == 20
    # A pruned one was stopped early, and never in the warm-up.
    pruned = [event.record for event in done if event.record.outcome == "pruned"]
    assert all(2 <= len(record.history) < 12 for record in pruned)
    book = open_book(plan, store)
    winner = book.winner()
    assert winner is not None
    best = min(e.record.value for e in done if e.record.outcome == "complete")
    assert book.value_of(winner.number) == best
    assert [record.number for record in iter_trials(store, plan.name)] == sorted(
        event.ticket.number for event in done
    )
    # The same command again has nothing to do; a larger budget goes on.
    assert search(plan, store, Scripted()) == []
    more = dataclasses.replace(plan, request=dataclasses.replace(plan.request, trials=23))
    again = search(more, store, executor)
    assert sum(isinstance(event, TrialDone) for event in again) == 3
    assert len({spec.run_key for spec in executor.trained}) == 23


def test_without_a_pruner_every_trial_is_complete(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=12, pruner="none", sampler="random")
    done = [e for e in search(plan, store, Scripted()) if isinstance(e, TrialDone)]
    assert {event.record.outcome for event in done} == {"complete"}
    assert len(done) == 12


def test_a_broken_trial_is_put_back_and_a_hopeless_point_given_up(
    tiny_protocol: str, store: Store
) -> None:
    plan = make_plan(tiny_protocol, store, trials=5)
    executor = Scripted(slots=1)
    hopeless = plan.spec(plan.known["origin"]).run_key
    executor.broken = {plan.spec(plan.known["default"]).run_key: 2, hopeless: 99}
    events = search(plan, store, executor)
    put_back = [event for event in events if isinstance(event, TrialPutBack)]
    assert len(put_back) == 2 + 3
    assert "given up" in put_back[-1].reason
    done = [event.ticket for event in events if isinstance(event, TrialDone)]
    assert len(done) == 5
    assert "default" in {ticket.source for ticket in done}
    assert hopeless not in {ticket.key for ticket in done}


def test_a_diverged_trial_counts_and_says_why(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=4)
    executor = Scripted()
    executor.diverging = {plan.spec(plan.known["default"]).run_key}
    done = [e for e in search(plan, store, executor) if isinstance(e, TrialDone)]
    assert len(done) == 4
    (lost,) = [event.record for event in done if event.record.outcome == "diverged"]
    assert lost.source == "default"
    assert "diverged in epoch 1" in lost.message
    book = open_book(plan, store)
    assert (book.counts.diverged, book.counts.complete + book.counts.pruned) == (1, 3)
    winner = book.winner()
    assert winner is not None
    assert winner.source != "default"


def test_time_out_ends_a_search_that_goes_on_later(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=6, timeout=0.6, pruner="none")
    slow = Scripted()
    slow.seconds = 0.1
    first = [e for e in search(plan, store, slow) if isinstance(e, TrialDone)]
    assert len(first) < 6
    book = open_book(plan, store)
    assert not book.study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    on = dataclasses.replace(plan, request=dataclasses.replace(plan.request, timeout=None))
    second = [e for e in search(on, store, Scripted()) if isinstance(e, TrialDone)]
    assert len(first) + len(second) == 6


def test_the_value_is_that_of_the_weights_that_are_kept(tiny_protocol: str, store: Store) -> None:
    spec = make_plan(tiny_protocol, store).base
    history = {
        epoch: EpochValues(epoch, epoch, epoch, {"val/mse": value, "val/psnr": 10 / value})
        for epoch, value in enumerate((0.3, 0.1, 0.2), start=1)
    }
    assert [kept_value(spec, history, upto) for upto in (0, 1, 2, 3)] == [None, 0.3, 0.1, 0.1]
    upwards = dataclasses.replace(spec, selection_metric="psnr")
    assert kept_value(upwards, history, 3) == pytest.approx(100)
    last = dataclasses.replace(spec, train=dataclasses.replace(spec.train, keep="last"))
    assert kept_value(last, history, 3) == 0.2


def test_a_point_is_never_run_twice(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A space of four points: the sampler repeats itself, the trials do not; then it is empty."""
    tiny_space = {"batch_size": Choice((32, 64, 128, 256))}
    row = dataclasses.replace(MODELS["fc_ae"], search=tiny_space, origin_recipe={})
    monkeypatch.setattr(zoo, "MODELS", {**MODELS, "fc_ae": row})
    plan = make_plan(tiny_protocol, store, trials=9)
    executor = Scripted()
    done = [e for e in search(plan, store, executor) if isinstance(e, TrialDone)]
    sizes = [spec.train.batch_size for spec in executor.trained]
    assert sorted(sizes) == [32, 64, 128, 256]
    assert len(done) == 4


def test_what_a_killed_head_left_is_taken_over(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=6)
    book = open_book(plan, store)
    tickets = [book.ask() for _ in range(4)]
    for trial in book.study.get_trials():
        book._annotate(trial.number, "owner", "nohost-that-is:1:1")
    again = StudyBook(plan, plan.name, store, open_storage(store))
    lines = again.recover(others=True)
    assert len(lines) == 4
    assert again.counts.put_back == 4
    first = again.ask()
    assert first is not None and tickets[0] is not None
    assert first.spec == tickets[0].spec
    assert first.source == "default"
    keys = {ticket.key for ticket in tickets if ticket}
    rest = [again.ask() for _ in range(3)]
    assert {ticket.key for ticket in (first, *rest) if ticket} == keys


def test_a_result_that_optuna_never_heard_of_is_told(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tiny_protocol, store, trials=3)

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(StudyBook, "_tell", killed)
        with pytest.raises(SystemExit):
            search(plan, store, Scripted(slots=1))
    executor = Scripted(slots=1)
    monkeypatch.setattr("bench.sweep.book.owner_state", lambda _: "gone")
    done = [e for e in search(plan, store, executor) if isinstance(e, TrialDone)]
    assert len(done) == 2, "the first trial was on disk"
    assert len({spec.run_key for spec in executor.trained}) == 2


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


def test_a_new_study_stands_beside_the_old_one(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    open_book(plan, store).ask()
    fresh = dataclasses.replace(plan, request=dataclasses.replace(plan.request, new_study=True))
    assert open_book(fresh, store).name == "tiny.fc_ae.d4.2"
    assert generation(plan, open_storage(store)) == "tiny.fc_ae.d4.2"


def test_a_foreign_study_of_that_name_is_refused(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    study = optuna.create_study(
        study_name=plan.name, storage=open_storage(store), direction="minimize"
    )
    study.ask()
    with pytest.raises(BadInput, match="did not make"):
        open_book(plan, store)


def test_one_head_at_a_time(store: Store) -> None:
    with (
        claim(store, "s"),
        pytest.raises(BadInput, match="being worked on by process"),
        claim(store, "s"),
    ):
        pass
    with claim(store, "s"):
        pass


def test_trials_cannot_reach_test_images(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tiny_protocol, store)

    def never(*_: object) -> None:
        raise AssertionError("a trial loaded the test images")

    seen: list[SearchSplits] = []
    real = bench.runner._fit

    def watch(model: object, spec: object, splits: SearchSplits, *rest: object) -> object:
        seen.append(splits)
        return real(model, spec, splits, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.runner, "load_splits", never)
    monkeypatch.setattr(bench.runner, "_splits", never)
    monkeypatch.setattr(bench.runner, "_fit", watch)
    result = execute_trial(plan.base, store, ignore_epochs)
    assert result.status == "finished"
    assert len(result.history) == plan.base.train.epochs
    assert all("val/mse" in values.values for values in result.history)
    assert not any(key.startswith("test") for v in result.history for key in v.values)
    assert not hasattr(seen[0], "test")
    assert not list(store.records.iterdir())
    assert not trial_checkpoint(store, plan.base).exists()


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


def test_a_study_in_work_is_left_to_its_head(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=2)
    search(plan, store, Scripted())
    with claim(store, plan.name):
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
    assert [s.recipe for s in runs.specs].count("default") == 2
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
    trials = analyse(open_book(plan, store)).trials
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
