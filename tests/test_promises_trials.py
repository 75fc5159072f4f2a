"""A search counts every trial once, gives up what cannot be run, and draws no point twice."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_support import Scripted, Silent, make_plan, open_book, search
from torn_trials import Torn, done_of, torn_plan, trial_record

from bench.core.errors import CellsFailed
from bench.core.owners import owner
from bench.core.spec import Choice, RunSpec, TrialSpec
from bench.core.store import Store
from bench.execution import Event, Halted, Lost, Started
from bench.models import zoo
from bench.models.zoo import MODELS
from bench.sweep import heads as heads_room
from bench.sweep.book import StudyBook
from bench.sweep.events import TrialPutBack
from bench.sweep.heads import Heads
from bench.sweep.loop import Search
from bench.sweep.opening import generation
from bench.sweep.storage import open_storage
from bench.sweep.trials import Ticket


class Dying(Torn):
    """The worker of a pruned trial dies before it can say so; the trial is queued again."""

    def __init__(self, metric: str) -> None:
        super().__init__(metric)
        self.died: set[str] = set()

    def events(self, timeout: float) -> list[Event]:
        return [event for each in super().events(timeout) for event in self._died(each)]

    def _died(self, event: Event) -> list[Event]:
        if not isinstance(event, Halted) or event.spec.run_key in self.died:
            return [event]
        self.died.add(event.spec.run_key)
        assert isinstance(event.spec, TrialSpec)
        self._live[event.spec.run_key] = (event.spec, 0)
        return [Lost(event.spec, "its worker died"), Started(event.spec)]


def test_a_pruned_trial_whose_worker_dies_counts_once(tiny_protocol: str, store: Store) -> None:
    plan = torn_plan(tiny_protocol, store)
    executor = Dying("mse")
    events = search(plan, store, executor)
    done = done_of(events)
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
    plan = torn_plan(tiny_protocol, store)
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
    plan = torn_plan(tiny_protocol, store, trials=8)
    executor = Breaking(lambda _: True)
    with pytest.raises(CellsFailed, match="3 points in a row failed 3 times each"):
        search(plan, store, executor)
    assert len(executor.points) == 3
    assert len(executor.trained) == 9, "each is tried three times"


def test_points_that_fail_now_and_then_do_not_end_a_search(
    tiny_protocol: str, store: Store
) -> None:
    """Two that fail, one that does not, two that fail, ..."""
    plan = torn_plan(tiny_protocol, store, trials=3)
    executor = Breaking(lambda point: point % 3 != 2)
    assert len(done_of(search(plan, store, executor))) == 3
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
    assert len(done_of(search(plan, store, executor))) == 3
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


def test_what_a_dead_head_had_ended_stays_its_own(tiny_protocol: str, store: Store) -> None:
    """Only what it left undone is taken over."""
    plan = make_plan(tiny_protocol, store, trials=4)
    dead = open_book(plan, store)
    ended, left = dead.ask(), dead.ask()
    assert ended is not None
    assert left is not None
    dead.end(ended, trial_record(ended, plan, 0.5))
    heir = open_book(plan, store, owner())
    again = heir.ask()
    assert again is not None
    assert again.key == left.key
    heads = {claim.trial: claim.head for claim in heir.heads.claims()}
    assert heads == {ended.number: dead.heads.me, again.number: heir.heads.me}


def test_a_head_that_froze_before_it_had_a_point_gets_none(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place was given back meanwhile; with it there would be a trial too many."""
    plan = make_plan(tiny_protocol, store, trials=2)
    frozen, other = (open_book(plan, store, owner()) for _ in range(2))
    real = frozen._draw

    def late(claim: str) -> Ticket | None:
        time.sleep(0.05)
        with monkeypatch.context() as patch:
            patch.setattr(heads_room, "LEASE_SECONDS", 0.001)
            other.recover()
        return real(claim)

    monkeypatch.setattr(frozen, "_draw", late)
    assert frozen.ask() is None
    assert not frozen.heads.claims(), "it has no place"
    assert not frozen.exhausted, "there are points enough"
    other.recover()
    for _ in range(2):
        ticket = other.ask()
        assert ticket is not None
        other.end(ticket, trial_record(ticket, plan, 0.5))
    assert other.settled
    assert other.counts.finished == 2
