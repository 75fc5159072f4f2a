"""Sharing runs between commands on one store: one trains a run, the others use its record.

The command that trains a run holds a lock file in `mlruns/locks/`.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedRandom
from pathlib import Path

from bench.core.locks import locked, release, take
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.execution import Executor
from bench.records.files import enter, sound_record

_AHEAD = 2
"""Specs submitted per slot: a free worker finds the next one without waiting for the head."""


class SharedQueue:
    """Submits specs to an executor as slots become free; as a context manager it releases its
    locks at the end."""

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

    def add(self, specs: Sequence[RunSpec]) -> None:
        """Further specs, before those that wait: a cell's seeds follow one after the other."""
        self._waiting.extendleft(reversed(specs))

    def hand_out(self) -> Iterator[tuple[RunSpec, RunRecord]]:
        """Submit specs that no other command trains; yield records finished by other commands.

        Specs that another command is training are checked again on the next call.
        """
        room = _AHEAD * self._executor.slots - len(self._held)
        for _ in range(len(self._waiting)):
            if room <= 0:
                return
            spec = self._waiting.popleft()
            if not self._take(spec.run_key):
                self._waiting.append(spec)
                continue
            record = sound_record(self._store.records, spec)
            if record is not None and record.evaluation_digest == spec.evaluation_digest:
                self.release(spec.run_key)
                enter(self._store.records, record)
                yield spec, record
                continue
            self._executor.submit(spec)
            room -= 1

    def _take(self, run_key: str) -> bool:
        stream = take(_path(self._store, run_key))
        if stream is not None:
            self._held[run_key] = stream
        return stream is not None

    def release(self, run_key: str) -> None:
        """Release a run that has ended here and was published; another command may take it."""
        stream = self._held.pop(run_key, None)
        if stream is not None:
            release(_path(self._store, run_key), stream)


def _path(store: Store, name: str) -> Path:
    return store.locks / f"{name}.lock"


@contextlib.contextmanager
def one_at_a_time(store: Store, name: str) -> Iterator[None]:
    """Wait until no other command on this store is doing the work called `name`."""
    with locked(_path(store, name)):
        yield
