"""Measures speeds and memory in a worker process, so that the head need not import torch."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import cast

from bench.core.errors import BenchError
from bench.core.spec import RunSpec, SplitSizes
from bench.execution.local import deaf_to
from bench.models.own import Origin, adopt, origin_of

Speeds = tuple[float, float]
"""Seconds per trained and per scored image; for a closed form, of its whole fit and 0."""
MEASURED = 3
"""How many seeds the stack has whose speed is measured: what most cells begin with."""
Question = Callable[[RunSpec, SplitSizes], object]


class Stopwatch:
    """A context with a process that measures one variant after the other; if it dies, another one
    measures the next.

    The process ends with the head, however that ends: it sees the end of its pipe. (A process of
    `concurrent.futures` holds both ends of its queue and would outlive a killed head.)
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        with deaf_to(signal.SIGINT):
            self._process.start()
        theirs.close()

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def measure(self, spec: RunSpec, sizes: SplitSizes) -> Speeds:
        """Time a few training steps; BadInput for a device that is not here, BenchError if it
        fails."""
        return cast("Speeds", self._ask(_speeds, spec, sizes))

    def measure_together(self, spec: RunSpec, sizes: SplitSizes) -> Speeds:
        """Processor seconds per trained image of a variant that stacks, alone and with MEASURED
        seeds as one network; raises as `measure`."""
        return cast("Speeds", self._ask(_together, spec, sizes))

    def needed_bytes(self, spec: RunSpec, sizes: SplitSizes) -> int:
        """The memory of a run at its peak, on the CPU; BenchError if it cannot be told."""
        return cast("int", self._ask(_memory, spec, sizes))

    def _ask(self, what: Question, spec: RunSpec, sizes: SplitSizes) -> object:
        try:
            self._pipe.send((what, spec, sizes, origin_of(spec.model)))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._end()
            self._start()
            raise BenchError(
                f"the process that measures {spec.title} died; out of memory? The speeds that were "
                "measured before are kept"
            ) from None
        if isinstance(answer, BenchError):
            raise answer
        return answer


def _work(pipe: Connection) -> None:
    """Specs in, speeds or errors out, until the head goes away. What a model prints goes to stderr:
    stdout is the command's own."""
    with contextlib.suppress(EOFError, OSError), contextlib.redirect_stdout(sys.stderr):
        while True:
            pipe.send(_answered(*pipe.recv()))


def _speeds(spec: RunSpec, sizes: SplitSizes) -> Speeds:
    from bench.execution.speeds import measure

    return measure(spec, sizes)


def _together(spec: RunSpec, sizes: SplitSizes) -> Speeds:
    from bench.execution.speeds import measure_together

    return measure_together(spec, sizes)


def _memory(spec: RunSpec, sizes: SplitSizes) -> int:
    from bench.execution.memory import needed_bytes

    return needed_bytes(spec, sizes)


def _answered(what: Question, spec: RunSpec, sizes: SplitSizes, origin: Origin | None) -> object:
    os.environ["OMP_NUM_THREADS"] = str(spec.threads)  # read when torch is first imported
    if origin is not None:
        adopt(origin)
    try:
        return what(spec, sizes)
    except BenchError as error:
        return error
    except Exception as error:
        return BenchError(f"measuring {spec.title} failed: {type(error).__name__}: {error}")
