"""Two commands that change the same files begin at the same moment: one of them came first."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.core.store import Store

from . import forked
from .ground import Ground, Try
from .jobs import Job, commands, copied, nothing, remembered
from .workspaces import (
    WRITE,
    State,
    Templates,
    compare,
    doctor,
    look_at_mlflow,
    state_of,
)

PAIRS = (
    *(("run", "run"), ("run", "sweep"), ("run", "reproduce"), ("run", "write"), ("run", "doctor")),
    *(("sweep", "sweep"), ("sweep", "doctor"), ("sweep", "write"), ("reproduce", "reproduce")),
    *(("promote", "promote"), ("promote", "write"), ("promote", "rollback"), ("promote", "doctor")),
    *(("rollback", "rollback"), ("rollback", "write"), ("rollback", "doctor"), ("write", "write")),
    *(("write", "doctor"), ("doctor", "doctor")),
)
"""Those that share files: records, checkpoints and locks of runs; a study; the registry."""
LIVE_PAIRS = (
    ("run", "sync"),
    ("sweep", "sync"),
    ("promote", "sync"),
    ("sync", "sync"),
    ("sync", "doctor"),
)
"""Those that share MLflow's store; half as many races, since each run is drawn and told."""
READ = (("promote", "rollback", "write"), "reader")


def template_of(templates: Templates, pair: tuple[str, str]) -> Path:
    """A workspace in which both have something to do."""
    if "rollback" in pair:
        return templates.replaced
    if "promote" in pair:
        return templates.challenged
    if "run" in pair or "sweep" in pair or "reproduce" in pair:
        return templates.empty
    return templates.ran


def tries(templates: Templates, each: int, every: int = 1) -> Iterator[Try]:
    """`each` races of every pair (or every so many), and of each writer of the registry with a
    reader."""
    for pair in (*PAIRS[::every], *LIVE_PAIRS):
        live = pair in LIVE_PAIRS
        place = template_of(templates, pair)
        jobs = [Job(name, commands(templates)[name], place, live) for name in pair]
        for number in range(each // 2 if live else each):
            yield Try(f"races/{' and '.join(pair)}/{number}", functools.partial(race, jobs))
    for name in READ[0]:
        template = templates.grown if name == "write" else template_of(templates, (name, name))
        job = Job(name, commands(templates)[name], template)
        for number in range(each):
            yield Try(f"races/{name} and reader/{number}", functools.partial(read, job))


def _ends(jobs: list[Job]) -> list[State]:
    """The workspace after the two commands in either order."""
    ends = []
    for order in itertools.permutations(jobs):
        with copied(jobs[0].template) as store:
            for job in order:
                job.start(nothing, store).wait()
            ends.append(state_of(store))
    return ends


def race(jobs: list[Job], ground: Ground) -> None:
    """Both at once; the end is one of those of one after the other."""
    name = f"{' and '.join(job.name for job in jobs)} ends"
    ends = remembered(jobs[0].template, name, functools.partial(_ends, jobs))
    store = ground.copy(jobs[0].template)
    works = [job.work(nothing) for job in jobs]
    ended = forked.at_once(works, store.root, jobs[0].environment)
    for job, said in zip(jobs, ended, strict=True):
        ground.heed(said, f"{job.name} beside {' and '.join(job.name for job in jobs)}")
    doctor(ground, store, jobs[0].environment)
    if jobs[0].live:
        look_at_mlflow(ground, store)
    found = state_of(store)
    if found in ends:
        return
    if "write" in (job.name for job in jobs) and jobs[0].template.name == "empty":
        # The tables hold the runs that were there: writing them again adds the others.
        ground.heed(forked.bench(store.root, *WRITE), "write again")
        found = _without_tables(state_of(store))
        ends = [_without_tables(end) for end in ends]
    if found not in ends:
        compare(ground, ends[0], found, "neither end")


def _without_tables(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("file ")}


def read(job: Job, ground: Ground) -> None:
    """Read the champion again and again while the command runs."""
    store = ground.copy(job.template)
    done = ground.folder / "done"
    process = forked.Running(_reading(store, done), store.root)
    ground.heed(job.start(nothing, store).wait(), f"{job.name} beside a reader")
    done.touch()
    said = process.wait()
    if said.code != 0:
        ground.fault("mixed", f"a reader beside {job.name}: {said.text}")


def _reading(store: Store, done: Path) -> Callable[[], int]:
    def look() -> int:
        from bench.core.errors import BenchError
        from bench.registry import publishing
        from bench.registry.champions import describe_champions

        had = len(describe_champions(store))
        looks = 0
        while not done.exists() or looks < 3:
            looks += 1
            try:
                found = len(describe_champions(store))
                publishing.check(store)
            except BenchError as error:
                print(f"look {looks}: {error}")
                return 3
            if found != had:
                print(f"look {looks}: {found} champions of {had}")
                return 3
        return 0

    return look
