"""Keeps files, connections and processes from a model while it encodes or decodes.

A score must depend on the code alone, so nothing else may go from the encoder to the decoder, and
the decoder may read no images. This finds accidents and simple cheats. It is no sandbox: Python
reports what Python code does (`sys.addaudithook`), not what a compiled extension does, and code
that wants to deceive can get around it. Proof is reading the model's code.
"""

import _thread
import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from bench.core.errors import CheckFailed

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CODE = (".py", ".pyc", ".so", ".pyd", ".dylib", ".dll")
"""What an import may read: torch imports some of its modules on first use."""
_DATA = (
    *("ubyte", ".gz", ".npy", ".npz", ".csv", ".pt", ".pth", ".safetensors", ".h5", ".parquet"),
    *(".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
)
"""What no library reads when it is imported, wherever it lies."""
_SYSTEM = ("/usr/", "/lib", "/etc/", "/proc/", "/sys/", "/dev/", "/opt/", "/run/")
_OF_PEOPLE = ("/dev/shm/", "/run/user/", "/run/shm/")
"""Files in memory, which anybody may write."""
_PROCESSES = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn")
_CONNECTIONS = ("socket.", "sqlite3.connect", "urllib.", "mmap.")
_CHANGES = (
    *("os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"),
    *("os.setxattr", "os.utime", "os.chmod", "os.putenv", "shutil."),
)


Reading = Literal["everything", "code", "libraries"]
"""Which files may be opened: all; code; or code and what libraries read when they are imported."""


class _Held(threading.local):
    """What this thread may not do; other threads of the process go on."""

    active = False
    reading: Reading = "everything"
    offence = ""


_held = _Held()


@contextlib.contextmanager
def sealed(who: str, reading: Reading = "everything") -> Iterator[None]:
    """Within it this thread can neither change files, open connections nor start processes or
    threads, nor read other files than `reading` says. For "libraries", which is for an import, the
    reading alone is watched.

    Raises CheckFailed that begins with `who` for an attempt, also if the model hid it.
    """
    _install()
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _held.active, _held.reading, _held.offence = True, reading, ""
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
    """An audit hook cannot be removed again; it does nothing outside of `sealed`. Python reports
    new threads from 3.12 on only."""
    sys.addaudithook(_watch)
    if sys.version_info < (3, 12):
        start: Callable[..., int] = threading._start_new_thread  # type: ignore[attr-defined]

        def watched(*args: Any, **kwargs: Any) -> int:
            _watch("_thread.start_new_thread", ())
            return start(*args, **kwargs)

        for module in (threading, _thread):
            name = "_start_new_thread" if module is threading else "start_new_thread"
            setattr(module, name, watched)


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if not _held.active:
        return
    if event == "open":
        offence = _opened(*args)
    else:
        offence = "" if _held.reading == "libraries" else _done(event)
    if offence:
        _held.offence = _held.offence or offence
        # As if the file system refused: importing goes on where it cannot write.
        raise PermissionError(offence)


def _opened(path: Any, mode: str | None, flags: int) -> str:
    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else f"file {path}"
    if name == os.devnull:
        return ""
    if flags & _WRITING or set(mode or "") & set("wax+"):
        return "" if _held.reading == "libraries" else f"opened {name} to write"
    if _held.reading == "everything" or name.endswith(_CODE):
        return ""
    if _held.reading == "libraries" and _is_of_library(name):
        return ""
    return f"opened {name}"


def _is_of_library(name: str) -> bool:
    """Whether libraries read such files when they are imported: their own, those of the system, and
    settings and caches in hidden folders of the home folder; no images or arrays."""
    if name.startswith("file ") or name.lower().endswith(_DATA):
        return name.startswith("file ")
    path = os.path.abspath(name)  # noqa: PTH100  # links of an environment stay within it
    installed = (place for place in sys.path if place.endswith(("site-packages", "dist-packages")))
    roots = tuple(f"{root}/" for root in (sys.prefix, sys.base_prefix, *installed))
    if path.startswith(roots) or (path.startswith(_SYSTEM) and not path.startswith(_OF_PEOPLE)):
        return True
    with contextlib.suppress(ValueError, RuntimeError):
        return Path(path).relative_to(Path.home()).parts[0].startswith(".")
    return False


def _done(event: str) -> str:
    if event.startswith(_PROCESSES):
        return f"started a process ({event})"
    if event.startswith("_thread.start"):
        return "started a thread"
    if event.startswith(_CONNECTIONS):
        return f"opened a connection ({event})"
    return f"changed something outside of it ({event})" if event.startswith(_CHANGES) else ""
