"""Events of a search."""

from dataclasses import dataclass

from bench.execution import Waiting
from bench.sweep.results import TrialRecord
from bench.sweep.trials import Ticket


@dataclass(frozen=True)
class TrialBegun:
    """A worker started a trial."""

    ticket: Ticket


@dataclass(frozen=True)
class TrialEpoch:
    """A trial finished an epoch; `value`: the selection metric of the weights kept so far."""

    ticket: Ticket
    epoch: int
    value: float | None


@dataclass(frozen=True)
class TrialDone:
    """A trial that counts; its result is on disk and in Optuna."""

    ticket: Ticket
    record: TrialRecord


@dataclass(frozen=True)
class TrialPutBack:
    """A trial that does not count; its point is queued again (or given up, see `reason`)."""

    ticket: Ticket
    reason: str


@dataclass(frozen=True)
class StudyProgress:
    """The state of the study after other heads ended trials, or after theirs were taken over."""

    finished: int
    best: tuple[float, int] | None
    lines: tuple[str, ...]


SweepEvent = TrialBegun | TrialEpoch | TrialDone | TrialPutBack | StudyProgress | Waiting
