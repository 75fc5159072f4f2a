"""One spec in a worker, or a stack of seeds: train and score, and report outcomes as events."""

import os
import traceback
from collections.abc import Callable, Iterator, Sequence

from bench.core.disk import StorageFailed, failure_behind, storage_failed
from bench.core.errors import BenchError
from bench.core.memory import return_freed_memory
from bench.core.spec import EpochValues, RunSpec, TrialSpec
from bench.core.store import Store
from bench.execution.events import Event, Failed, Finished, Halted, TrialEnded


def attempt(spec: RunSpec, store: Store, on_epoch: Callable[[EpochValues], bool]) -> Event:
    """Execute a spec; every outcome is an event. `on_epoch` returns whether to stop."""
    _prepare(spec)
    from bench.execution.runner import execute, execute_trial

    try:
        if isinstance(spec, TrialSpec):
            return TrialEnded(spec, execute_trial(spec, store, on_epoch))
        return Finished(spec, execute(spec, store, on_epoch))
    except Exception as error:
        return _without_record(spec, error, store)


def attempt_together(
    specs: Sequence[RunSpec], store: Store, on_epoch: Callable[[RunSpec, EpochValues], bool]
) -> Iterator[Event]:
    """Execute a stack of seeds; the outcome of each is an event, in the order of their ends."""
    _prepare(specs[0])
    from bench.execution.together import execute_together

    remaining = list(specs)
    try:
        for spec, record in execute_together(specs, store, on_epoch):
            remaining.remove(spec)
            try:
                yield Finished(spec, record())
            except Exception as error:
                yield _without_record(spec, error, store)
    except Exception as error:
        for spec in remaining:
            yield _without_record(spec, error, store)


def _prepare(spec: RunSpec) -> None:
    os.environ["OMP_NUM_THREADS"] = str(spec.threads)  # read at torch's first import
    return_freed_memory()


def _without_record(spec: RunSpec, error: Exception, store: Store) -> Event:
    """The event of a spec that ended in an exception."""
    from bench.execution.runner import StoppedEarly

    if isinstance(error, BrokenPipeError):
        raise error  # the head is gone; nobody can receive an event
    if isinstance(error, StoppedEarly):
        return Halted(spec)
    if isinstance(error, BenchError):
        return Failed(spec, str(error), of_storage=isinstance(error, StorageFailed))
    if (found := failure_behind(error)) is not None:
        return no_room(spec, found, store)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Failed(spec, f"{where}{error.strerror or error}")
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    return Failed(spec, summary, "".join(traceback.format_exception(error)))


def no_room(spec: RunSpec, error: OSError, store: Store) -> Failed:
    """The event of a result that the disk did not take."""
    return Failed(spec, str(storage_failed(error, "write", store.mlruns)), of_storage=True)
