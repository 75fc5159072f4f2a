"""What happens where specs run, and what the head needs of such a place."""

from dataclasses import dataclass
from typing import Protocol

from bench.core.spec import EpochValues, RunRecord, RunSpec, TrialResult

STOP_SECONDS = 20.0
"""How long a worker may take to reach the end of its epoch and save before it is ended."""


@dataclass(frozen=True)
class Started:
    """A worker began with a spec."""

    spec: RunSpec


@dataclass(frozen=True)
class EpochEnded:
    """One more epoch of a run."""

    spec: RunSpec
    values: EpochValues


@dataclass(frozen=True)
class Finished:
    """The run's record is on disk."""

    spec: RunSpec
    record: RunRecord


@dataclass(frozen=True)
class TrialEnded:
    """A trial of a search came to its end; no record is on disk, `result` is all there is."""

    spec: RunSpec
    result: TrialResult


@dataclass(frozen=True)
class Failed:
    """No record came of it; `reason` is one line, `detail` the traceback of a fault of ours."""

    spec: RunSpec
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Halted:
    """The run was asked to stop; its checkpoint is on disk."""

    spec: RunSpec


@dataclass(frozen=True)
class Lost:
    """The run's worker died; the run is queued again for a fresh worker."""

    spec: RunSpec
    reason: str


Event = Started | EpochEnded | Finished | TrialEnded | Failed | Halted | Lost


class Executor(Protocol):
    """What the head needs of a place where specs run."""

    @property
    def slots(self) -> int:
        """How many specs run at the same time."""

    @property
    def running(self) -> list[RunSpec]:
        """The specs that are running now."""

    def submit(self, spec: RunSpec) -> None:
        """Queue a spec."""

    def events(self, timeout: float) -> list[Event]:
        """What happened; waits up to `timeout` seconds for something to happen."""

    def stop(self, spec: RunSpec) -> None:
        """Ask a run to stop after its epoch; answered by Halted (or Finished, if it was done)."""

    def close(self) -> None:
        """Stop everything and free the workers."""
