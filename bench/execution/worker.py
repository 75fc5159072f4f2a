"""One spec in a worker: train and score it, and report the outcome as an event."""

import os
import traceback
from collections.abc import Callable

from bench.core.disk import StorageFailed, is_of_storage, storage_failed
from bench.core.errors import BenchError
from bench.core.spec import EpochValues, RunSpec, TrialSpec
from bench.core.store import Store
from bench.execution.events import Event, Failed, Finished, Halted, TrialEnded


def attempt(spec: RunSpec, store: Store, on_epoch: Callable[[EpochValues], bool]) -> Event:
    """Execute a spec; every outcome is an event. `on_epoch` returns whether to stop."""
    os.environ["OMP_NUM_THREADS"] = str(spec.threads)  # read at torch's first import
    from bench.execution.runner import StoppedEarly, execute, execute_trial, return_freed_memory

    return_freed_memory()
    try:
        if isinstance(spec, TrialSpec):
            return TrialEnded(spec, execute_trial(spec, store, on_epoch))
        return Finished(spec, execute(spec, store, on_epoch))
    except StoppedEarly:
        return Halted(spec)
    except BenchError as error:
        return Failed(spec, str(error), of_storage=isinstance(error, StorageFailed))
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise  # the head is gone; nobody can receive an event
        line = str(storage_failed(error, "write the record or checkpoint", store.mlruns))
        return Failed(spec, line, of_storage=is_of_storage(error))
    except Exception as error:
        summary = f"{type(error).__name__}: {error}".splitlines()[0]
        return Failed(spec, summary, traceback.format_exc())
