"""Every changing call of a command fails at its N-th: disk full, an I/O error, a kill.

The command says so in one line, and once repeated it ends as if nothing had happened.
"""

import functools
import random
from collections.abc import Iterator

from .calls import Calls
from .ground import Ground, Try
from .jobs import Job, jobs
from .kills import go_on, look_at_committed
from .workspaces import Templates, compare, state_of

KINDS = ("full", "broken", "kill")


def tries(templates: Templates, seed: int, each: int = 0, every: int = 1) -> Iterator[Try]:
    """Every call of every command (or every so many), or `each` of them: the three kinds in turn,
    so that three seeds that follow each other fail each call in each way."""
    for job in jobs(templates)[::every]:
        numbers = range(1, job.reference.calls + 1)
        chosen = random.Random(f"{seed} {job.name}").sample(numbers, each) if each else numbers
        for number in chosen:
            kind = KINDS[(number + seed) % len(KINDS)]
            work = functools.partial(fail, job, kind, number)
            yield Try(f"calls/{job.name}/{kind}-{number}", work)


def fail(job: Job, kind: str, number: int, ground: Ground) -> None:
    """Fail the `number`-th call, then repeat the command."""
    store = ground.copy(job.template)
    calls = Calls(kind, number, str(store.root))
    said = job.start(calls.patch, store).wait()
    if kind != "kill":
        ground.heed(said, f"{job.name} with call {number} failing", (0, 2))
    elif said.code != -9:
        # A worker was killed, which the command survives, or the call did not come.
        ground.heed(said, f"{job.name} with a kill at call {number}")
    look_at_committed(ground, store)
    if said.code == 0 and kind != "kill" and job.name != "doctor":
        compare(ground, job.reference.after, state_of(store), f"{job.name} says that it is done")
    go_on(job, ground)
