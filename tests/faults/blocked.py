"""Folders in the place of lock files: one line says so, the doctor moves them away, and the command
goes on as if nothing had happened."""

import functools
from collections.abc import Iterator

from .ground import Ground, Try
from .jobs import Job, jobs, nothing
from .kills import go_on, look_at_committed
from .workspaces import Templates, doctor

_REGISTRY = ("locks/registry.lock", "locks/registry.parts.lock")


def tries(templates: Templates, every: int = 1) -> Iterator[Try]:
    """Each lock (or every so many) of each command."""
    (study,) = (path.name for path in (templates.searched / "mlruns/studies").iterdir())
    runs = [f"locks/{path.name}.lock" for path in sorted(templates.ran.glob("mlruns/records/*"))]
    used = {
        **dict.fromkeys(("write", "promote", "rollback"), _REGISTRY),
        "run": tuple(runs),
        "sweep": (f"studies/{study}/head.lock", ".optuna.db.users", ".optuna.db.lock"),
    }
    found = [(job, name) for job in jobs(templates) for name in used.get(job.name, ())]
    for number, (job, name) in list(enumerate(found))[::every]:
        yield Try(f"blocked/{job.name}/{number}", functools.partial(block, job, name))


def block(job: Job, name: str, ground: Ground) -> None:
    """Put a folder with a file in the place of the lock, then give the command."""
    store = ground.copy(job.template)
    path = store.mlruns / name
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)
    (path / "something").touch()
    said = job.start(nothing, store).wait()
    ground.heed(said, f"{job.name} with a folder at {name}", (0, 2))
    look_at_committed(ground, store)
    doctor(ground, store, job.environment)
    if path.is_dir():
        ground.fault("left behind", f"after doctor: the folder at {name}")
    if job.name != "rollback" or said.code != 0:
        go_on(job, ground)
