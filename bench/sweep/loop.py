"""The head's loop for one study: ask, submit, collect, prune, tell. It yields events.

Workers only train and do not know the study. Whatever happens to them or to other heads, the loop
ends with exactly the requested number of finished trials, unless time is up or no point can be
run at all.
"""

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field

from bench.core.disk import StorageFailed, failure_behind, storage_failed
from bench.core.errors import CellsFailed
from bench.core.interrupts import gentle_interrupt
from bench.core.spec import EpochValues, TrialSpec
from bench.core.store import Store
from bench.execution import (
    STOP_SECONDS,
    EpochEnded,
    Event,
    Executor,
    Failed,
    Halted,
    Lost,
    Started,
    TrialEnded,
    Waiting,
)
from bench.sweep.book import StudyBook
from bench.sweep.events import (
    StudyProgress,
    SweepEvent,
    TrialBegun,
    TrialDone,
    TrialEpoch,
    TrialPutBack,
)
from bench.sweep.heads import ClaimLost
from bench.sweep.results import TRIAL_SCHEMA, TrialOutcome, TrialRecord, kept_value
from bench.sweep.trials import Ticket
from bench.tracking import Began, Ended, Epoch, Progress, StudyTracker

MOST_FAILURES = 3
"""How often a point may fail (each time after a second try) before it is given up."""
MOST_GIVEN_UP = 3
"""Points given up in a row before the whole study stops: then the points are not to blame."""
_MIND_SECONDS = 2.0
"""How often a busy head checks on the other heads."""


@dataclass
class _Running:
    ticket: Ticket
    started_unix_ms: int
    history: dict[int, EpochValues] = field(default_factory=dict)
    verdict: int = 0
    """The epoch after which the pruner stopped it; 0 if it did not."""

    @property
    def pruned(self) -> bool:
        """Whether it was pruned and only runs until its worker learns of it."""
        return self.verdict > 0


