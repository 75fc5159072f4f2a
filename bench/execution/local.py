"""A pool of worker processes on this machine."""

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from bench.core.spec import EpochValues, RunSpec
from bench.core.store import Store
from bench.execution.events import (
    STOP_SECONDS,
    EpochEnded,
    Event,
    Failed,
    Lost,
    Started,
)
from bench.execution.software import Software, adopt, running_software
from bench.execution.worker import attempt
from bench.models.own import Origin, origin_of
from bench.models.own import adopt as take_origin


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    spec: RunSpec | None = None


class LocalPool:
    """Local worker processes, each with its own interpreter and its own threads."""

    def __init__(self, workers: int, store: Store) -> None:
        self._store = store
        self._software = running_software()
        self._context = multiprocessing.get_context("spawn")
        self._queue: deque[RunSpec] = deque()
        self._deaths: dict[str, int] = {}
        self._workers = [self._hire() for _ in range(workers)]

    @property
    def slots(self) -> int:
        """How many specs run at the same time."""
        return len(self._workers)

    @property
    def running(self) -> list[RunSpec]:
        """The specs that workers are training."""
        return [worker.spec for worker in self._workers if worker.spec is not None]

    def submit(self, spec: RunSpec) -> None:
        """Queue a spec for the next free worker."""
        self._queue.append(spec)

    def stop(self, spec: RunSpec) -> None:
        """Remove the spec from the queue, or ask its worker to stop after the epoch."""
        with contextlib.suppress(ValueError):
            self._queue.remove(spec)
        for worker in self._workers:
            if worker.spec == spec:
                with contextlib.suppress(OSError):
                    worker.pipe.send("stop")

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
            if worker.spec is not None:
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
        with deaf_to_ctrl_c():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hand_out(self) -> Iterator[Event]:
        for worker in self._workers:
            if worker.spec is None and self._queue:
                worker.spec = self._queue.popleft()
                with contextlib.suppress(OSError):  # _listen notices a dead worker
                    if (origin := origin_of(worker.spec.model)) is not None:
                        worker.pipe.send(origin)
                    worker.pipe.send(worker.spec)
                yield Started(worker.spec)

    def _listen(self, worker: _Worker) -> list[Event]:
        """Everything a worker has sent so far, or its death."""
        heard: list[Event] = []
        try:
            while worker.pipe.poll():
                event: Event = worker.pipe.recv()
                heard.append(event)
                if not isinstance(event, EpochEnded):
                    worker.spec = None
        except (EOFError, OSError):
            heard += self._replace(worker)
        return heard

    def _replace(self, dead: _Worker) -> list[Event]:
        """Start a new worker; retry the dead one's spec once."""
        dead.process.join(timeout=5)
        dead.pipe.close()
        self._workers[self._workers.index(dead)] = self._hire()
        if dead.spec is None:
            return []
        key = dead.spec.run_key
        self._deaths[key] = self._deaths.get(key, 0) + 1
        cause = cause_of_end(dead.process.exitcode)
        if self._deaths[key] == 1:
            self._queue.appendleft(dead.spec)
            return [Lost(dead.spec, f"its worker died ({cause}); trying once more")]
        return [Failed(dead.spec, f"its worker died twice ({cause})")]


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Make processes started here ignore Ctrl-C from the start.

    A terminal sends it to the whole process group; only the head handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set it, and only that one gets Ctrl-C
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
    with contextlib.suppress(EOFError, OSError):
        while True:
            message = pipe.recv()
            if isinstance(message, Origin):
                take_origin(message)
            if isinstance(message, RunSpec):  # a late "stop" for a finished run is dropped
                pipe.send(attempt(message, store, _reporter(message, pipe)))


def _reporter(spec: RunSpec, pipe: Connection) -> Callable[[EpochValues], bool]:
    def on_epoch(values: EpochValues) -> bool:
        pipe.send(EpochEnded(spec, values))
        return pipe.poll() and pipe.recv() == "stop"

    return on_epoch
