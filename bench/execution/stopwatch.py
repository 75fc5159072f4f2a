"""Measures speeds in a worker process, so that the head need not import torch."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from bench.core.errors import BenchError
from bench.core.spec import RunSpec, SplitSizes

Speeds = tuple[float, float]
"""Seconds per trained and per scored image; for a closed form, seconds of the whole fit, and 0."""


class Stopwatch:
    """A process that measures variants one after the other; started on first use."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def measure(self, spec: RunSpec, sizes: SplitSizes) -> Speeds:
        """Time a few training steps; BadInput for a device that this machine lacks."""
        try:
            return self._pool.submit(_measure, spec, sizes).result()
        except BrokenProcessPool:
            raise BenchError(
                f"the process that measures {spec.title} died; out of memory? The speeds "
                "measured before are kept"
            ) from None


def _begin() -> None:
    """Ignore Ctrl-C, which only the head handles; set the spec's threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _measure(spec: RunSpec, sizes: SplitSizes) -> Speeds:
    os.environ["OMP_NUM_THREADS"] = str(spec.threads)  # read at torch's first import
    from bench.execution.speeds import measure

    return measure(spec, sizes)
