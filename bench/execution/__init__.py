"""Where specs run. One interface: submit specs, collect events, request stops.

Workers are stateless: they get a spec, train, send each epoch's values, check whether to stop, and
return a record that is already on disk (for a TrialSpec, the result only). A worker that dies is
reported: a fresh worker tries its spec once more, then the spec counts as failed.

| file           | content                                                     | torch |
|----------------|-------------------------------------------------------------|-------|
| events.py      | what happens, and the interface: Executor                   | no    |
| places.py      | the choice of a place, and the workers of a command         | no    |
| local.py       | a pool of processes on this machine                         | no    |
| cluster.py     | a Ray cluster                                               | no    |
| parcel.py      | results and checkpoints in transit between machines         | no    |
| devices.py     | the devices of this machine                                 | no    |
| stopwatch.py   | a process that measures speeds                              | no    |
| software.py    | which code of bench runs: digest and commit                 | no    |
| worker.py      | one spec in a worker                                        | late  |
| runner.py      | execute(spec) -> record                                     | yes   |
| together.py    | the same for seeds that train as one network                | yes   |
| speeds.py      | what the stopwatch measures                                 | yes   |
| environment.py | versions, device and commit of a run                        | yes   |
| direct.py      | training without a record, for the Python API               | yes   |
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
    Waiting,
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
    "Waiting",
]
