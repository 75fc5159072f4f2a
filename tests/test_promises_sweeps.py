"""A search follows validation by the metric that selects, and sees no test image.

The trials here are scripted: what training losses, test scores and other metrics say of them is
the opposite of what validation says.
"""

import dataclasses
from pathlib import Path

import numpy as np
import optuna
import pytest
from sweep_support import GONE, Scripted, make_plan, open_book, search
from torn_trials import EPOCHS, Torn, distance, done_of, torn_plan, trial_record

import bench.execution.runner
from bench.core.protocol import load_protocol
from bench.core.recipes import tuned
from bench.core.spec import EpochValues, RunRecord, RunSpec
from bench.core.store import Store
from bench.data import load_set
from bench.execution import EpochEnded, Event, TrialEnded
from bench.execution.runner import execute, execute_trial, ignore_epochs
from bench.metrics import METRICS
from bench.sweep.book import StudyBook
from bench.sweep.events import TrialEpoch
from bench.sweep.plan import StudyPlan, SweepRequest, plan_studies
from bench.sweep.report import report
from bench.sweep.running import StudyOutcome
from bench.sweep.samplers import make_pruner
from bench.sweep.trials import Ticket


@pytest.mark.parametrize("metric", ["mse", "psnr"])
def test_best_trial_pruning_and_winner_follow_validation(
    metric: str, tiny_protocol: str, store: Store
) -> None:
    plan = torn_plan(tiny_protocol, store, metric)
    executor = Torn(metric)
    events = search(plan, store, executor)
    done = done_of(events)
    assert len(done) == len(executor.trained) == 16
    pruned = [record for record in done if record.outcome == "pruned"]
    complete = [record for record in done if record.outcome == "complete"]
    assert len(pruned) >= 4
    assert len(complete) >= 4
    book = open_book(plan, store)
    winner, best = book.trials.winner(), book.trials.best()
    assert winner is not None
    assert best is not None
    truly_best = min(executor.trained, key=distance)
    assert winner.spec == truly_best
    assert best[1] == winner.number
    (record,) = [record for record in done if record.number == winner.number]
    assert best[0] == record.value
    # What was pruned is worse than what trained to its end, on the whole.
    assert np.median([distance(r.spec) for r in pruned]) > np.median(
        [distance(r.spec) for r in complete]
    )


@pytest.mark.parametrize("metric", ["mse", "psnr"])
def test_the_value_of_a_trial_is_its_best_so_far_on_validation(
    metric: str, tiny_protocol: str, store: Store
) -> None:
    """What Optuna, the events and the record say is the same; nothing after a verdict counts."""
    plan = torn_plan(tiny_protocol, store, metric)
    best = max if METRICS[metric].higher_is_better else min
    events = search(plan, store, Torn(metric, late=2))
    told = {trial.number: trial for trial in open_book(plan, store).trials.finished()}
    for record in done_of(events):
        scores = [values.values[f"val/{metric}"] for values in record.history]
        reported = told[record.number].intermediate_values
        assert reported == {epoch: best(scores[:epoch]) for epoch in range(1, max(reported) + 1)}
        assert record.value == reported[max(reported)]
        if record.outcome == "complete":
            assert told[record.number].value == record.value
            assert max(reported) == EPOCHS
        else:
            assert 2 <= max(reported) < EPOCHS
            # Unless it was so late that it would have ended anyway, it trained on.
            assert len(record.history) == min(max(reported) + 2, EPOCHS)
    shown = [(e.ticket.number, e.epoch, e.value) for e in events if isinstance(e, TrialEpoch)]
    by_number = {record.number: record for record in done_of(events)}
    for number, epoch, value in shown:
        history = by_number[number].history[:epoch]
        assert value == best(values.values[f"val/{metric}"] for values in history)


