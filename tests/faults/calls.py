"""The changing calls of a command: counted, or failing at the N-th.

The calls are counted over the command and its worker. Disk full lasts: from the N-th on every
call that needs room fails. An I/O error is met once.
"""

import builtins
import contextlib
import errno
import functools
import io
import mmap
import os
import signal
import sqlite3
import struct
from collections.abc import Callable
from typing import Any

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

    @property
    def count(self) -> int:
        """How many were made so far."""
        return int(struct.unpack("q", self._memory[:8])[0])

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
