"""Keeps files, connections and processes from a model while it encodes or decodes.

A score must depend on the code alone, so nothing else may go from the encoder to the decoder, and
the decoder may read no images. This finds accidents and simple cheats. It is no sandbox: Python
reports what Python code does (`sys.addaudithook`), not what a compiled extension does, and code
that wants to deceive can get around it. Proof is reading the model's code.
"""

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from bench.core.errors import CheckFailed

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CODE = (".py", ".pyc", ".so", ".pyd", ".dylib", ".dll")
"""What an import may read: torch imports some of its modules on first use."""
_PROCESSES = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn")
_CONNECTIONS = ("socket.", "sqlite3.connect", "urllib.", "mmap.")
_CHANGES = (
    *("os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"),
    *("os.setxattr", "os.utime", "os.chmod", "os.putenv", "shutil."),
)


class _Held(threading.local):
    """What this thread may not do; other threads of the process go on."""

    active = False
    may_read = True
    offence = ""


_held = _Held()


@contextlib.contextmanager
def sealed(who: str, may_read: bool = True) -> Iterator[None]:
    """Within it this thread can neither change files, open connections nor start processes (nor
    threads, where Python reports them: from 3.12 on), nor, unless `may_read`, open files other
    than code.

    Raises CheckFailed that begins with `who` for an attempt, also if the model hid it.
    """
    _install()
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _held.active, _held.may_read, _held.offence = True, may_read, ""
    try:
        yield
    except Exception:
        if not _held.offence:
            raise
    finally:
        _held.active = False
        sys.dont_write_bytecode = writes_bytecode
    if _held.offence:
        raise CheckFailed(f"{who} {_held.offence}: it may use nothing but images, code and weights")


@functools.cache
def _install() -> None:
    """An audit hook cannot be removed again; it does nothing outside of `sealed`."""
    sys.addaudithook(_watch)


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not _held.active:
        return
    offence = _opened(*args) if event == "open" else _done(event)
    if offence:
        _held.offence = _held.offence or offence
        # As if the file system refused: importing goes on where it cannot write.
        raise PermissionError(offence)


def _opened(path: Any, mode: str | None, flags: int) -> str:
    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else f"file {path}"
    if name == os.devnull:
        return ""
    if flags & _WRITING or set(mode or "") & set("wax+"):
        return f"opened {name} to write"
    return "" if _held.may_read or name.endswith(_CODE) else f"opened {name}"


def _done(event: str) -> str:
    if event.startswith(_PROCESSES):
        return f"started a process ({event})"
    if event.startswith("_thread.start"):
        return "started a thread"
    if event.startswith(_CONNECTIONS):
        return f"opened a connection ({event})"
    return f"changed something outside of it ({event})" if event.startswith(_CHANGES) else ""
