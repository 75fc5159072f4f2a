"""One Optuna study as the head keeps it: opened or continued, asked, told, and mended.

| state in Optuna | outcome  | counts | what it was                                           |
|-----------------|----------|--------|-------------------------------------------------------|
| COMPLETE        | complete | yes    | trained to its end                                    |
| PRUNED          | pruned   | yes    | stopped because it would not win                      |
| PRUNED          | diverged | yes    | loss or score no longer finite                        |
| FAIL            | none     | no     | put back (its point is queued again), given up, or a  |
|                 |          |        | point that had been run before and was drawn again    |
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from bench.protocol import Scalar
from bench.spec import Choice, FloatRange, SearchRange, TrialSpec
from bench.store import Store
from bench.sweep.opening import open_study
from bench.sweep.plan import StudyPlan
from bench.sweep.results import TrialRecord, read_trial, write_trial
from bench.sweep.samplers import make_pruner, make_sampler
from bench.sweep.space import nearest, random_point
from bench.tracking.mending import owner_state
from bench.tracking.writing import owner

_REDRAWS, _RANDOM_DRAWS = 5, 1000
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Ticket:
    """A trial that was asked for. `failures`: how often its point broke a worker before."""

    number: int
    spec: TrialSpec
    source: str
    settings: Mapping[str, Scalar]
    failures: int = 0

    @property
    def key(self) -> str:
        """What makes two points the same: the fingerprint of the training."""
        return self.spec.run_key


@dataclass
class Counts:
    """How a study stands: trials that count by outcome, and those that did not count."""

    complete: int = 0
    pruned: int = 0
    diverged: int = 0
    put_back: int = 0
    given_up: int = 0

    @property
    def finished(self) -> int:
        """Trials that count."""
        return self.complete + self.pruned + self.diverged


@dataclass
class _Live:
    trial: Trial
    reported: set[int] = field(default_factory=set)


class StudyBook:
    """A study in Optuna. Only one head at a time keeps one (see `opening.claim`)."""

    def __init__(self, plan: StudyPlan, name: str, store: Store, storage: RDBStorage) -> None:
        request = plan.request
        self.plan = plan
        self.name = name
        self._store = store
        self._storage = storage
        self._study = open_study(plan, name, storage)
        self._study.pruner = make_pruner(request.pruner, plan.base.train.epochs)
        self._ranges = {key: _distribution(kind) for key, kind in plan.space.items()}
        self._live: dict[str, _Live] = {}
        self._seen: dict[str, int] = {}
        self.counts = Counts()

    def recover(self, *, others: bool) -> list[str]:
        """Take over what a dead head left: tell what had ended, put back what had not.

        `others`: also trials of another machine, whose head cannot be looked at from here.
        Returns a line a trial. Then makes sure that the known recipes are queued.
        """
        lines = []
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING:
                lines += self._recover(trial, others)
        for trial in self._study.get_trials(deepcopy=False):
            self._count(trial)
        self._queue_known()
        request = self.plan.request
        existing = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = make_sampler(request.sampler, request.seed, existing)
        return lines

    def _recover(self, trial: FrozenTrial, others: bool) -> list[str]:
        whose = owner_state(str(trial.user_attrs.get("owner", "")))
        if whose == "alive" or (whose == "elsewhere" and not others):
            self._seen[self._key(trial)] = trial.number
            return []
        key = self._key(trial)
        record = read_trial(self._store, self.name, key) if key else None
        if record is not None and record.number == trial.number:
            self._tell(trial.number, record)
            return [f"trial {trial.number} had ended: {record.outcome}"]
        self._requeue(trial.number, _point(trial, self._ranges), trial.user_attrs, {})
        return [f"trial {trial.number} was cut off and is put back"]

    def _count(self, trial: FrozenTrial) -> None:
        key = self._key(trial)
        if trial.state in FINISHED:
            outcome = str(trial.user_attrs["outcome"])
            setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
            self._seen[key] = trial.number
        elif trial.state == TrialState.FAIL and trial.user_attrs.get("given_up"):
            self.counts.given_up += 1
            self._seen[key] = trial.number
        elif trial.state == TrialState.FAIL and trial.user_attrs.get("put_back"):
            self.counts.put_back += 1

    def _key(self, trial: FrozenTrial) -> str:
        """The fingerprint of a trial's training; "" for one that was cut off while it was drawn."""
        source = str(trial.user_attrs.get("source", ""))
        settings = self.plan.known.get(source) or _point(trial, self._ranges)
        return self.plan.spec(settings).run_key if settings else ""

    def _queue_known(self) -> None:
        trials = self._study.get_trials(deepcopy=False)
        there = {trial.user_attrs.get("source") for trial in trials}
        for source, settings in self.plan.known.items():
            if source not in there:
                point = nearest(settings, self.plan.space)
                self._study.enqueue_trial(point, user_attrs={"source": source})

    def ask(self) -> Ticket | None:
        """The next trial: one that was put back, a known recipe, or the sampler's choice.

        A point that was run before is not run again: another one is drawn, at random after a few
        tries. None when the space holds no other point.
        """
        for draw in range(_RANDOM_DRAWS):
            if draw >= _REDRAWS and not self._queue_random():
                return None
            trial = self._study.ask(self._ranges)
            ticket = self._ticket(trial)
            if ticket.key not in self._seen:
                trial.set_user_attr("owner", owner())
                self._live[ticket.key] = _Live(trial)
                self._seen[ticket.key] = ticket.number
                return ticket
            trial.set_user_attr("duplicate_of", self._seen[ticket.key])
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _ticket(self, trial: Trial) -> Ticket:
        source = str(trial.user_attrs.get("source", ""))
        settings = self.plan.known.get(source, trial.params)
        failures = int(trial.user_attrs.get("failures", 0))
        return Ticket(trial.number, self.plan.spec(settings), source, settings, failures)

    def _queue_random(self) -> bool:
        """Queue a point that was not run, if a long search finds one."""
        rng = random.Random(len(self._study.get_trials(deepcopy=False)))
        for _ in range(_RANDOM_DRAWS):
            point = random_point(self.plan.space, rng)
            if self.plan.spec(point).run_key not in self._seen:
                self._study.enqueue_trial(point)
                return True
        return False

    def report(self, ticket: Ticket, epoch: int, value: float) -> None:
        """The value so far after an epoch; an epoch that was reported already is passed over."""
        live = self._live[ticket.key]
        if epoch not in live.reported:
            live.reported.add(epoch)
            live.trial.report(value, epoch)

    def should_prune(self, ticket: Ticket) -> bool:
        """What the pruner makes of the values so far."""
        return self._live[ticket.key].trial.should_prune()

    def end(self, ticket: Ticket, record: TrialRecord) -> None:
        """A trial that counts: on disk first, then in Optuna."""
        write_trial(self._store, record)
        self._tell(ticket.number, record)
        del self._live[ticket.key]
        setattr(self.counts, record.outcome, getattr(self.counts, record.outcome) + 1)

    def _tell(self, number: int, record: TrialRecord) -> None:
        self._annotate(number, "outcome", record.outcome)
        self._annotate(number, "epochs", len(record.history))
        if record.message:
            self._annotate(number, "message", record.message)
        if record.outcome == "complete":
            self._study.tell(number, record.value)
        else:
            self._study.tell(number, state=TrialState.PRUNED)

    def _annotate(self, number: int, key: str, value: Any) -> None:
        study_id = self._storage.get_study_id_from_name(self.name)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self._storage.set_trial_user_attr(trial_id, key, value)

    def put_back(self, ticket: Ticket, failures: int) -> None:
        """A trial that did not come to its end and does not count; its point is queued again."""
        live = self._live.pop(ticket.key)
        attributes = {"failures": failures} if failures else {}
        self._requeue(ticket.number, live.trial.params, live.trial.user_attrs, attributes)
        del self._seen[ticket.key]
        self.counts.put_back += 1

    def _requeue(
        self,
        number: int,
        point: Mapping[str, Scalar],
        before: Mapping[str, Any],
        after: Mapping[str, Any],
    ) -> None:
        """Queue first, fail then: a kill in between leaves the point there twice, never not at
        all, and the second of two equal points is not run."""
        kept = {key: before[key] for key in ("source", "failures") if key in before}
        if point:
            self._study.enqueue_trial(dict(point), user_attrs={**kept, **after})
        self._annotate(number, "put_back", True)
        self._study.tell(number, state=TrialState.FAIL)

    def give_up(self, ticket: Ticket, reason: str) -> None:
        """A point that keeps breaking its workers: it is not tried again and does not count."""
        self._annotate(ticket.number, "given_up", reason)
        self._study.tell(ticket.number, state=TrialState.FAIL)
        del self._live[ticket.key]
        self.counts.given_up += 1

    def finished_trials(self) -> list[FrozenTrial]:
        """The trials that count, by number."""
        trials = self._study.get_trials(deepcopy=False, states=FINISHED)
        return sorted(trials, key=lambda trial: trial.number)

    def winner(self) -> Ticket | None:
        """The complete trial with the best value, the earlier of equals; None without one."""
        complete = [t for t in self.finished_trials() if t.state == TrialState.COMPLETE]
        if not complete:
            return None
        sign = -1 if self._study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
        best = min(complete, key=lambda trial: (sign * float(trial.value or 0), trial.number))
        source = str(best.user_attrs.get("source", ""))
        settings = self.plan.known.get(source, best.params)
        return Ticket(best.number, self.plan.spec(settings), source, settings)

    def value_of(self, number: int) -> float:
        """What a complete trial reached."""
        return next(float(t.value or 0) for t in self.finished_trials() if t.number == number)

    def epochs(self) -> int:
        """Epochs that the trials that count have trained."""
        return sum(int(trial.user_attrs.get("epochs", 0)) for trial in self.finished_trials())

    @property
    def study(self) -> optuna.Study:
        """Optuna's own view of it, for reading."""
        return self._study


def _point(trial: FrozenTrial, ranges: Mapping[str, BaseDistribution]) -> dict[str, Scalar]:
    """The point of a trial that may have been cut off while it was drawn; empty if unknown."""
    fixed = trial.system_attrs.get("fixed_params")
    if fixed:
        return dict(fixed)
    return dict(trial.params) if set(trial.params) == set(ranges) else {}


def _distribution(kind: SearchRange) -> BaseDistribution:
    if isinstance(kind, Choice):
        return CategoricalDistribution(kind.values)
    if isinstance(kind, FloatRange):
        return FloatDistribution(kind.low, kind.high, log=kind.log)
    return IntDistribution(kind.low, kind.high, log=kind.log)
