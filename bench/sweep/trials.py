"""The trials of one study in Optuna: read, tell, put back. Knows nothing of heads.

| state in Optuna | outcome  | counts | what it was                                           |
|-----------------|----------|--------|-------------------------------------------------------|
| COMPLETE        | complete | yes    | trained to the end                                    |
| PRUNED          | pruned   | yes    | stopped early as unpromising                          |
| PRUNED          | diverged | yes    | loss or score no longer finite                        |
| FAIL            | none     | no     | put back (its point is queued again), given up, or a  |
|                 |          |        | repeated draw of a point that was run before          |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from bench.core.protocol import Scalar
from bench.core.spec import Choice, FloatRange, SearchRange, TrialSpec
from bench.records.studies import StudyTrial
from bench.sweep.opening import FINISHED, open_study
from bench.sweep.plan import StudyPlan
from bench.sweep.results import TrialRecord
from bench.sweep.space import nearest


@dataclass(frozen=True)
class Ticket:
    """A requested trial. `failures`: how often its point failed before."""

    number: int
    spec: TrialSpec
    source: str
    settings: Mapping[str, Scalar]
    failures: int = 0

    @property
    def key(self) -> str:
        """The fingerprint of the training: equal for equal points."""
        return self.spec.run_key


@dataclass
class TrialCounts:
    """Number of trials that count, by outcome, and of those that do not."""

    complete: int = 0
    pruned: int = 0
    diverged: int = 0
    put_back: int = 0
    given_up: int = 0

    @property
    def finished(self) -> int:
        """Trials that count."""
        return self.complete + self.pruned + self.diverged


class Trials:
    """The trials of a study, which is created if missing."""

    def __init__(self, plan: StudyPlan, name: str, storage: RDBStorage) -> None:
        self.plan = plan
        self.name = name
        self.study = open_study(plan, name, storage)
        self.ranges = {key: distribution(kind) for key, kind in plan.space.items()}
        self.storage = storage
        self._keys: dict[int, str] = {}

    def all(self) -> list[FrozenTrial]:
        """Every trial, ordered by number."""
        return self.study.get_trials(deepcopy=False)

    def count(self) -> tuple[TrialCounts, dict[str, int]]:
        """The counts, and, by fingerprint, the trials whose points are not run again."""
        counts = TrialCounts()
        seen: dict[str, int] = {}
        for trial in self.all():
            given_up = trial.state == TrialState.FAIL and trial.user_attrs.get("given_up")
            if trial.state in FINISHED or trial.state == TrialState.RUNNING or given_up:
                seen.setdefault(self.key(trial), trial.number)
            if trial.state in FINISHED:
                outcome = str(trial.user_attrs["outcome"])
                setattr(counts, outcome, getattr(counts, outcome) + 1)
            elif given_up:
                counts.given_up += 1
            elif trial.state == TrialState.FAIL and trial.user_attrs.get("put_back"):
                counts.put_back += 1
        return counts, seen

    def key(self, trial: FrozenTrial) -> str:
        """The fingerprint of a trial's training; "" if it was cut off while being drawn."""
        if trial.number not in self._keys:
            source = str(trial.user_attrs.get("source", ""))
            settings = self.plan.known.get(source) or self.point(trial)
            if not settings:
                return ""
            self._keys[trial.number] = self.plan.spec(settings).run_key
        return self._keys[trial.number]

    def point(self, trial: FrozenTrial) -> dict[str, Scalar]:
        """The point of a trial; empty if it was cut off while being drawn."""
        fixed = trial.system_attrs.get("fixed_params")
        if fixed:
            return dict(fixed)
        return dict(trial.params) if set(trial.params) == set(self.ranges) else {}

    def queue_known(self) -> None:
        """Queue the known recipes that were never tried."""
        there = {trial.user_attrs.get("source") for trial in self.all()}
        for source, settings in self.plan.known.items():
            if source not in there:
                point = nearest(settings, self.plan.space)
                self.study.enqueue_trial(point, user_attrs={"source": source})

    def tell(self, number: int, record: TrialRecord) -> None:
        """Store everything about a trial that counts, then its state; safe to repeat."""
        state = TrialState.COMPLETE if record.outcome == "complete" else TrialState.PRUNED
        if self.get(number).state == state:
            return  # an earlier try succeeded, but its answer was lost
        self._annotate(number, "outcome", record.outcome)
        self._annotate(number, "epochs", len(record.history))
        if record.message:
            self._annotate(number, "message", record.message)
        value = record.value if state == TrialState.COMPLETE else None
        self.study.tell(number, value, state=state)

    def _annotate(self, number: int, key: str, value: Any) -> None:
        self.storage.set_trial_user_attr(self._trial_id(number), key, value)

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def put_back(self, trial: FrozenTrial, failures: int = 0) -> None:
        """Queue its point again, then fail the trial. A kill in between leaves the point queued
        twice, never lost, and the second of two equal points is not run.

        The caller holds the mutex; otherwise another head could ask for the point while it still
        looks as if it were being trained.
        """
        point, before = self.point(trial), trial.user_attrs
        kept: dict[str, Any] = {key: before[key] for key in ("source", "failures") if key in before}
        if failures:
            kept["failures"] = failures
        if point:
            self.study.enqueue_trial(point, user_attrs=kept)
        self.fail(trial.number, "put_back", True)

    def fail(self, number: int, why: str, note: object) -> None:
        """End a trial that does not count."""
        self._annotate(number, why, note)
        self.study.tell(number, state=TrialState.FAIL)

    def get(self, number: int) -> FrozenTrial:
        """The current state of one trial, with its values."""
        return self.storage.get_trial(self._trial_id(number))

    def finished(self) -> list[FrozenTrial]:
        """The trials that count, ordered by number."""
        return self.study.get_trials(deepcopy=False, states=FINISHED)

    def winner(self) -> Ticket | None:
        """The complete trial with the best value, the earliest if equal; None if there is none."""
        complete = [t for t in self.finished() if t.state == TrialState.COMPLETE]
        if not complete:
            return None
        sign = -1 if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
        best = min(complete, key=lambda trial: (sign * float(trial.value or 0), trial.number))
        source = str(best.user_attrs.get("source", ""))
        settings = self.plan.known.get(source, best.params)
        return Ticket(best.number, self.plan.spec(settings), source, settings)

    def counted(self) -> list[StudyTrial]:
        """The trials that count, as they are written to `study.json`."""
        return [
            StudyTrial(
                trial.number,
                source := str(trial.user_attrs.get("source", "")),
                dict(self.plan.known.get(source, trial.params)),
                trial.user_attrs["outcome"],
                trial.value if trial.state == TrialState.COMPLETE else None,
            )
            for trial in self.finished()
        ]

    def best(self) -> tuple[float, int] | None:
        """The best value of a complete trial, with its number."""
        winner = self.winner()
        return None if winner is None else (self.value_of(winner.number), winner.number)

    def value_of(self, number: int) -> float:
        """The value of a complete trial."""
        return float(self.get(number).value or 0)

    def epochs(self) -> int:
        """Epochs trained by all trials that count."""
        return sum(int(trial.user_attrs.get("epochs", 0)) for trial in self.finished())


def distribution(kind: SearchRange) -> BaseDistribution:
    """Optuna's form of a search range."""
    if isinstance(kind, Choice):
        return CategoricalDistribution(kind.values)
    if isinstance(kind, FloatRange):
        return FloatDistribution(kind.low, kind.high, log=kind.log)
    return IntDistribution(kind.low, kind.high, log=kind.log)
