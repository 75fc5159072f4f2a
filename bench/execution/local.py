"""A pool of worker processes on this machine."""

import contextlib
import functools
import multiprocessing
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from bench.core.spec import EpochValues, RunSpec
from bench.core.store import Store
from bench.execution.events import (
    STOP_SECONDS,
    EpochEnded,
    Event,
    Failed,
    Halted,
    Lost,
    Started,
)
from bench.execution.software import Software, adopt, running_software
from bench.execution.worker import attempt, attempt_together
from bench.models.own import Origin, origin_of
from bench.models.own import adopt as take_origin


@dataclass(frozen=True)
class _Stop:
    """Asks a worker to end a run after its epoch."""

    run_key: str


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    specs: list[RunSpec] = field(default_factory=list)
    """What it is training: one spec, or those of a stack that have not ended."""


class LocalPool:
    """Local worker processes, each with its own interpreter and its own threads."""

    def __init__(self, workers: int, store: Store) -> None:
        self._store = store
        self._software = running_software()
        self._context = multiprocessing.get_context("spawn")
        self._queue: deque[tuple[RunSpec, ...]] = deque()
        self._deaths: dict[str, int] = {}
        self._stopped: set[str] = set()
        self._workers = [self._hire() for _ in range(workers)]

    @property
    def slots(self) -> int:
        """How many specs run at the same time."""
        return len(self._workers)

    @property
    def running(self) -> list[RunSpec]:
        """The specs that workers are training."""
        return [spec for worker in self._workers for spec in worker.specs]

    def submit(self, *specs: RunSpec) -> None:
        """Queue a spec, or seeds that train as one network, for the next free worker."""
        self._queue.append(specs)

    def stop(self, spec: RunSpec) -> None:
        """Remove the spec from the queue, or ask its worker to stop after the epoch."""
        left = (tuple(each for each in specs if each != spec) for specs in self._queue)
        self._queue = deque(specs for specs in left if specs)
        self._stopped.add(spec.run_key)
        for worker in self._workers:
            if spec in worker.specs:
                with contextlib.suppress(OSError):
                    worker.pipe.send(_Stop(spec.run_key))

    def events(self, timeout: float) -> list[Event]:
        """Hand out queued specs, then collect the workers' events for up to `timeout` seconds."""
        happened: list[Event] = list(self._hand_out())
        ready = wait([worker.pipe for worker in self._workers], 0.0 if happened else timeout)
        for worker in list(self._workers):
            if worker.pipe in ready:
                happened += self._listen(worker)
        return happened

    def close(self) -> None:
        """End idle workers at once; give busy ones time to save, then end them."""
        self._queue.clear()
        for spec in self.running:
            self.stop(spec)
        deadline = time.monotonic() + STOP_SECONDS
        while self.running and time.monotonic() < deadline:
            self.events(0.2)
            self._queue.clear()
        for worker in self._workers:
            worker.pipe.close()
            if worker.specs:
                worker.process.terminate()
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _hire(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        # Daemonic: workers end with an interpreter that ends on an exception.
        given = (theirs, self._store, self._software)
        process = self._context.Process(target=_work, args=given, daemon=True)
        with deaf_to(signal.SIGINT):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hand_out(self) -> Iterator[Event]:
        for worker in self._workers:
            if not worker.specs and self._queue:
                worker.specs = list(self._queue.popleft())
                with contextlib.suppress(OSError):  # _listen notices a dead worker
                    if (origin := origin_of(worker.specs[0].model)) is not None:
                        worker.pipe.send(origin)
                    worker.pipe.send(tuple(worker.specs))
                yield from (Started(spec) for spec in list(worker.specs))

    def _listen(self, worker: _Worker) -> list[Event]:
        """Everything a worker has sent so far, or its death."""
        heard: list[Event] = []
        try:
            while worker.pipe.poll():
                event: Event = worker.pipe.recv()
                if not isinstance(event, EpochEnded):
                    worker.specs.remove(event.spec)
                if isinstance(event, Halted) and event.spec.run_key not in self._stopped:
                    # Its worker alone was asked to end.
                    self._queue.appendleft((event.spec,))
                    event = Lost(event.spec, "its worker was stopped by SIGTERM; it goes on")
                heard.append(event)
        except (EOFError, OSError):
            heard += self._replace(worker)
        return heard

    def _replace(self, dead: _Worker) -> list[Event]:
        """Start a new worker; retry each of the dead one's specs once, alone."""
        dead.process.join(timeout=5)
        dead.pipe.close()
        self._workers[self._workers.index(dead)] = self._hire()
        cause = cause_of_end(dead.process.exitcode)
        return [self._retry(spec, cause) for spec in reversed(dead.specs)]

    def _retry(self, spec: RunSpec, cause: str) -> Event:
        self._deaths[spec.run_key] = self._deaths.get(spec.run_key, 0) + 1
        if self._deaths[spec.run_key] == 1:
            self._queue.appendleft((spec,))
            return Lost(spec, f"its worker died ({cause}); trying once more")
        return Failed(spec, f"its worker died twice ({cause})")


@contextlib.contextmanager
def deaf_to(*signs: signal.Signals) -> Iterator[None]:
    """Make processes started here ignore signals from the start.

    Terminals send Ctrl-C, and schedulers SIGTERM, to the whole process group; the head handles
    them. (What ends a daemonic worker with its head is SIGTERM as well: it must not ignore that.)
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set them, and only that one gets them
        return
    before = {sign: signal.signal(sign, signal.SIG_IGN) for sign in signs}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


class _End:
    """A worker's answer to SIGTERM: it ends when it has nothing to do, else after the epoch, of
    which it keeps the checkpoint."""

    def __init__(self) -> None:
        self.asked, self.busy = False, False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, *_: object) -> None:
        self.asked = True
        if not self.busy:
            sys.exit(0)


def cause_of_end(exit_code: int | None) -> str:
    """Why a process ended, in words."""
    if exit_code is not None and exit_code < 0:
        hint = "; out of memory?" if -exit_code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-exit_code).name}{hint}"
    return f"exit code {exit_code}"


def _work(pipe: Connection, store: Store, software: Software) -> None:
    """A worker's main loop: receive specs, send events, until the head is gone.

    Where an own model is comes before its spec, which names no place.
    """
    adopt(software)
    end = _End()
    # stdout is the command's own: what a model prints goes to stderr.
    with contextlib.suppress(EOFError, OSError), contextlib.redirect_stdout(sys.stderr):
        while not end.asked:
            end.busy = False
            message = pipe.recv()
            end.busy = True
            if isinstance(message, Origin):
                take_origin(message)
            if isinstance(message, tuple):  # a late _Stop for a finished run is dropped
                _work_on(message, pipe, store, end)


def _work_on(specs: tuple[RunSpec, ...], pipe: Connection, store: Store, end: _End) -> None:
    """Train a spec, or several as one network, and send their events."""
    stops: set[str] = set()

    def on_epoch(spec: RunSpec, values: EpochValues) -> bool:
        pipe.send(EpochEnded(spec, values))
        while pipe.poll():
            message = pipe.recv()
            assert isinstance(message, _Stop)  # a busy worker gets nothing else
            stops.add(message.run_key)
        return end.asked or spec.run_key in stops

    if len(specs) == 1:
        pipe.send(attempt(specs[0], store, functools.partial(on_epoch, specs[0])))
        return
    for event in attempt_together(specs, store, on_epoch):
        pipe.send(event)
