"""A search follows validation by the metric that selects, and counts every trial once.

The trials here are scripted: what training losses, test scores and other metrics say of them is
the opposite of what validation says.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from sweep_support import GONE, Scripted, Silent, make_plan, open_book, search

import bench.execution.runner
from bench.core.errors import CellsFailed
from bench.core.owners import owner
from bench.core.protocol import load_protocol
from bench.core.recipes import tuned
from bench.core.spec import Choice, EpochValues, RunRecord, RunSpec, TrialSpec
from bench.core.store import Store
from bench.data import load_set
from bench.execution import EpochEnded, Event, Halted, Lost, Started, TrialEnded
from bench.execution.runner import execute, execute_trial, ignore_epochs
from bench.metrics import METRICS
from bench.models import zoo
from bench.models.zoo import MODELS
from bench.sweep.book import StudyBook
from bench.sweep.events import TrialDone, TrialEpoch, TrialPutBack
from bench.sweep.heads import Heads
from bench.sweep.loop import Search
from bench.sweep.opening import generation
from bench.sweep.plan import StudyPlan, SweepRequest, plan_studies
from bench.sweep.report import report
from bench.sweep.results import TRIAL_SCHEMA, TrialRecord
from bench.sweep.running import StudyOutcome
from bench.sweep.samplers import make_pruner
from bench.sweep.storage import open_storage
from bench.sweep.trials import Ticket

EPOCHS = 9


class Torn(Scripted):
    """Every score but that of `metric` on validation says the opposite.

    Scores get worse in every second epoch, so that the last one is not the best. `late`: how many
    epochs a worker trains on before it hears of a stop.
    """

    def __init__(self, metric: str, slots: int = 2, late: int = 0) -> None:
        super().__init__(slots)
        self.metric = metric
        self.late = late
        self.most = 0
        self._stops: list[tuple[int, RunSpec]] = []

    def submit(self, spec: RunSpec) -> None:
        assert len(self.trained) < 100, "a search without end"
        super().submit(spec)

    def stop(self, spec: RunSpec) -> None:
        self._stops.append((self.late, spec))

    def events(self, timeout: float) -> list[Event]:
        for wait, spec in self._stops:
            if wait == 0:
                super().stop(spec)
        self._stops = [(wait - 1, spec) for wait, spec in self._stops if wait > 0]
        self.most = max(self.most, len(self.running))
        return [self._torn(event) for event in super().events(timeout)]

    def _torn(self, event: Event) -> Event:
        if isinstance(event, EpochEnded):
            return EpochEnded(event.spec, self._values(event.values))
        if isinstance(event, TrialEnded):
            history = tuple(self._values(values) for values in event.result.history)
            return TrialEnded(event.spec, dataclasses.replace(event.result, history=history))
        return event

    def _values(self, values: EpochValues) -> EpochValues:
        true = values.values["val/mse"] * (1 if values.epoch % 2 else 1.5)
        false = 1 / true
        torn = {"train/loss": false, "val/mae": false}
        for part in ("val", "test"):
            torn |= {f"{part}/mse": false, f"{part}/psnr": true}
        torn[f"val/{self.metric}"] = true if self.metric == "mse" else false
        return dataclasses.replace(values, values=torn)


def _distance(spec: TrialSpec) -> float:
    """How bad a scripted trial truly is."""
    return abs(np.log(spec.train.lr / 5e-3))


def _plan(
    tiny_protocol: str, store: Store, metric: str = "mse", trials: int = 16, **options: object
) -> StudyPlan:
    path = Path(tiny_protocol)
    text = path.read_text().replace("epochs = 3", f"epochs = {EPOCHS}")
    path.write_text(text.replace("[split]", f'selection_metric = "{metric}"\n[split]'))
    return make_plan(tiny_protocol, store, trials, **{"sampler": "random", **options})


def _done(events: list[object]) -> list[TrialRecord]:
    return [event.record for event in events if isinstance(event, TrialDone)]


@pytest.mark.parametrize("metric", ["mse", "psnr"])
def test_best_trial_pruning_and_winner_follow_validation(
    metric: str, tiny_protocol: str, store: Store
) -> None:
    plan = _plan(tiny_protocol, store, metric)
    executor = Torn(metric)
    events = search(plan, store, executor)
    done = _done(events)
    assert len(done) == len(executor.trained) == 16
    pruned = [record for record in done if record.outcome == "pruned"]
    complete = [record for record in done if record.outcome == "complete"]
    assert len(pruned) >= 4
    assert len(complete) >= 4
    book = open_book(plan, store)
    winner, best = book.trials.winner(), book.trials.best()
    assert winner is not None
    assert best is not None
    truly_best = min(executor.trained, key=_distance)
    assert winner.spec == truly_best
    assert best[1] == winner.number
    (record,) = [record for record in done if record.number == winner.number]
    assert best[0] == record.value
    # What was pruned is worse than what trained to its end, on the whole.
    assert np.median([_distance(r.spec) for r in pruned]) > np.median(
        [_distance(r.spec) for r in complete]
    )


@pytest.mark.parametrize("metric", ["mse", "psnr"])
def test_the_value_of_a_trial_is_its_best_so_far_on_validation(
    metric: str, tiny_protocol: str, store: Store
) -> None:
    """What Optuna, the events and the record say is the same; nothing after a verdict counts."""
    plan = _plan(tiny_protocol, store, metric)
    best = max if METRICS[metric].higher_is_better else min
    events = search(plan, store, Torn(metric, late=2))
    told = {trial.number: trial for trial in open_book(plan, store).trials.finished()}
    for record in _done(events):
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
    by_number = {record.number: record for record in _done(events)}
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
    done = _done(search(_plan(tiny_protocol, store, trials=3), store, Torn("mse")))
    assert [record.outcome for record in done] == ["complete"] * 3


def test_no_more_trials_run_than_there_are_slots(tiny_protocol: str, store: Store) -> None:
    executor = Torn("mse", slots=3)
    search(_plan(tiny_protocol, store, trials=9), store, executor)
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


def _ended(ticket: Ticket, plan: StudyPlan, value: float, outcome: str = "complete") -> TrialRecord:
    return TrialRecord(
        schema_version=TRIAL_SCHEMA,
        study=plan.name,
        number=ticket.number,
        source=ticket.source,
        settings=dict(ticket.settings),
        spec=ticket.spec,
        outcome=outcome,  # type: ignore[arg-type]
        value=value,
        history=(),
        started_unix_ms=0,
        finished_unix_ms=1,
    )


@pytest.mark.parametrize(("metric", "good", "bad"), [("mse", 0.1, 0.5), ("psnr", 0.5, 0.1)])
def test_the_winner_is_complete_the_best_and_of_equals_the_earlier(
    metric: str, good: float, bad: float, tiny_protocol: str, store: Store
) -> None:
    plan = _plan(tiny_protocol, store, metric, trials=6)
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
        book.end(ticket, _ended(ticket, plan, value, outcome))
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
    book.end(last, _ended(last, plan, bad))
    assert book.settled
    assert book.counts.finished == 6
    assert book.ask() is None


class Dying(Torn):
    """The worker of a pruned trial dies before it can say so; the trial is queued again."""

    def events(self, timeout: float) -> list[Event]:
        return [event for each in super().events(timeout) for event in self._died(each)]

    def _died(self, event: Event) -> list[Event]:
        if not isinstance(event, Halted) or event.spec.run_key in self.died:
            return [event]
        self.died.add(event.spec.run_key)
        assert isinstance(event.spec, TrialSpec)
        self._live[event.spec.run_key] = (event.spec, 0)
        return [Lost(event.spec, "its worker died"), Started(event.spec)]

    def __init__(self, metric: str) -> None:
        super().__init__(metric)
        self.died: set[str] = set()


def test_a_pruned_trial_whose_worker_dies_counts_once(tiny_protocol: str, store: Store) -> None:
    plan = _plan(tiny_protocol, store)
    executor = Dying("mse")
    events = search(plan, store, executor)
    done = _done(events)
    pruned = {record.spec.run_key for record in done if record.outcome == "pruned"}
    assert executor.died == pruned
    assert len(done) == len({record.number for record in done}) == 16
    assert not [event for event in events if isinstance(event, TrialPutBack)]
    book = open_book(plan, store)
    assert (book.counts.finished, book.counts.pruned) == (16, len(pruned))
    for _ in range(3):
        executor.events(0)
    assert not executor.running, "it does not train on elsewhere"


class Saving(Torn):
    """Its workers save where they were stopped, as real ones do."""

    def __init__(self, store: Store) -> None:
        super().__init__("mse")
        self._store = store
        self.saved: list[Path] = []

    def events(self, timeout: float) -> list[Event]:
        happened = super().events(timeout)
        for event in happened:
            if isinstance(event, Halted):
                assert isinstance(event.spec, TrialSpec)
                path = self._store.checkpoints / event.spec.checkpoint_name
                path.write_bytes(b"")
                self.saved.append(path)
        return happened


def test_a_trial_that_counts_leaves_no_checkpoint(tiny_protocol: str, store: Store) -> None:
    """A pruned trial is over; one that is put back goes on from where it was."""
    executor = Saving(store)
    plan = _plan(tiny_protocol, store)
    search(plan, store, executor)
    assert executor.saved
    assert not [path for path in executor.saved if path.exists()]
    more = dataclasses.replace(plan.request, trials=18, timeout=0.01)
    executor.saved.clear()
    executor.seconds = 0.05
    book = open_book(dataclasses.replace(plan, request=more), store)
    stopped = list(Search(book, store, executor, Silent()).events())  # type: ignore[arg-type]
    assert [event for event in stopped if isinstance(event, TrialPutBack)]
    assert executor.saved
    assert all(path.exists() for path in executor.saved)


class Breaking(Scripted):
    """One slot, and points that break every worker, by the order in which they first come."""

    def __init__(self, breaks: Callable[[int], bool]) -> None:
        super().__init__(slots=1)
        self._breaks = breaks
        self.points: list[str] = []

    def submit(self, spec: RunSpec) -> None:
        if spec.run_key not in self.points:
            if self._breaks(len(self.points)):
                self.broken[spec.run_key] = 99
            self.points.append(spec.run_key)
        super().submit(spec)


def test_a_search_ends_when_three_points_in_a_row_cannot_be_run(
    tiny_protocol: str, store: Store
) -> None:
    plan = _plan(tiny_protocol, store, trials=8)
    executor = Breaking(lambda _: True)
    with pytest.raises(CellsFailed, match="3 points in a row failed 3 times each"):
        search(plan, store, executor)
    assert len(executor.points) == 3
    assert len(executor.trained) == 9, "each is tried three times"


def test_points_that_fail_now_and_then_do_not_end_a_search(
    tiny_protocol: str, store: Store
) -> None:
    """Two that fail, one that does not, two that fail, ..."""
    plan = _plan(tiny_protocol, store, trials=3)
    executor = Breaking(lambda point: point % 3 != 2)
    assert len(_done(search(plan, store, executor))) == 3
    assert open_book(plan, store).counts.given_up == 6
    assert len(executor.trained) == 6 * 3 + 3, "what is given up is not tried again"


def test_a_point_that_is_given_up_is_not_drawn_again(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a space of four points a sampler comes back to it."""
    row = dataclasses.replace(
        MODELS["fc_ae"], search={"batch_size": Choice((32, 64, 128, 256))}, origin_recipe={}
    )
    monkeypatch.setattr(zoo, "MODELS", {**MODELS, "fc_ae": row})
    plan = make_plan(tiny_protocol, store, trials=9)
    executor = Breaking(lambda point: point == 0)
    assert len(_done(search(plan, store, executor))) == 3
    assert len(executor.trained) == 3 + 3


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_study_that_goes_on_draws_new_points(
    sampler: str, tiny_protocol: str, store: Store
) -> None:
    """With the same seed it would draw its first points again, and throw them away."""
    for trials in (5, 8, 12):
        plan = make_plan(tiny_protocol, store, trials=trials, sampler=sampler, pruner="none")
        search(plan, store, Scripted())
    book = open_book(plan, store)
    assert book.counts.finished == 12
    assert len(book.trials.all()) == 12
    assert len({trial.params["lr"] for trial in book.trials.all()}) == 12


