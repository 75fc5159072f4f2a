"""Every changing call of a command fails at its N-th: disk full, an I/O error, a kill.

The calls are counted over the command and its worker. Disk full lasts: from the N-th on every
call that needs room fails. An I/O error is met once.
"""

import builtins
import contextlib
import dataclasses
import errno
import functools
import io
import mmap
import os
import signal
import sqlite3
import struct
from collections.abc import Callable, Iterator
from typing import Any

from . import forked
from .ground import Ground, Try
from .kills import Job, go_on, jobs
from .workspaces import DOCTOR, Templates, compare, state_of, temporary_names

KINDS = ("full", "broken", "kill")
_ROOM = ("write", "fsync", "mkdir", "link", "symlink", "open", "commit")
"""The calls that fail on a full disk; renaming and removing need no room."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Calls:
    """The changing calls below a folder: counted, and failed as asked.

    The counter is shared by the processes that are forked later.
    """

    def __init__(self, kind: str = "", at: int = 0, below: str = "") -> None:
        self._kind, self._at, self._below = kind, at, below
        self._memory = mmap.mmap(-1, 16)
        self.log: list[str] = []

    @property
    def count(self) -> int:
        """How many were made so far."""
        return int(struct.unpack("q", self._memory[:8])[0])

    @property
    def met(self) -> bool:
        """Whether the command came to the call that fails."""
        return self._at <= self.count

    def made(self, call: str, path: object) -> None:
        """One more call; raises or kills if it is the one to fail."""
        if isinstance(path, str | os.PathLike) and not _is_below(path, self._below):
            return
        number = self.count + 1
        self._memory[:8] = struct.pack("q", number)
        if not self._kind or number < self._at:
            return
        if self._kind == "full":
            if call in _ROOM:
                raise _error(errno.ENOSPC, call, path)
        elif number == self._at:
            if self._kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise _error(errno.EIO, call, path)

    def patch(self) -> None:
        """Count the calls of this process and of those that it forks."""
        for name in ("replace", "rename", "link", "symlink", "mkdir", "unlink", "remove", "rmdir"):
            setattr(os, name, self._counting(getattr(os, name), name, 0))
        os.fsync = self._counting(os.fsync, "fsync", None)
        os.open = self._opening(os.open, lambda mode: bool(mode & _WRITES), os.O_RDONLY)
        opened = self._opening(io.open, lambda mode: bool(set(mode) & set("wax+")), "r")
        builtins.open = io.open = self._writing(opened)
        self._patch_sqlite()

    def _counting(self, call: Callable[..., Any], name: str, place: int | None) -> Any:
        @functools.wraps(call)
        def counted(*arguments: Any, **more: Any) -> Any:
            path = None if place is None else arguments[place]
            # Relative to an open folder: that folder is of ours.
            self.made(name, None if more.get("dir_fd") is not None else path)
            return call(*arguments, **more)

        return counted

    def _opening(self, call: Callable[..., Any], changes: Callable[[Any], bool], mode: Any) -> Any:
        @functools.wraps(call)
        def counted(file: Any, given: Any = mode, *rest: Any, **more: Any) -> Any:
            given = more.pop("mode" if isinstance(mode, str) else "flags", given)
            if changes(given) and isinstance(file, str | os.PathLike):
                self.made("open", None if more.get("dir_fd") is not None else file)
            return call(file, given, *rest, **more)

        return counted

    def _writing(self, call: Callable[..., Any]) -> Any:
        @functools.wraps(call)
        def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            stream = call(file, mode, *rest, **more)
            ours = (isinstance(file, int) and file > 2) or str(file).startswith(self._below)
            if set(mode) & set("wax+") and ours and more.get("buffering", 1) != 0:
                with contextlib.suppress(AttributeError):
                    stream.write = self._counting(stream.write, "write", None)
            return stream

        return opened

    def _patch_sqlite(self) -> None:
        calls = self

        class Counted(sqlite3.Connection):
            def commit(self) -> None:
                if self.in_transaction:
                    try:
                        calls.made("commit", None)
                    except OSError as error:
                        full = error.errno == errno.ENOSPC
                        text = "database or disk is full" if full else "disk I/O error"
                        raise sqlite3.OperationalError(text) from None
                super().commit()

        connect = sqlite3.dbapi2.connect

        def connected(*arguments: Any, **more: Any) -> Any:
            return connect(*arguments, **{"factory": Counted, **more})

        sqlite3.connect = sqlite3.dbapi2.connect = connected


def _is_below(path: str | os.PathLike[str], folder: str) -> bool:
    """Links are not followed, and nothing is looked up: this is called within other calls."""
    return os.path.abspath(path).startswith(folder)  # noqa: PTH100


def _error(number: int, call: str, path: object) -> OSError:
    text = os.strerror(number)
    return OSError(number, text) if path is None else OSError(number, text, os.fspath(path))  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Counted:
    """A command and the number of its changing calls."""

    job: Job
    calls: int


def counted(job: Job, ground_folder: str) -> int:
    """How many changing calls the command makes."""
    import shutil
    import tempfile
    from pathlib import Path

    from bench.core.store import Store

    store = Store(Path(tempfile.mkdtemp(dir=ground_folder)) / "home")
    shutil.copytree(job.template, store.root)
    calls = Calls(below=str(store.root))
    said = forked.Running(job.work(calls.patch), store.root).wait()
    assert said.code == 0, said.text
    return calls.count


def tries(templates: Templates, each: int) -> Iterator[Try]:
    """Up to `each` places of every command, spread over all of its calls, for each kind."""
    for job in [*jobs(templates), *_others(templates)]:
        total = counted(job, str(templates.empty.parent))
        places = range(1, total + 1)
        for kind_number, kind in enumerate(KINDS):
            step = max(1, -(-total // each))
            for number in places[(kind_number * step // len(KINDS)) :: step]:
                yield Try(
                    f"calls/{job.name}/{kind}-{number}",
                    functools.partial(fail, job, kind, number),
                )


def _others(templates: Templates) -> list[Job]:
    return [Job("doctor", DOCTOR, templates.promoted)]


def fail(job: Job, kind: str, number: int, ground: Ground) -> None:
    """Fail the `number`-th call, then repeat the command."""
    _, after, _ = job.reference
    store = ground.copy(job.template)
    calls = Calls(kind, number, str(store.root))
    said = forked.Running(job.work(calls.patch), store.root).wait()
    if kind != "kill":
        ground.heed(said, f"{job.name} with call {number} failing", (0, 2))
    elif said.code not in (0, -9):
        ground.heed(said, f"{job.name} killed at call {number}", (-9,))
    if names := temporary_names(store, committed=True):
        ground.fault("left behind", f"in the committed folder: {', '.join(names[:5])}")
    if said.code == 0 and kind != "kill" and job.name != "doctor":
        compare(ground, after, state_of(store), f"{job.name} says that it was done")
    go_on(job, ground)
