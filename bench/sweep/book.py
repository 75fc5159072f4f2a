"""One study as one of its heads keeps it: asked, told, and mended beside other heads."""

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
    """A study in Optuna as one of its heads keeps it; what it needs of the others is in `heads`."""

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
        # Heads that start together must not draw the same points, nor a new study the old one's.
        draws_before = existing + 100_003 * heads.others_at_start + 10_007 * (self.generation - 1)
        study.sampler = make_sampler(request.sampler, request.seed, draws_before)
        study.pruner = make_pruner(request.pruner, plan.base.train.epochs)

    @property
    def settled(self) -> bool:
        """Whether the study holds its trials."""
        return self.counts.finished >= self.plan.request.trials

    def recover(self) -> list[str]:
        """Take over what dead heads left: tell what had ended, put back what had not.

        Returns a line a trial. Then makes sure that the known recipes are queued.
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
        """A trial whose head is gone, or one that never had a place."""
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
            self.trials.put_back(trial)  # refused: its head ended it in this moment
        if claim is not None:
            self.heads.release(claim.id)
        return [f"trial {trial.number} was cut off and is put back"]

    def _keep_place(self, trial: FrozenTrial, claim: Claim | None) -> None:
        if claim is None:
            self.heads.adopt(self.trials.key(trial), trial.number)
        elif not claim.done:
            self.heads.done(claim.id)

    def mind_others(self) -> tuple[list[Ticket], list[str]]:
        """What other heads did meanwhile: tickets that they took from us, and a line for each
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
        """Count anew, with what other heads have ended since."""
        self.counts, self._seen = self.trials.count()

    def ask(self) -> Ticket | None:
        """The next trial: one that was put back, a known recipe, or the sampler's choice.

        A point that was run before is not run again: another one is drawn, at random after a few
        tries. None when every place is taken, or (`exhausted`) the space holds no other point.
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
                known = self._seen.setdefault(ticket.key, -1)  # -1: another head was quicker
                self.trials.fail(ticket.number, "duplicate_of", known)
        return None

    def _ticket(self, trial: Trial) -> Ticket:
        source = str(trial.user_attrs.get("source", ""))
        settings = self.plan.known.get(source, trial.params)
        failures = int(trial.user_attrs.get("failures", 0))
        return Ticket(trial.number, self.plan.spec(settings), source, settings, failures)

    def _queue_random(self) -> bool:
        """Queue a point that was not run, if a long search finds one."""
        rng = random.Random(len(self.trials.all()))
        for _ in range(_RANDOM_DRAWS):
            point = random_point(self.plan.space, rng)
            if self.plan.spec(point).run_key not in self._seen:
                self.trials.study.enqueue_trial(point)
                return True
        return False

    def report(self, ticket: Ticket, epoch: int, value: float) -> None:
        """The value so far after an epoch; an epoch that was reported already is passed over.

        Raises ClaimLost, as all that follow do, where another head took the trial over.
        """
        live = self._live[ticket.key]
        if epoch not in live.reported:
            with _refused():
                self.heads.patiently(lambda: live.trial.report(value, epoch))
            live.reported.add(epoch)

    def should_prune(self, ticket: Ticket) -> bool:
        """What the pruner makes of the values so far."""
        return self.heads.patiently(self._live[ticket.key].trial.should_prune)

    def end(self, ticket: Ticket, record: TrialRecord) -> int:
        """A trial that counts: on disk first, then in Optuna. How many of all heads have ended."""
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
        """A trial that did not come to its end and does not count; its point is queued again."""
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
        """A point that keeps breaking its workers: it is not tried again and does not count."""
        live = self._live.pop(ticket.key)

        def work() -> None:
            if self.trials.get(ticket.number).state == TrialState.RUNNING:
                self.trials.fail(ticket.number, "given_up", reason)
            self.heads.release(live.claim)
            self._refresh()

        with _refused():
            self.heads.patiently(work)

    def standing(self) -> tuple[tuple[float, int] | None, int]:
        """The best value with its trial, and the epochs that trials which count have trained."""
        return self.heads.patiently(lambda: (self.trials.best(), self.trials.epochs()))

    def told_by_others(self) -> set[int | None]:
        """Numbers of the trials of other heads that are at work."""
        others = self.heads.living() - {self.heads.me}
        return {claim.trial for claim in self.heads.claims() if claim.head in others}

    def forget(self, ticket: Ticket) -> None:
        """A trial that another head took over."""
        self._live.pop(ticket.key, None)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Optuna ends a trial once; what it refuses belongs to a trial that another head ended."""
    try:
        yield
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        raise ClaimLost("another head took it over while this one was silent") from None
