"""SIGKILL at random moments: the next command goes on, and nothing is lost or mixed."""

import contextlib
import functools
import time
from collections.abc import Iterator

import psutil

from bench.core.store import Store

from .ground import Ground, Try
from .jobs import Job, commands, jobs, nothing
from .workspaces import (
    Templates,
    compare,
    doctor,
    look_at_mlflow,
    state_of,
    temporary_names,
)


def tries(templates: Templates, each: int, every: int = 1) -> Iterator[Try]:
    """`each` kills of every command (or every so many) that makes results or changes the registry,
    half as many of those that tell a live MLflow store."""
    for job in jobs(templates)[::every]:
        for number in range(each) if job.name != "doctor" else ():
            yield Try(f"kills/{job.name}/{number}", functools.partial(kill, job))
    for name, template in (("run", templates.empty), ("sync", templates.ran)):
        job = Job(name, commands(templates)[name], template, live=True)
        for number in range(each // 2):
            yield Try(f"kills/{name} beside MLflow/{number}", functools.partial(kill, job))


def kill(job: Job, ground: Ground) -> None:
    """Kill the command, its whole group or one of its workers, then repeat it."""
    store = ground.copy(job.template)
    victim = ground.dice.choice(["head", "head", "group", "worker"])
    moment = ground.dice.uniform(0, job.reference.seconds)
    running = job.start(nothing, store)
    time.sleep(moment)
    if victim == "worker":
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            psutil.Process(running.pid).children()[0].kill()
        ground.heed(running.wait(), f"{job.name} after its worker was killed")
    else:
        running.kill(group=victim == "group")
        running.wait()
    look_at_committed(ground, store)
    go_on(job, ground)
    if job.live:
        look_at_mlflow(ground, store)


def look_at_committed(ground: Ground, store: Store) -> None:
    """Nothing temporary is ever in the committed folder."""
    if names := temporary_names(store, committed=True):
        ground.fault("left behind", f"in the committed folder: {', '.join(names[:5])}")


def go_on(job: Job, ground: Ground) -> None:
    """Repeat the command; the workspace is then the one that was never disturbed."""
    reference = job.reference
    store = Store(ground.folder / "home")
    if job.name == "rollback":
        # It is its own reverse: it is repeated only where it was not made.
        doctor(ground, store, job.environment)
        if state_of(store) == reference.after:
            return
        compare(ground, reference.before, state_of(store), "neither before nor after the rollback")
    ground.heed(job.start(nothing, store).wait(), f"{job.name} again")
    doctor(ground, store, job.environment)
    compare(ground, reference.after, state_of(store), f"after {job.name} again")
