"""Several commands on one store: a run is trained by one of them, and the others take its record.

The locks are the system's, on files in `mlruns/locks/`: who dies gives them back.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from io import BufferedRandom
from pathlib import Path

from bench.execution import Executor
from bench.records import sound_record
from bench.spec import RunRecord, RunSpec
from bench.store import Store

_AHEAD = 2
"""Specs that an executor holds for each slot: a worker that is free need not wait for the head."""


class SharedQueue:
    """Specs on their way to an executor, as it has room for them; as a context it gives back its
    locks in the end."""

    def __init__(self, specs: Iterable[RunSpec], store: Store, executor: Executor) -> None:
        self._waiting = deque(specs)
        self._store = store
        self._executor = executor
        self._held: dict[str, BufferedRandom] = {}

    def __enter__(self) -> "SharedQueue":
        return self

    def __exit__(self, *_: object) -> None:
        for run_key in list(self._held):
            self.release(run_key)

    def hand_out(self) -> Iterator[tuple[RunSpec, RunRecord]]:
        """Submit what is free, and yield the records that another command has made meanwhile.

        What another command trains now is looked at again the next time.
        """
        room = _AHEAD * self._executor.slots - len(self._held)
        for _ in range(len(self._waiting)):
            if room <= 0:
                return
            spec = self._waiting.popleft()
            if not self._take(spec.run_key):
                self._waiting.append(spec)
                continue
            record = sound_record(self._store.records, spec.run_key)
            if record is not None and record.evaluation_digest == spec.evaluation_digest:
                self.release(spec.run_key)
                yield spec, record
                continue
            self._executor.submit(spec)
            room -= 1

    def _take(self, run_key: str) -> bool:
        stream = _open(self._store, run_key)
        if not locked(stream.fileno()) or not _is_there(stream, _path(self._store, run_key)):
            stream.close()
            return False
        self._held[run_key] = stream
        return True

    def release(self, run_key: str) -> None:
        """The run has ended here and was told; another command may have it."""
        stream = self._held.pop(run_key, None)
        if stream is not None:
            _path(self._store, run_key).unlink(missing_ok=True)
            stream.close()


def _path(store: Store, name: str) -> Path:
    return store.mlruns / "locks" / f"{name}.lock"


def _open(store: Store, name: str) -> BufferedRandom:
    path = _path(store, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+b")


def _is_there(stream: BufferedRandom, path: Path) -> bool:
    """Whether the file was not removed by its last holder while we opened it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def one_at_a_time(store: Store, name: str) -> Iterator[None]:
    """Wait until no other command of this store does what `name` says."""
    with _open(store, name) as stream:
        locked(stream.fileno(), wait=True)
        yield


def locked(handle: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file; False where somebody else has it. Windows has no shared locks."""
    if os.name == "nt":
        import msvcrt

        mode = "LK_LOCK" if wait else "LK_NBLCK"
        try:
            msvcrt.locking(  # type: ignore[attr-defined,unused-ignore]
                handle, getattr(msvcrt, mode), 1
            )
        except OSError:
            return False
        return True
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, kind | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
