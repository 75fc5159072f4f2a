"""SIGKILL at random moments: the next command goes on, and nothing is lost or mixed."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from . import forked
from .ground import Ground, Try
from .workspaces import (
    PROMOTE,
    REPRODUCE,
    RUN,
    SWEEP,
    WRITE,
    State,
    Templates,
    compare,
    doctor,
    state_of,
    temporary_names,
)


@dataclasses.dataclass(frozen=True)
class Job:
    """A command, the workspace that it changes, and what it makes of it."""

    name: str
    arguments: tuple[str, ...]
    template: Path

    @functools.cached_property
    def reference(self) -> tuple[State, State, float]:
        """The workspace before and after the command, and the seconds that it takes."""
        import shutil
        import tempfile

        from bench.core.store import Store

        folder = Path(tempfile.mkdtemp(dir=self.template.parent, prefix=f"{self.name}-"))
        seconds = []
        for number in range(2):
            store = Store(folder / str(number))
            shutil.copytree(self.template, store.root)
            before = state_of(store)
            said = forked.Running(self.work(), store.root).wait()
            assert said.code == 0, said.text
            seconds.append(said.seconds)
        return before, state_of(store), min(seconds)

    def work(self, prepare: Callable[[], object] = lambda: None) -> Callable[[], int]:
        """The command as work of a process; `prepare` is called before it."""

        def ready() -> None:
            if self.name == "reproduce":
                origins()
            prepare()

        return forked.command(self.arguments, ready)


def origins() -> None:
    """The origin of these workspaces in the place of the shipped ones, which take hours."""
    from bench.benchmark import reproduction
    from bench.core.protocol import load_protocol

    reproduction.origin_protocols = lambda: [load_protocol("origin.toml")]


def jobs(templates: Templates) -> list[Job]:
    """The commands that change a workspace."""
    return [
        Job("run", RUN, templates.empty),
        Job("sweep", SWEEP, templates.empty),
        Job("reproduce", REPRODUCE, templates.empty),
        Job("write", WRITE, templates.ran),
        Job("promote", PROMOTE, templates.challenged),
        Job("rollback", ("registry", "rollback", templates.track), templates.replaced),
    ]


def tries(templates: Templates, each: int) -> Iterator[Try]:
    """`each` kills of every command."""
    for job in jobs(templates):
        job.reference  # noqa: B018  (made once, before the processes that use it)
        for number in range(each):
            yield Try(f"kills/{job.name}/{number}", functools.partial(kill, job))


def kill(job: Job, ground: Ground) -> None:
    """Kill the command, its whole group or one of its workers, then repeat it."""
    _, _, seconds = job.reference
    store = ground.copy(job.template)
    victim = ground.dice.choice(["head", "head", "group", "worker"])
    moment = ground.dice.uniform(0, seconds)
    running = forked.Running(job.work(), store.root)
    time.sleep(moment)
    if victim == "worker":
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            psutil.Process(running.pid).children()[0].kill()
        ground.heed(running.wait(), f"{job.name} after its worker was killed")
    else:
        running.kill(group=victim == "group")
        running.wait()
    if names := temporary_names(store, committed=True):
        ground.fault("left behind", f"in the committed folder: {', '.join(names[:5])}")
    go_on(job, ground)


def go_on(job: Job, ground: Ground) -> None:
    """Repeat the command; the workspace is then the one that was never killed."""
    from bench.core.store import Store

    before, after, _ = job.reference
    store = Store(ground.folder / "home")
    if job.name == "rollback":
        # It is its own reverse: it is repeated only where it was not made.
        doctor(ground, store)
        if state_of(store) == after:
            return
        compare(ground, before, state_of(store), "neither before nor after the rollback")
    ground.heed(forked.Running(job.work(), store.root).wait(), f"{job.name} again")
    doctor(ground, store)
    compare(ground, after, state_of(store), f"after {job.name} again")
