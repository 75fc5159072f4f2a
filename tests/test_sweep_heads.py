"""Several heads on one study: exactly N trials, no point twice, whatever becomes of a head."""

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from postgres import Server, running_server
from sweep_support import GONE, Scripted, Silent, make_plan, open_book

from bench.core.owners import owner
from bench.core.store import Store
from bench.sweep import heads as heads_room
from bench.sweep.events import TrialDone, TrialPutBack
from bench.sweep.heads import ClaimLost
from bench.sweep.loop import Search
from bench.sweep.plan import StudyPlan
from bench.sweep.results import TRIAL_SCHEMA, TrialRecord, iter_trials
from bench.sweep.storage import open_storage
from bench.sweep.trials import Ticket


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def database(server: Server) -> str:
    """The address of an empty data base."""
    name = f"t{time.time_ns()}"
    engine = sa.create_engine(server.address.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.address.rpartition("/")[0] + f"/{name}"


class HeadThread(threading.Thread):
    """A head in this process, with a scripted executor and a store of its own."""

    def __init__(self, plan: StudyPlan, store: Store, slots: int = 2) -> None:
        super().__init__(daemon=True)
        self.plan, self.store = plan, store
        self.executor = Scripted(slots)
        self.executor.seconds = 0.01
        self.events: list[object] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.book = open_book(self.plan, self.store, owner())
            search = Search(self.book, self.store, self.executor, Silent())  # type: ignore[arg-type]
            for event in search.events():
                self.events.append(event)
        except BaseException as error:
            self.error = error

    @property
    def done(self) -> list[Ticket]:
        return [event.ticket for event in self.events if isinstance(event, TrialDone)]


def search_together(
    plan: StudyPlan,
    stores: list[Store],
    meanwhile: Callable[[list[HeadThread]], None] = lambda _: None,
) -> list[HeadThread]:
    """A head a store, all at once; fails where one of them does not come to its end."""
    threads = [HeadThread(plan, store) for store in stores]
    for thread in threads:
        thread.start()
    meanwhile(threads)
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
        if thread.error is not None:
            raise thread.error
    return threads


def check_exact(plan: StudyPlan, store: Store, heads: list[HeadThread]) -> None:
    """N finished trials among all heads, each point once, a place for each."""
    study = optuna.load_study(
        study_name=plan.name, storage=open_storage(store, plan.request.storage)
    )
    finished = [t for t in study.get_trials() if t.state.name in ("COMPLETE", "PRUNED")]
    wanted = plan.request.trials
    assert len(finished) == wanted
    assert not [t for t in study.get_trials() if t.state.name == "RUNNING"]
    tickets = [ticket for head in heads for ticket in head.done]
    assert sorted(t.number for t in tickets) == [t.number for t in finished]
    assert len({ticket.key for ticket in tickets}) == wanted
    sources = [ticket.source for ticket in tickets if ticket.source]
    assert sorted(sources) == ["default", "origin"]
    claims = heads[0].book.heads.claims()
    assert len(claims) == wanted
    assert all(claim.done for claim in claims)


def test_two_heads_on_one_file(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=14)
    heads = search_together(plan, [store, store])
    check_exact(plan, store, heads)
    assert all(head.done for head in heads), "one head did everything"
    assert len(list(iter_trials(store, plan.name))) == 14


@pytest.mark.slow
def test_three_heads_on_a_server_that_restarts(
    tiny_protocol: str, store: Store, tmp_path: Path, database: str, server: Server
) -> None:
    """Each head has a store of its own, as on machines of their own."""
    plan = make_plan(tiny_protocol, store, trials=30, storage=database)
    stores = [Store(tmp_path / name).prepare() for name in "abc"]

    def restart_twice(heads: list[HeadThread]) -> None:
        for trials in (1, 9):
            deadline = time.monotonic() + 60
            while sum(len(head.done) for head in heads) < trials or not all(
                head.events or head.error for head in heads
            ):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            server.restart()

    heads = search_together(plan, stores, restart_twice)
    check_exact(plan, store, heads)
    on_disk = [record.number for s in stores for record in iter_trials(s, plan.name)]
    assert len(on_disk) == len(set(on_disk)) == 30


def test_a_dead_head_s_trials_are_taken_over(
    tiny_protocol: str, store: Store, tmp_path: Path, database: str
) -> None:
    plan = make_plan(tiny_protocol, store, trials=6, storage=database)
    dead = open_book(plan, Store(tmp_path / "dead").prepare(), GONE)
    tickets = [dead.ask() for _ in range(3)]
    (head,) = search_together(plan, [store])
    assert {t.key for t in tickets if t} <= {ticket.key for ticket in head.done}
    assert len(head.done) == 6
    claims = head.book.heads.claims()
    assert {claim.head for claim in claims} == {head.book.heads.me}
    assert len(claims) == 6


def record_of(ticket: Ticket, plan: StudyPlan) -> TrialRecord:
    return TrialRecord(
        schema_version=TRIAL_SCHEMA,
        study=plan.name,
        number=ticket.number,
        source=ticket.source,
        settings=dict(ticket.settings),
        spec=ticket.spec,
        outcome="complete",
        value=0.5,
        history=(),
        started_unix_ms=0,
        finished_unix_ms=1,
    )


def test_a_head_that_was_frozen_learns_that_its_trial_is_another_s(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tiny_protocol, store, trials=4)
    frozen = open_book(plan, store, owner())
    first, second = frozen.ask(), frozen.ask()
    assert first and second
    other = open_book(plan, store, owner())
    assert not other.recover(), "a silent moment is no death"
    time.sleep(0.05)
    with monkeypatch.context() as patch:
        patch.setattr(heads_room, "LEASE_SECONDS", 0.001)
        assert len(other.recover()) == 2
    taken = other.ask()
    assert taken is not None
    assert taken.key == first.key
    with pytest.raises(ClaimLost):
        frozen.end(first, record_of(first, plan))
    with pytest.raises(ClaimLost):
        frozen.report(second, 1, 0.4)
    assert not list(iter_trials(store, plan.name)), "a late result is withdrawn"
    lost, lines = frozen.mind_others()
    assert {ticket.key for ticket in lost} == {first.key, second.key}
    assert not lines
    other.end(taken, record_of(taken, plan))
    assert other.counts.finished == 1
    assert [record.number for record in iter_trials(store, plan.name)] == [taken.number]


def test_a_search_lets_go_of_what_was_taken(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tiny_protocol, store, trials=3)
    executor = Scripted(slots=1)
    frozen = open_book(plan, store, owner())
    search = Search(frozen, store, executor, Silent()).events()  # type: ignore[arg-type]
    next(search)
    time.sleep(0.05)
    with monkeypatch.context() as patch:
        patch.setattr(heads_room, "LEASE_SECONDS", 0.001)
        thief = open_book(plan, store, owner())
    assert thief.counts.put_back == 1
    rest = list(search)
    assert [e.reason for e in rest if isinstance(e, TrialPutBack)]
    assert sum(isinstance(event, TrialDone) for event in rest) == 3
    thief.mind_others()
    assert thief.settled


def test_one_head_closes(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=2)
    first, second = (open_book(plan, store, owner()) for _ in range(2))
    ticket = first.ask()
    assert ticket is not None
    assert second.heads.close() == first.heads.me, "the first still has a trial"
    first.end(ticket, record_of(ticket, plan))
    assert first.heads.close() == ""
    assert first.heads.close() == "", "asking twice changes nothing"
    assert second.heads.close() == first.heads.me
    with first.heads:
        pass
    assert second.heads.close() == "", "the first has left"
    dead = open_book(plan, store, GONE)
    with second.heads:
        pass
    assert dead.heads.close() == ""
    assert open_book(plan, store, owner()).heads.close() == "", "the closing head died"


def test_budgets_may_differ_between_heads(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=3)
    more = dataclasses.replace(plan, request=dataclasses.replace(plan.request, trials=7))
    (small,) = search_together(plan, [store])
    (large,) = search_together(more, [store])
    assert (len(small.done), len(large.done)) == (3, 4)
    check_exact(more, store, [small, large])


OPEN = """
import sys
from pathlib import Path
from bench.core.store import Store
from bench.sweep.storage import open_storage
open_storage(Store(Path(sys.argv[1])), sys.argv[2]).get_all_studies()
"""


@pytest.mark.parametrize("where", ["file", "server"])
def test_four_heads_at_once_on_an_empty_store(
    where: str, store: Store, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue("database") if where == "server" else ""
    command = [sys.executable, "-c", OPEN, str(store.root), address]
    heads = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [head.communicate(timeout=120)[1] for head in heads]
    assert [head.returncode for head in heads] == [0, 0, 0, 0], errors
