"""A study of the tiny protocol, and executors that answer without training."""

import math
import socket
import time
from collections.abc import Callable

from bench.core.protocol import load_protocol
from bench.core.spec import EpochValues, RunSpec, TrialResult, TrialSpec
from bench.core.store import Store
from bench.execution import (
    EpochEnded,
    Event,
    Failed,
    Halted,
    Started,
    TrialEnded,
)
from bench.sweep.book import StudyBook
from bench.sweep.heads import Heads
from bench.sweep.loop import Search
from bench.sweep.opening import generation
from bench.sweep.plan import StudyPlan, SweepRequest, plan_studies
from bench.sweep.storage import open_storage


def make_plan(tiny_protocol: str, store: Store, trials: int = 6, **options: object) -> StudyPlan:
    request = SweepRequest(
        load_protocol(tiny_protocol),
        ("fc_ae",),
        trials=trials,
        protocol_reference=tiny_protocol,
        **options,  # type: ignore[arg-type]
    )
    return plan_studies(request, store)[0]


GONE = f"{socket.gethostname()}:1:1"
"""The owner of a process of this machine that is no more: number 1 began at another time."""


def open_book(plan: StudyPlan, store: Store, who: str = GONE) -> StudyBook:
    """A head's book that others may take over at once."""
    storage = open_storage(store, plan.request.storage)
    name = generation(plan, storage, store)
    book = StudyBook(plan, name, store, storage, Heads(storage, name, who))
    book.recover()
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