def test_heads_that_start_together_draw_different_points(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=12, sampler="random")
    storage = open_storage(store)
    name = generation(plan, storage, store)
    with Heads(storage, name, owner()) as one, Heads(storage, name, owner()) as other:
        books = [StudyBook(plan, name, store, storage, heads) for heads in (one, other)]
        books[0].recover()
        tickets = [book.ask() for _ in range(4) for book in books]
        assert None not in tickets
        assert not [t for t in books[0].trials.all() if "duplicate_of" in t.user_attrs]


def test_the_seed_of_a_sweep_decides_its_points_and_trainings(
    tiny_protocol: str, tmp_path: Path
) -> None:
    def drawn(seed: int, name: str) -> list[float]:
        store = Store(tmp_path / name).prepare()
        plan = make_plan(tiny_protocol, store, trials=6, sampler="random", seed=seed)
        assert plan.base.seed == 1000 + seed
        book = open_book(plan, store)
        tickets = [ticket for _ in range(6) if (ticket := book.ask()) and not ticket.source]
        return [ticket.spec.train.lr for ticket in tickets]

    first = drawn(0, "a")
    assert len(first) == 4
    assert first == drawn(0, "b")
    assert not set(first) & set(drawn(1, "c"))


def test_trials_never_use_a_seed_of_the_protocol(tiny_protocol: str, store: Store) -> None:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("seeds = [0, 1]", "seeds = [1000, 1001, 1003]"))
    assert make_plan(tiny_protocol, store).base.seed == 1002
    assert make_plan(tiny_protocol, store, seed=3).base.seed == 1004


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
    done = _done(search(plan, store, Training(store)))
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
    for name, images in {"black": np.zeros(shape), "white": np.full(shape, 255)}.items():
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
    plan = _plan(tiny_protocol, store, metric)
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
