"""What happens in a search, as the head says it; and the Ctrl-C that ends it gently."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from bench.sweep.results import TrialRecord
from bench.sweep.trials import Ticket


@dataclass(frozen=True)
class TrialBegun:
    """A worker has a trial."""

    ticket: Ticket


@dataclass(frozen=True)
class TrialEpoch:
    """One more epoch of a trial; `value`: the selection metric that its weights would keep."""

    ticket: Ticket
    epoch: int
    value: float | None


@dataclass(frozen=True)
class TrialDone:
    """A trial that counts; its result is on disk and told to Optuna."""

    ticket: Ticket
    record: TrialRecord


@dataclass(frozen=True)
class TrialPutBack:
    """A trial that does not count; its point is queued again (or given up, as `reason` says)."""

    ticket: Ticket
    reason: str


@dataclass(frozen=True)
class StudyProgress:
    """How the study stands since other heads ended trials, or left some that were taken over."""

    finished: int
    best: tuple[float, int] | None
    lines: tuple[str, ...]


SweepEvent = TrialBegun | TrialEpoch | TrialDone | TrialPutBack | StudyProgress


@dataclass
class Interrupt:
    """Whether the command was asked to stop."""

    asked: bool = False


@contextlib.contextmanager
def gentle_interrupt() -> Iterator[Interrupt]:
    """The first Ctrl-C, or SIGTERM, is noted, so that it never falls into a write; a second one
    interrupts."""
    interrupt = Interrupt()

    def note(*_: object) -> None:
        if interrupt.asked:
            raise KeyboardInterrupt
        interrupt.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # only the main thread hears of signals
        return
    before = {sign: signal.signal(sign, note) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