def test_a_trial_that_has_trained_to_its_end_is_not_pruned(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to save any more, whatever a pruner makes of its last epoch."""

    def at_the_end(book: StudyBook, ticket: Ticket) -> bool:
        return max(book._live[ticket.key].reported) == EPOCHS

    monkeypatch.setattr(StudyBook, "should_prune", at_the_end)
    done = done_of(search(torn_plan(tiny_protocol, store, trials=3), store, Torn("mse")))
    assert [record.outcome for record in done] == ["complete"] * 3


def test_no_more_trials_run_than_there_are_slots(tiny_protocol: str, store: Store) -> None:
    executor = Torn("mse", slots=3)
    search(torn_plan(tiny_protocol, store, trials=9), store, executor)
    assert executor.most == 3


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(("pruner", "bar"), [("third", 3.5), ("median", 5.5)])
def test_a_pruner_stops_what_is_below_its_bar(direction: str, pruner: str, bar: float) -> None:
    """Ten complete trials of values 1 to 10, best first; from the second of nine epochs on."""
    sign = 1 if direction == "minimize" else -1
    study = optuna.create_study(
        direction=direction,  # type: ignore[arg-type]
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=make_pruner(pruner, EPOCHS),
    )

    def stops(value: float, epoch: int) -> bool:
        trial = study.ask()
        for earlier in range(1, epoch + 1):
            trial.report(sign * value, earlier)
        verdict = trial.should_prune()
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return verdict

    for value in range(1, 11):
        if value <= 5:
            assert not stops(100.0, 6), "too few are complete"
        trial = study.ask()
        for epoch in range(1, EPOCHS + 1):
            trial.report(sign * float(value), epoch)
        study.tell(trial, sign * float(value))
    assert not stops(100.0, 1)
    for epoch in (2, 6):
        assert not stops(bar - 0.6, epoch)
        assert stops(bar + 0.7, epoch)


@pytest.mark.parametrize(("metric", "good", "bad"), [("mse", 0.1, 0.5), ("psnr", 0.5, 0.1)])
def test_the_winner_is_complete_the_best_and_of_equals_the_earlier(
    metric: str, good: float, bad: float, tiny_protocol: str, store: Store
) -> None:
    plan = torn_plan(tiny_protocol, store, metric, trials=6)
    book = open_book(plan, store)
    ends = [
        (bad, "complete"),
        (good, "complete"),
        (good, "complete"),
        (0.0 if metric == "mse" else 9.0, "pruned"),
        (0.0 if metric == "mse" else 9.0, "diverged"),
    ]
    tickets = []
    for value, outcome in ends:
        ticket = book.ask()
        assert ticket is not None
        book.end(ticket, trial_record(ticket, plan, value, outcome))
        tickets.append(ticket)
    winner = book.trials.winner()
    assert winner is not None
    assert winner.number == tickets[1].number
    assert book.trials.best() == (good, winner.number)
    assert (book.counts.complete, book.counts.pruned, book.counts.diverged) == (3, 1, 1)
    assert not book.settled
    last = book.ask()
    assert last is not None
    assert book.ask() is None, "every place is taken"
    book.end(last, trial_record(last, plan, bad))
    assert book.settled
    assert book.counts.finished == 6
    assert book.ask() is None


class Training(Scripted):
    """An executor that trains in this process, one trial after the other."""

    def __init__(self, store: Store) -> None:
        super().__init__(slots=1)
        self._store = store

    def events(self, timeout: float) -> list[Event]:
        happened, self._events = self._events, []
        for key, (spec, _) in list(self._live.items()):
            epochs: list[EpochValues] = []
            result = execute_trial(spec, self._store, lambda values: bool(epochs.append(values)))  # noqa: B023
            happened += [EpochEnded(spec, values) for values in epochs]
            happened.append(TrialEnded(spec, result))
            del self._live[key]
        return happened


def test_a_search_never_opens_the_test_part(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real trainings, where whoever loads the test images or scores them fails."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("somebody looked at the test images")

    plan = make_plan(tiny_protocol, store, trials=4, sampler="random")
    for name in ("load_splits", "_splits", "score"):
        monkeypatch.setattr(bench.execution.runner, name, never)
    done = done_of(search(plan, store, Training(store)))
    assert [record.outcome for record in done] == ["complete"] * 4
    for record in done:
        assert {key.partition("/")[0] for v in record.history for key in v.values} == {
            "train",
            "val",
        }
        assert record.value == min(values.values["val/mse"] for values in record.history)
        assert not (store.checkpoints / record.spec.checkpoint_name).exists()
    winner = open_book(plan, store).trials.winner()
    assert winner is not None
    assert winner.number == min(done, key=lambda record: record.value or 9).number
    assert not list(store.records.iterdir())


def _npz(path: Path, test_images: np.ndarray) -> str:
    train = load_set("mnist_mini").parts["train"]
    np.savez(
        path,
        x_train=train.images[:300],
        y_train=train.labels[:300],
        x_val=train.images[300:400],
        y_val=train.labels[300:400],
        x_test=test_images,
        y_test=np.arange(len(test_images)) % 10,
    )
    return f"npz:{path}"


def test_other_test_images_change_nothing_in_a_trial(
    tiny_protocol: str, store: Store, tmp_path: Path
) -> None:
    path = Path(tiny_protocol)
    path.write_text(
        path.read_text().split("[split]")[0] + "[train]\nepochs = 2\nbatch_size = 64\nlr = 0.01\n"
    )
    shape = load_set("mnist_mini").parts["train"].images[:50].shape
    curves = []
    for name, images in {"grey": np.full(shape, 100), "white": np.full(shape, 255)}.items():
        dataset = _npz(tmp_path / f"{name}.npz", images.astype(np.uint8))
        request = SweepRequest(load_protocol(tiny_protocol), ("fc_ae",), dataset=dataset)
        (plan,) = plan_studies(request, store)
        result = execute_trial(plan.base, store, ignore_epochs)
        curves.append([dict(values.values) for values in result.history])
    assert curves[0] == curves[1]


def _outcome(plan: StudyPlan, store: Store, default: float, winner: float) -> StudyOutcome:
    """A study whose runs have these scores on validation, and the opposite on test."""
    settings = {**plan.known["default"], "lr": 2e-3}
    confirmation = plan.with_recipe(settings, tuned(3), store)
    ticket = Ticket(2, plan.spec(settings), "", settings)
    template = execute(plan.defaults.specs[0], store, ignore_epochs)

    def record(spec: RunSpec) -> RunRecord:
        score = winner if spec.recipe == tuned(3) else default
        off = 0.01 if spec.seed else -0.01
        other = default + winner - score
        metric = plan.base.selection_metric
        scores = {"val": {metric: score + off}, "test": {metric: other}}
        return dataclasses.replace(template, spec=spec, run_key=spec.run_key, scores=scores)

    records = {spec.run_key: record(spec) for spec in confirmation.specs}
    book = open_book(plan, store, GONE)
    return StudyOutcome(
        plan,
        plan.name,
        book.counts,
        winner=ticket,
        recipe=tuned(3),
        confirmation=confirmation,
        records=records,
    )


@pytest.mark.parametrize(("metric", "gain"), [("mse", 50.0), ("psnr", -50.0)])
def test_what_a_winner_gains_is_said_of_validation_with_the_metric_s_direction(
    metric: str, gain: float, tiny_protocol: str, store: Store
) -> None:
    plan = torn_plan(tiny_protocol, store, metric)
    outcome = _outcome(plan, store, default=0.2, winner=0.1)
    assert outcome.mean(tuned=False) == pytest.approx(0.2)
    assert outcome.mean(tuned=True) == pytest.approx(0.1)
    assert outcome.gain_percent == pytest.approx(gain)
    better = _rival(outcome, 0.15)
    rows = report([outcome, better])
    before, after = ([row[key] for row in rows] for key in ("rank_before", "rank_after"))
    if metric == "mse":
        assert (before, after) == ([2, 1], [1, 2])
    else:
        assert (before, after) == ([1, 2], [1, 2])


def _rival(outcome: StudyOutcome, score: float) -> StudyOutcome:
    """Another study of the same size, whose runs all have one score on validation."""
    metric = outcome.plan.base.selection_metric
    records = {
        key: dataclasses.replace(record, scores={"val": {metric: score}})
        for key, record in outcome.records.items()
    }
    return dataclasses.replace(outcome, records=records)