class Search:
    """The search loop of one study."""

    def __init__(
        self, book: StudyBook, store: Store, executor: Executor, tracker: StudyTracker
    ) -> None:
        self._book = book
        self._store = store
        self._executor = executor
        self._tracker = tracker
        self._running: dict[str, _Running] = {}
        self._given_up = 0
        self._last_failure = ""
        self._no_room = ""
        self._full = False
        self._minded = 0.0
        self._known = book.counts.finished
        request = book.plan.request
        self._deadline = time.monotonic() + request.timeout if request.timeout else None

    @property
    def out_of_time(self) -> bool:
        """Whether --timeout has passed."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def events(self) -> Generator[SweepEvent, None, None]:
        """Search until the trials are finished, time is up, or no point is left.

        On Ctrl-C running trials are stopped and put back, then KeyboardInterrupt is raised. Raises
        CellsFailed if several points in a row cannot be run, StorageFailed as soon as nothing can
        be written.
        """
        with gentle_interrupt() as interrupt:
            try:
                while not interrupt.asked and not self._no_room:
                    yield from self._fill()
                    yield from self._mind_others()
                    if not self._running and self._is_over():
                        return
                    happened = self._executor.events(timeout=0.5)
                    if not happened:
                        yield Waiting()
                    for event in happened:
                        yield from self._hear(event)
                    if self._given_up >= MOST_GIVEN_UP:
                        break
                    if self.out_of_time:
                        yield from self._stop_all()
                yield from self._stop_all()
            except Exception as error:
                found = failure_behind(error)
                if found is None:
                    raise
                self._no_room = str(storage_failed(found, "write", self._store.mlruns))
                self._drop_all()
        if self._no_room:
            raise StorageFailed(
                f"{self._no_room}; study {self._book.name} stopped with {self._known} of "
                f"{self._book.plan.request.trials} trials ended, and the same command resumes"
            )
        if interrupt.asked:
            raise KeyboardInterrupt
        raise CellsFailed(
            f"study {self._book.name}: {self._given_up} points in a row failed {MOST_FAILURES} "
            f"times each, the last one with: {self._last_failure}; fix that and repeat the command"
        )

    def _drop_all(self) -> None:
        """Stop running trials whose end cannot be written: the next command puts them back."""
        for running in self._running.values():
            self._executor.stop(running.ticket.spec)
        give_up = time.monotonic() + STOP_SECONDS
        while self._executor.running and time.monotonic() < give_up:
            self._executor.events(timeout=0.2)

    def _is_over(self) -> bool:
        """With nothing running here: whether it is over. Trials of other heads may be put back."""
        book = self._book
        return book.settled or self.out_of_time or (book.exhausted and not book.elsewhere)

    def _mind_others(self) -> Iterator[SweepEvent]:
        """Take over trials of dead heads, drop those taken from here, and recount."""
        now = time.monotonic()
        if self._running and now - self._minded < _MIND_SECONDS:
            return
        self._minded, self._full = now, False
        lost, lines = self._book.mind_others()
        for ticket in lost:
            yield from self._abandon(self._running[ticket.key], "another head took it over")
        finished = self._book.counts.finished
        if lines or finished != self._known:
            self._known = finished
            yield StudyProgress(finished, self._book.standing()[0], tuple(lines))

    def _abandon(self, running: _Running, reason: str) -> Iterator[SweepEvent]:
        """Abandon a trial that now belongs to another head."""
        ticket = running.ticket
        self._executor.stop(ticket.spec)
        self._book.forget(ticket)
        self._running.pop(ticket.key, None)
        yield TrialPutBack(ticket, reason)

    def _fill(self) -> Iterator[SweepEvent]:
        """Ask for as many trials as there are free slots, and never for more than are needed."""
        while (
            len(self._running) < self._executor.slots
            and not self._full
            and not self._book.exhausted
            and not self.out_of_time
        ):
            ticket = self._book.ask()
            if ticket is None:
                self._full = True
                return
            self._running[ticket.key] = _Running(ticket, _now())
            self._executor.submit(ticket.spec)
            yield TrialBegun(ticket)

    def _hear(self, event: Event) -> Iterator[SweepEvent]:
        running = self._running.get(event.spec.run_key)
        if running is None:
            return
        try:
            yield from self._answer(running, event)
        except ClaimLost as lost:
            yield from self._abandon(running, str(lost))

    def _answer(self, running: _Running, event: Event) -> Iterator[SweepEvent]:
        ticket = running.ticket
        match event:
            case Started():
                running.started_unix_ms = _now()
                self._tracker.watch(Began(ticket.spec, ticket.number, ticket.source))
            case EpochEnded(_, values):
                yield self._epoch(running, values)
            case TrialEnded(_, result):
                running.history = {values.epoch: values for values in result.history}
                finished = result.status == "finished"
                yield self._end(running, "complete" if finished else "diverged")
            case Halted():
                if running.pruned:
                    yield self._end(running, "pruned")
                else:
                    yield self._put_back(running, "stopped", ticket.failures)
            case Lost(_, reason):
                if running.pruned:
                    self._executor.stop(ticket.spec)  # it was queued again for another worker
                    yield self._end(running, "pruned")
                else:
                    yield TrialPutBack(ticket, reason)
            case Failed(_, reason, of_storage=True):
                self._no_room = reason
                yield self._put_back(running, reason, ticket.failures)
            case Failed(_, reason):
                yield self._failed(running, reason)

    def _epoch(self, running: _Running, values: EpochValues) -> TrialEpoch:
        """Report, and ask the pruner; epochs after its decision are stored but not reported, so
        that a study does not depend on how fast a worker stops."""
        ticket, epochs = running.ticket, running.ticket.spec.train.epochs
        new = values.epoch not in running.history
        running.history[values.epoch] = values
        value = kept_value(ticket.spec, running.history, values.epoch)
        if new:
            self._tracker.watch(Epoch(ticket.spec, values))
        if value is not None and not running.pruned:
            self._book.report(ticket, values.epoch, value)
            if values.epoch < epochs and self._book.should_prune(ticket):
                running.verdict = values.epoch
                self._executor.stop(ticket.spec)
        return TrialEpoch(ticket, values.epoch, value)

    def _end(self, running: _Running, outcome: TrialOutcome) -> TrialDone:
        """Record a result: on disk, then in Optuna, then in MLflow."""
        ticket, history = running.ticket, running.history
        last = running.verdict if outcome == "pruned" else max(history, default=0)
        value = kept_value(ticket.spec, history, last)
        if outcome == "complete":
            for epoch in sorted(history):
                so_far = kept_value(ticket.spec, history, epoch)
                if so_far is not None:
                    self._book.report(ticket, epoch, so_far)
        record = TrialRecord(
            schema_version=TRIAL_SCHEMA,
            study=self._book.name,
            number=ticket.number,
            source=ticket.source,
            settings=dict(ticket.settings),
            spec=ticket.spec,
            outcome=outcome,
            value=value,
            history=tuple(history[epoch] for epoch in sorted(history)),
            started_unix_ms=running.started_unix_ms,
            finished_unix_ms=_now(),
            message=_message(outcome, history, last, ticket.spec),
        )
        ended = self._book.end(ticket, record)
        self._known += 1
        self._forget(running)
        self._given_up = 0
        self._tracker.tell(record)
        best, epochs = self._book.standing()
        self._tracker.watch(Progress(ended, best and best[0], epochs))
        return TrialDone(ticket, record)

    def _forget(self, running: _Running) -> None:
        del self._running[running.ticket.key]
        path = self._store.checkpoints / running.ticket.spec.checkpoint_name
        path.unlink(missing_ok=True)

    def _put_back(self, running: _Running, reason: str, failures: int) -> TrialPutBack:
        self._book.put_back(running.ticket, failures)
        self._running.pop(running.ticket.key, None)  # its checkpoint stays, to resume from
        self._tracker.watch(Ended(running.ticket.spec))
        return TrialPutBack(running.ticket, f"{reason}; it is put back and does not count")

    def _failed(self, running: _Running, reason: str) -> TrialPutBack:
        ticket = running.ticket
        failures = ticket.failures + 1
        if failures < MOST_FAILURES:
            return self._put_back(running, reason, failures)
        self._book.give_up(ticket, reason)
        self._forget(running)
        self._tracker.watch(Ended(ticket.spec, reason))
        self._given_up += 1
        self._last_failure = reason
        return TrialPutBack(ticket, f"{reason}; it failed {failures} times and is given up")

    def _stop_all(self) -> Iterator[SweepEvent]:
        """Stop running trials after their epoch; keep those that end, put back the rest."""
        for running in self._running.values():
            self._executor.stop(running.ticket.spec)
        give_up = time.monotonic() + STOP_SECONDS
        while self._executor.running and time.monotonic() < give_up:
            for event in self._executor.events(timeout=0.2):
                if not isinstance(event, Lost):
                    yield from self._hear(event)
                else:
                    self._executor.stop(event.spec)
        for running in list(self._running.values()):
            yield from self._close(running)

    def _close(self, running: _Running) -> Iterator[SweepEvent]:
        try:
            if running.pruned:
                yield self._end(running, "pruned")
            else:
                yield self._put_back(running, "stopped", running.ticket.failures)
        except ClaimLost as lost:
            yield from self._abandon(running, str(lost))


def _message(
    outcome: TrialOutcome, history: Mapping[int, EpochValues], last: int, spec: TrialSpec
) -> str:
    if outcome == "pruned":
        return f"pruned after {last} of {spec.train.epochs} epochs"
    if outcome == "complete":
        return ""
    # Values that are not finite are not stored.
    what = f"validation {spec.selection_metric}"
    if last not in history or "train/loss" not in history[last].values:
        what = "training loss"
    return f"diverged in epoch {last}: {what} no longer finite"


def _now() -> int:
    return int(time.time() * 1000)
