"""Where specs run. One interface: submit specs, collect events, request stops.

Workers are stateless: they get a spec, train, send each epoch's values, check whether to stop, and
return a record that is already on disk (for a TrialSpec, the result only). A worker that dies is
reported: a fresh worker tries its spec once more, then the spec counts as failed.

| file      | content                                                                  |
|-----------|--------------------------------------------------------------------------|
| events.py | what happens, and the interface: Executor                                |
| worker.py | one spec in a worker                                                     |
| local.py  | a pool of processes on this machine                                      |
| parcel.py | results and checkpoints in transit between machines                      |
| cluster.py| a Ray cluster                                                            |
| places.py | the choice between them                                                  |
"""

from bench.execution.events import (
    STOP_SECONDS,
    EpochEnded,
    Event,
    Executor,
    Failed,
    Finished,
    Halted,
    Lost,
    Started,
    TrialEnded,
)
from bench.execution.local import LocalPool

__all__ = [
    "STOP_SECONDS",
    "EpochEnded",
    "Event",
    "Executor",
    "Failed",
    "Finished",
    "Halted",
    "LocalPool",
    "Lost",
    "Started",
    "TrialEnded",
]
