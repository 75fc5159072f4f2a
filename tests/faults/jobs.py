"""The commands that change a workspace, and what each makes of its template."""

import contextlib
import dataclasses
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from bench.core.store import Store

from . import forked
from .calls import Calls
from .workspaces import (
    DOCTOR,
    LIGHT,
    LIVE,
    PROMOTE,
    REPRODUCE,
    RUN,
    SWEEP,
    SYNC,
    WRITE,
    State,
    Templates,
    state_of,
)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Reference:
    """A workspace before and after a command that nothing disturbed, the seconds that it took and
    the number of its changing calls."""

    before: State
    after: State
    seconds: float
    calls: int


@dataclasses.dataclass(frozen=True)
class Job:
    """A command and the workspace that it changes; `live`: beside the workspace's own MLflow store,
    where the others know a server that does not answer."""

    name: str
    arguments: tuple[str, ...]
    template: Path
    live: bool = False

    @property
    def environment(self) -> Mapping[str, str]:
        """What the command finds in its environment."""
        return LIVE if self.live else {}

    @property
    def reference(self) -> Reference:
        """Made once, by the first process that needs it."""
        kind = "live reference" if self.live else "reference"
        return remembered(self.template, f"{self.name} {kind}", self._measured)

    def start(self, prepare: Callable[[], object], store: Store) -> forked.Running:
        """The command in a process of its own."""
        return forked.Running(self.work(prepare), store.root, self.environment)

    def work(self, prepare: Callable[[], object]) -> Callable[[], int]:
        """The command as work of a process; `prepare` is called before it."""

        def ready() -> None:
            if self.name == "reproduce":
                origins()
            if self.name == "doctor":
                os.environ.update(LIGHT)  # a server that does not answer is a finding
            prepare()

        return forked.command(self.arguments, ready)

    def _measured(self) -> Reference:
        with copied(self.template) as store:
            before = state_of(store)
            calls = Calls(below=str(store.root))
            said = self.start(calls.patch, store).wait(600)
            if said.code != 0:
                raise RuntimeError(f"{self.name} fails undisturbed: {said.text}")
            return Reference(before, state_of(store), said.seconds, calls.count)


def nothing() -> None:
    """What most commands need before they begin."""


def remembered(template: Path, name: str, work: Callable[[], T]) -> T:
    """What `work` returns, kept in a file beside the template."""
    path = template.parent / f"{template.name} {name}"
    if not path.exists():
        building = path.with_name(f"{path.name} {os.getpid()}")
        building.write_bytes(pickle.dumps(work()))
        building.replace(path)
    found: T = pickle.loads(path.read_bytes())
    return found


@contextlib.contextmanager
def copied(template: Path) -> Iterator[Store]:
    """A copy of a template, removed at the end."""
    with tempfile.TemporaryDirectory(dir=template.parent) as folder:
        store = Store(Path(folder) / "home")
        shutil.copytree(template, store.root)
        yield store


def origins() -> None:
    """The origin of these workspaces in the place of the shipped ones, which take hours."""
    from bench.benchmark import reproduction
    from bench.core.protocol import load_protocol

    vars(reproduction)["origin_protocols"] = lambda: [load_protocol("origin.toml")]


def commands(templates: Templates) -> dict[str, tuple[str, ...]]:
    """The arguments of each command by its name."""
    return {
        "run": RUN,
        "sweep": SWEEP,
        "reproduce": REPRODUCE,
        "write": WRITE,
        "promote": PROMOTE,
        "rollback": ("registry", "rollback", templates.track),
        "doctor": DOCTOR,
        "sync": SYNC,
    }


def jobs(templates: Templates) -> list[Job]:
    """Each command with a workspace in which it has something to do."""
    places = {
        **dict.fromkeys(("run", "sweep", "reproduce"), templates.empty),
        "write": templates.grown,
        "promote": templates.challenged,
        "rollback": templates.replaced,
        "doctor": templates.promoted,
    }
    return [Job(name, commands(templates)[name], place) for name, place in places.items()]
