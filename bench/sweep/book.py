"""One study as seen by one of its heads: ask, tell, and recover, together with other heads."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from bench.core.store import Store
from bench.sweep.heads import Claim, ClaimLost, Heads, new_claim
from bench.sweep.opening import FINISHED, generation_number, occupy_folder
from bench.sweep.plan import StudyPlan
from bench.sweep.results import TrialRecord, read_trial, withdraw_trial, write_trial
from bench.sweep.samplers import make_pruner, make_sampler
from bench.sweep.space import random_point
from bench.sweep.trials import Ticket, TrialCounts, Trials

_REDRAWS, _RANDOM_DRAWS = 5, 1000


@dataclass
class _Live:
    ticket: Ticket
    trial: Trial
    claim: str
    reported: set[int] = field(default_factory=set)


class StudyBook:
    """A study in Optuna as seen by one of its heads; `heads` coordinates it with the others."""

    def __init__(
        self, plan: StudyPlan, name: str, store: Store, storage: RDBStorage, heads: Heads
    ) -> None:
        self.plan = plan
        self.name = name
        self.heads = heads
        self.counts = TrialCounts()
        self.exhausted = False
        self.elsewhere = 0
        self._store = store
        self._live: dict[str, _Live] = {}
        self._seen: dict[str, int] = {}
        with heads.mutex():
            self.trials = Trials(plan, name, storage)
            self.id = occupy_folder(store, self.trials.study)
            existing = len(self.trials.all())
        self.generation = generation_number(plan, name)
        study, request = self.trials.study, plan.request
        # Heads that start together, and successive studies, must not draw the same points.
        draws_before = existing + 100_003 * heads.others_at_start + 10_007 * (self.generation - 1)
        study.sampler = make_sampler(request.sampler, request.seed, draws_before)
        study.pruner = make_pruner(request.pruner, plan.base.train.epochs)

    @property
    def settled(self) -> bool:
        """Whether the study has all its trials."""
        return self.counts.finished >= self.plan.request.trials

    def recover(self) -> list[str]:
        """Take over trials of dead heads: tell those that had ended, put back the others.

        Returns one line per trial. Also makes sure that the known recipes are queued.
        """
        lines = self.heads.patiently(self._recover)
        if lines:
            self.exhausted = False
        return lines

    def _recover(self) -> list[str]:
        with self.heads.mutex():
            self.heads.take_over()
            live = {each.claim for each in self._live.values()}
            claims = {c.trial: c for c in self.heads.claims() if c.trial is not None}
            lines = []
            for trial in self.trials.all():
                claim = claims.get(trial.number)
                if claim is None or (claim.head == self.heads.me and claim.id not in live):
                    lines += self._settle(trial, claim)
            for claim in self.heads.claims():
                if claim.trial is None and claim.head == self.heads.me:
                    self.heads.release(claim.id)
            self.trials.queue_known()
            self._refresh()
        return lines

    def _settle(self, trial: FrozenTrial, claim: Claim | None) -> list[str]:
        """Settle a trial whose head is gone, or that never had a claim."""
        if trial.state in FINISHED:
            self._keep_place(trial, claim)
        if trial.state == TrialState.FAIL and claim is not None:
            self.heads.release(claim.id)
        if trial.state != TrialState.RUNNING:
            return []
        key = self.trials.key(trial)
        record = read_trial(self._store, self.name, key) if key else None
        if record is not None and record.number == trial.number:
            self.trials.tell(trial.number, record)
            self._keep_place(trial, claim)
            return [f"trial {trial.number} had ended: {record.outcome}"]
        with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
            self.trials.put_back(trial)  # refused if its head has just ended it
        if claim is not None:
            self.heads.release(claim.id)
        return [f"trial {trial.number} was cut off and is put back"]

    def _keep_place(self, trial: FrozenTrial, claim: Claim | None) -> None:
        if claim is None:
            self.heads.adopt(self.trials.key(trial), trial.number)
        elif not claim.done:
            self.heads.done(claim.id)

    def mind_others(self) -> tuple[list[Ticket], list[str]]:
        """Check on other heads: returns the tickets they took from us, and one line for each
        trial of a dead head that was taken over or put back."""
        lost, dead = self.heads.patiently(self._look_around)
        for ticket in lost:
            self.forget(ticket)
        return lost, self.recover() if dead else []

    def _look_around(self) -> tuple[list[Ticket], bool]:
        claims, living = self.heads.claims(), self.heads.living()
        held = {claim.id for claim in claims if claim.head == self.heads.me}
        lost = [each.ticket for each in self._live.values() if each.claim not in held]
        cared = {claim.trial for claim in claims if not claim.done and claim.head in living}
        self._refresh()
        self.elsewhere = sum(
            not claim.done and claim.head != self.heads.me and claim.head in living
            for claim in claims
        )
        running = (t.number for t in self.trials.all() if t.state == TrialState.RUNNING)
        dead = any(not claim.done and claim.head not in living for claim in claims)
        return lost, dead or any(number not in cared for number in running)

    def _refresh(self) -> None:
        """Recount, including trials ended by other heads."""
        self.counts, self._seen = self.trials.count()

    def ask(self) -> Ticket | None:
        """The next trial: one that was put back, a known recipe, or the sampler's choice.

        A point is never run twice: a repeated one is replaced by another draw, at random after a
        few tries. None if every trial is claimed, or (`exhausted`) no other point is left.
        """
        claim, places = new_claim(), self.plan.request.trials
        if not self.heads.patiently(lambda: self.heads.reserve(claim, places)):
            return None
        try:
            ticket = self.heads.patiently(lambda: self._draw(claim))
        except ClaimLost:
            return None
        if ticket is None:
            self.heads.patiently(lambda: self.heads.release(claim))
            self.exhausted = True
        return ticket

    def _draw(self, claim: str) -> Ticket | None:
        with self.heads.mutex():
            self._refresh()
            for draw in range(_RANDOM_DRAWS):
                if draw >= _REDRAWS and not self._queue_random():
                    return None
                trial = self.trials.study.ask(self.trials.ranges)
                ticket = self._ticket(trial)
                known = self._seen.get(ticket.key)
                if known is None and self.heads.bind(claim, ticket.key, ticket.number):
                    self._live[ticket.key] = _Live(ticket, trial, claim)
                    self._seen[ticket.key] = ticket.number
                    return ticket
                known = self._seen.setdefault(ticket.key, -1)  # -1: another head was faster
                self.trials.fail(ticket.number, "duplicate_of", known)
        return None

    def _ticket(self, trial: Trial) -> Ticket:
        source = str(trial.user_attrs.get("source", ""))
        settings = self.plan.known.get(source, trial.params)
        failures = int(trial.user_attrs.get("failures", 0))
        return Ticket(trial.number, self.plan.spec(settings), source, settings, failures)

    def _queue_random(self) -> bool:
        """Queue a random point that was not run yet, if a long search finds one."""
        rng = random.Random(len(self.trials.all()))
        for _ in range(_RANDOM_DRAWS):
            point = random_point(self.plan.space, rng)
            if self.plan.spec(point).run_key not in self._seen:
                self.trials.study.enqueue_trial(point)
                return True
        return False

    def report(self, ticket: Ticket, epoch: int, value: float) -> None:
        """Report the value after an epoch; an epoch that was already reported is ignored.

        Raises ClaimLost if another head took the trial over, as do the methods below.
        """
        live = self._live[ticket.key]
        if epoch not in live.reported:
            with _refused():
                self.heads.patiently(lambda: live.trial.report(value, epoch))
            live.reported.add(epoch)

    def should_prune(self, ticket: Ticket) -> bool:
        """The pruner's decision on the values so far."""
        return self.heads.patiently(self._live[ticket.key].trial.should_prune)

    def end(self, ticket: Ticket, record: TrialRecord) -> int:
        """Record a trial that counts, on disk, then in Optuna; returns all heads' ended trials."""
        live = self._live[ticket.key]
        write_trial(self._store, record)

        def work() -> int:
            with self.heads.mutex():
                self.trials.tell(ticket.number, record)
                ended = self.heads.done(live.claim)
                self._refresh()
            return ended

        try:
            with _refused():
                ended = self.heads.patiently(work)
        except ClaimLost:
            withdraw_trial(self._store, record)
            raise
        del self._live[ticket.key]
        return ended

    def put_back(self, ticket: Ticket, failures: int) -> None:
        """Put back a trial that did not finish: it does not count; its point is queued again."""
        live = self._live[ticket.key]

        def work() -> None:
            with self.heads.mutex():
                trial = self.trials.get(ticket.number)
                if trial.state == TrialState.RUNNING:
                    self.trials.put_back(trial, failures)
                self.heads.release(live.claim)
                self._refresh()

        del self._live[ticket.key]
        with _refused():
            self.heads.patiently(work)

    def give_up(self, ticket: Ticket, reason: str) -> None:
        """Give up a point that keeps failing: it is not tried again and does not count."""
        live = self._live.pop(ticket.key)

        def work() -> None:
            if self.trials.get(ticket.number).state == TrialState.RUNNING:
                self.trials.fail(ticket.number, "given_up", reason)
            self.heads.release(live.claim)
            self._refresh()

        with _refused():
            self.heads.patiently(work)

    def standing(self) -> tuple[tuple[float, int] | None, int]:
        """The best value with its trial, and the epochs trained by all trials that count."""
        return self.heads.patiently(lambda: (self.trials.best(), self.trials.epochs()))

    def told_by_others(self) -> set[int | None]:
        """Numbers of the trials of other living heads, which report these themselves."""
        others = self.heads.living() - {self.heads.me}
        return {claim.trial for claim in self.heads.claims() if claim.head in others}

    def forget(self, ticket: Ticket) -> None:
        """Drop a trial that another head took over."""
        self._live.pop(ticket.key, None)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Optuna ends a trial only once; a refusal means that another head has ended it."""
    try:
        yield
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        raise ClaimLost("another head took it over while this one was silent") from None
