"""Sharing runs between commands on one store: one trains a run, the others use its record.

The command that trains a run holds a lock file in `mlruns/locks/`.
"""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedRandom
from pathlib import Path

from bench.core.locks import locked, release, take
from bench.core.spec import RunRecord, RunSpec, Stack
from bench.core.store import Store
from bench.execution import Executor
from bench.records.files import enter, sound_record

_AHEAD = 2
"""Stacks submitted per slot: a free worker finds the next one without waiting for the head."""


class SharedQueue:
    """Submits specs to an executor as slots become free; as a context manager it releases its
    locks at the end."""

    def __init__(
        self,
        specs: Iterable[RunSpec],
        store: Store,
        executor: Executor,
        together: Sequence[Stack] = (),
    ) -> None:
        """`together`: those of the specs that train as stacks."""
        self._waiting = deque(_stacks(specs, together))
        self._store = store
        self._executor = executor
        self._held: dict[str, BufferedRandom] = {}
        self._submitted: dict[str, str] = {}

    def __enter__(self) -> "SharedQueue":
        return self

    def __exit__(self, *_: object) -> None:
        for run_key in list(self._held):
            self.release(run_key)

    def add(self, specs: Sequence[RunSpec]) -> None:
        """Further specs, before those that wait: a cell's seeds follow one after the other."""
        self._waiting.extendleft((spec,) for spec in reversed(specs))

    def hand_out(self) -> Iterator[tuple[RunSpec, RunRecord]]:
        """Submit specs that no other command trains; yield records finished by other commands.

        Specs that another command is training are checked again on the next call.
        """
        room = _AHEAD * self._executor.slots - len(set(self._submitted.values()))
        for _ in range(len(self._waiting)):
            if room <= 0:
                return
            stack = self._waiting.popleft()
            taken = [spec for spec in stack if self._take(spec.run_key)]
            if left := tuple(spec for spec in stack if spec not in taken):
                self._waiting.append(left)
            for spec in list(taken):
                record = sound_record(self._store.records, spec)
                if record is not None and record.evaluation_digest == spec.evaluation_digest:
                    taken.remove(spec)
                    self.release(spec.run_key)
                    enter(self._store.records, record)
                    yield spec, record
            if taken:
                keys = [spec.run_key for spec in taken]
                self._submitted |= dict.fromkeys(keys, keys[0])
                self._executor.submit(*taken)
                room -= 1

    def _take(self, run_key: str) -> bool:
        stream = take(_path(self._store, run_key))
        if stream is not None:
            self._held[run_key] = stream
        return stream is not None

    def release(self, run_key: str) -> None:
        """Release a run that has ended here and was published; another command may take it."""
        self._submitted.pop(run_key, None)
        stream = self._held.pop(run_key, None)
        if stream is not None:
            release(_path(self._store, run_key), stream)


def _stacks(specs: Iterable[RunSpec], together: Sequence[Stack]) -> list[Stack]:
    """Each stack in the place of its first spec, the other specs alone."""
    by_key = {spec.run_key: stack for stack in together for spec in stack}
    found = (by_key.get(spec.run_key, (spec,)) for spec in specs)
    return list({stack[0].run_key: stack for stack in found}.values())


def _path(store: Store, name: str) -> Path:
    return store.locks / f"{name}.lock"


@contextlib.contextmanager
def one_at_a_time(store: Store, name: str) -> Iterator[None]:
    """Wait until no other command on this store is doing the work called `name`."""
    with locked(_path(store, name)):
        yield
