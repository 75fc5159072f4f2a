"""A study from plan to winner: known recipes first, pruning, no point twice, kills mended."""

import dataclasses
import signal
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from sweep_support import Scripted, make_plan, open_book, search

from bench.core.interrupts import gentle_interrupt
from bench.core.protocol import TrainConfig, load_protocol
from bench.core.spec import Choice, EpochValues, FloatRange, SearchRange
from bench.core.store import Store
from bench.models import zoo
from bench.models.settings import with_settings
from bench.models.zoo import MODELS
from bench.sweep.events import TrialDone, TrialPutBack
from bench.sweep.plan import SweepRequest, plan_studies
from bench.sweep.results import iter_trials, kept_value
from bench.sweep.space import known_recipes, nearest, settings_of
from bench.sweep.trials import Trials


@pytest.mark.parametrize("name", [n for n, row in MODELS.items() if not row.closed_form])
def test_every_range_is_a_setting_of_its_variant(name: str, tiny_protocol: str) -> None:
    row = MODELS[name]
    recipe = {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(row.search) <= recipe | set(row.hyperparameters)
    assert set(row.origin_recipe) <= recipe
    for kind in row.search.values():
        if isinstance(kind, FloatRange):
            assert kind.low < kind.high
            assert kind.low > 0 or not kind.log


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
    winner = book.trials.winner()
    assert winner is not None
    best = min(e.record.value for e in done if e.record.outcome == "complete")
    assert book.trials.value_of(winner.number) == best
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
    winner = book.trials.winner()
    assert winner is not None
    assert winner.source != "default"


def test_time_out_ends_a_search_that_goes_on_later(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=6, timeout=0.6, pruner="none")
    slow = Scripted()
    slow.seconds = 0.1
    first = [e for e in search(plan, store, slow) if isinstance(e, TrialDone)]
    assert len(first) < 6
    book = open_book(plan, store)
    assert not book.trials.study.get_trials(states=[optuna.trial.TrialState.RUNNING])
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
    again = open_book(plan, store)
    states = [trial.state for trial in again.trials.all()]
    assert states.count(optuna.trial.TrialState.RUNNING) == 0
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
        patch.setattr(Trials, "tell", killed)
        with pytest.raises(SystemExit):
            search(plan, store, Scripted(slots=1))
    executor = Scripted(slots=1)
    done = [e for e in search(plan, store, executor) if isinstance(e, TrialDone)]
    assert len(done) == 2, "the first trial was on disk"
    assert len({spec.run_key for spec in executor.trained}) == 2


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_interrupts(sign: signal.Signals) -> None:
    before = signal.getsignal(sign)
    with gentle_interrupt() as interrupt:
        assert not interrupt.asked
        signal.raise_signal(sign)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(sign)
    assert signal.getsignal(sign) == before
