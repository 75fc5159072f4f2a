"""Events of running specs, and the interface of an executor."""

from dataclasses import dataclass
from typing import Protocol

from bench.core.spec import EpochValues, RunRecord, RunSpec, TrialResult

STOP_SECONDS = 20.0
"""How long a worker may take to finish its epoch and save before it is ended."""


@dataclass(frozen=True)
class Started:
    """A worker started a spec."""

    spec: RunSpec


@dataclass(frozen=True)
class EpochEnded:
    """A run finished an epoch."""

    spec: RunSpec
    values: EpochValues


@dataclass(frozen=True)
class Finished:
    """The run's record is on disk."""

    spec: RunSpec
    record: RunRecord


@dataclass(frozen=True)
class TrialEnded:
    """A trial of a search ended; nothing is on disk, `result` is all there is."""

    spec: RunSpec
    result: TrialResult


@dataclass(frozen=True)
class Failed:
    """A run left no record; `reason` is one line, `detail` the traceback of a bug in bench.
    `of_storage`: nothing can be written, so other runs would be lost as well."""

    spec: RunSpec
    reason: str
    detail: str = ""
    of_storage: bool = False


@dataclass(frozen=True)
class Halted:
    """A run stopped as asked; its checkpoint is on disk."""

    spec: RunSpec


@dataclass(frozen=True)
class Lost:
    """A run's worker died; the run is queued again for a fresh worker."""

    spec: RunSpec
    reason: str


@dataclass(frozen=True)
class Waiting:
    """Told by heads when nothing has happened for about a second: the runs in progress go on."""


Event = Started | EpochEnded | Finished | TrialEnded | Failed | Halted | Lost


class Executor(Protocol):
    """Runs specs: on this machine or on a cluster."""

    @property
    def slots(self) -> int:
        """How many specs run at the same time."""

    @property
    def running(self) -> list[RunSpec]:
        """The specs that are running now."""

    def submit(self, *specs: RunSpec) -> None:
        """Queue a spec, or several that differ only by seed: a place that can trains these as one
        network, in one worker, and tells the events of each."""

    def events(self, timeout: float) -> list[Event]:
        """Events so far; waits up to `timeout` seconds for one."""

    def stop(self, spec: RunSpec) -> None:
        """Ask a run to stop after its epoch; answered by Halted (or Finished, if it was done)."""

    def close(self) -> None:
        """Stop everything and free the workers."""
