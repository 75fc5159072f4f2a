"""Ctrl-C and SIGTERM as a note that a loop reads, rather than an exception anywhere in it.

Python loses a KeyboardInterrupt that it raises in a callback of the garbage collector.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Interrupt:
    """Whether the command was asked to stop."""

    asked: bool = False


@contextlib.contextmanager
def gentle_interrupt() -> Iterator[Interrupt]:
    """Defer the first Ctrl-C or SIGTERM, so that it never interrupts a write; a second one
    interrupts."""
    interrupt = Interrupt()

    def note(*_: object) -> None:
        if interrupt.asked:
            raise KeyboardInterrupt
        interrupt.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield interrupt  # only the main thread gets signals
        return
    before = {sign: signal.signal(sign, note) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
