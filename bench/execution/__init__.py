"""Where specs run. One interface: specs go in, events come back, a stop goes out.

Workers are stateless: they get a spec, train, send every epoch's values, look whether to stop,
and return a record that is on disk already (of a TrialSpec, the result alone). A worker that dies
is an event, not a hang: its spec is tried once more by a fresh worker and fails by name after that.

| file      | room                                                                     |
|-----------|--------------------------------------------------------------------------|
| events.py | what happens, and the interface: Executor                                |
| worker.py | one spec in a worker                                                     |
| local.py  | a pool of processes on this machine                                      |
| parcel.py | results and checkpoints on their way between machines                    |
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
