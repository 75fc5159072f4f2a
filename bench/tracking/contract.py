"""What a head needs of a tracker, and the tracker that tells nobody. No mlflow here.

Records on disk are the source of truth. `tell(record)` is idempotent: it sends everything that a
record holds, unless MLflow has it completely. One call therefore serves a run or trial that has
just ended, one that MLflow missed, and `bench sync`. The live curves (`watch`) are a thin stream
on top: what is lost of it, `tell` sends.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from bench.core.spec import EpochValues, RunRecord, RunSpec, TrialSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Answer = Literal["known", "sent", "missed", "off"]
"""MLflow had the record, has it now, did not take it; or nobody was asked."""


@dataclass(frozen=True)
class SyncReport:
    """Number of runs that MLflow already had, that were sent now, and that could not be sent."""

    known: int
    told: int
    missed: int

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> "SyncReport":
        """Count the answers of `tell`."""
        count = Counter(answers)
        return cls(count["known"], count["sent"], count["missed"])

    def __add__(self, other: "SyncReport") -> "SyncReport":
        return SyncReport(
            self.known + other.known, self.told + other.told, self.missed + other.missed
        )


@dataclass(frozen=True)
class Began:
    """A run or a trial (with its number and source) starts, or resumes where it was cut off."""

    spec: RunSpec
    trial: int = 0
    source: str = ""


@dataclass(frozen=True)
class Epoch:
    """The values of an epoch."""

    spec: RunSpec
    values: EpochValues


@dataclass(frozen=True)
class Ended:
    """It ended without a record: failed for a `reason`, or stopped (None) and can be resumed."""

    spec: RunSpec
    reason: str | None = None


@dataclass(frozen=True)
class Progress:
    """The state of a study after so many finished trials."""

    finished: int
    best: float | None
    epochs: int


@dataclass(frozen=True)
class WorkOver:
    """Nothing trains any more: waiting for an MLflow that was away delays nothing now."""


Moment = Began | Epoch | Ended | Progress | WorkOver
"""What a tracker may watch."""


class Trial(Protocol):
    """What is sent of an ended trial (bench.sweep's TrialRecord)."""

    @property
    def number(self) -> int:
        """Its number in the study."""

    @property
    def source(self) -> str:
        """ "default", "origin" or ""."""

    @property
    def spec(self) -> TrialSpec:
        """What was trained."""

    @property
    def outcome(self) -> Literal["complete", "pruned", "diverged"]:
        """How it ended."""

    @property
    def value(self) -> float | None:
        """Its score on validation."""

    @property
    def history(self) -> tuple[EpochValues, ...]:
        """Its epochs."""

    @property
    def started_unix_ms(self) -> int:
        """When it began."""

    @property
    def finished_unix_ms(self) -> int:
        """When it ended."""

    @property
    def message(self) -> str:
        """Why it did not finish."""


@dataclass(frozen=True)
class StudyCard:
    """Content of a study's parent run: its name and identifier, the default recipe's trial, its
    space in words, and what may change between commands (sampler, pruner, trials)."""

    name: str
    id: str
    base: TrialSpec
    space: Mapping[str, str]
    options: Mapping[str, str]


Mutex = Callable[[], AbstractContextManager[None]]
"""A lock that excludes the other heads of a study."""
Draw = Callable[[], "Figure"]
"""Draws a figure, when there is somebody to send it to."""


class Stream(Protocol):
    """What the trackers of runs and of studies share. No method raises if MLflow is away."""

    @property
    def missed(self) -> int:
        """Runs that MLflow lacks or has incompletely; `bench sync` sends them."""

    @property
    def link(self) -> str:
        """A link to a saved view in the web interface; "" if there is none."""

    def watch(self, moment: Moment, /) -> None:
        """Show a run while it happens."""

    def close(self) -> None:
        """Send what is buffered, and report once what MLflow missed."""


class Tracker(Stream, Protocol):
    """A tracker of the runs of a protocol."""

    def tell(self, record: RunRecord, /) -> Answer:
        """Send the whole content of a record unless MLflow has it; idempotent."""

    def cell_finished(self, records: Sequence[RunRecord], /) -> None:
        """All seeds of a cell are finished: log the model of the median seed, once."""


class StudyTracker(Stream, Protocol):
    """A tracker of one study."""

    def tell(self, trial: Trial, /) -> Answer:
        """Send the whole content of an ended trial unless MLflow has it; idempotent."""

    def study_ended(
        self, figures: Mapping[str, Draw], texts: Mapping[str, str], status: str, /
    ) -> None:
        """Figures and texts of the study, by file name; `status`: "finished" or "stopped"."""


class NullTracker:
    """The tracker for `BENCH_TRACKING=off`, of runs and of studies: it tells nobody, so nothing
    counts as missed."""

    missed = 0
    link = ""

    def tell(self, _record: object, /) -> Answer:
        """Leave the record on disk, for `bench sync`."""
        return "off"

    def watch(self, _moment: Moment, /) -> None:
        """Nobody watches."""

    def cell_finished(self, _records: Sequence[RunRecord], /) -> None:
        """The cell's model is sent with its records."""

    def study_ended(
        self, _figures: Mapping[str, Draw], _texts: Mapping[str, str], _status: str, /
    ) -> None:
        """No figure is drawn."""

    def close(self) -> None:
        """Nothing is buffered."""
