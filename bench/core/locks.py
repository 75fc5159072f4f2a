"""File locks of the operating system, which releases them when their holder dies."""

import contextlib
import os
import time
from collections.abc import Iterator
from io import BufferedRandom, BufferedReader
from pathlib import Path

from bench.core.errors import BadInput


def try_lock(handle: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file; False if another process holds it. Windows has no shared locks."""
    if os.name == "nt":
        import msvcrt

        mode = "LK_LOCK" if wait else "LK_NBLCK"
        try:
            msvcrt.locking(  # type: ignore[attr-defined,unused-ignore]
                handle, getattr(msvcrt, mode), 1
            )
        except OSError:
            return False
        return True
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, kind | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock on `path` and hold it; creates the file and its folder if needed."""
    with open_lock(path) as stream:
        try_lock(stream.fileno(), wait=True)
        yield


@contextlib.contextmanager
def locked_with_others(path: Path) -> Iterator[None]:
    """Wait until nobody holds the lock on `path` alone, and let nobody take it meanwhile.

    Creates nothing: where there is no file, nobody holds it. Windows has no shared locks: there
    only one at a time holds it.
    """
    try:
        stream = path.open("rb")
    except OSError:
        stream = None
    if stream is None:
        yield
        return
    with stream:
        try_lock(stream.fileno(), shared=True, wait=True)
        yield


_used: dict[Path, BufferedRandom] = {}


def use(path: Path) -> None:
    """Say until this process ends that it works with the file `path`: see `is_unused`."""
    if os.name != "nt" and path not in _used:  # Windows does not let go of a file in use
        stream = open_lock(_users(path))
        try_lock(stream.fileno(), shared=True, wait=True)
        _used[path] = stream


@contextlib.contextmanager
def is_unused(path: Path) -> Iterator[bool]:
    """Whether no other process works with the file `path`; none can begin meanwhile."""
    ours = _used.pop(path, None)
    if ours is not None:
        ours.close()
    try:
        stream = open_lock(_users(path))
    except OSError:
        yield not is_held(_users(path))  # nothing can be written there: it is only looked at
        return
    with stream:
        free = try_lock(stream.fileno())
        if free:
            _used[path] = stream  # so that `use` within the block does not wait for us
        try:
            yield free
        finally:
            _used.pop(path, None)
    if ours is not None or free:
        use(path)


def _users(path: Path) -> Path:
    return path.with_name(f".{path.name}.users")


def take(path: Path) -> BufferedRandom | None:
    """The lock on `path` as an open file, or None if another process holds it.

    Free it with `release` or by closing the file. If the last holder removed the file while we
    opened it, we hold no lock: the next process would lock a new file of the same name.
    """
    stream = open_lock(path)
    if not try_lock(stream.fileno()) or not _is_there(stream, path):
        stream.close()
        return None
    return stream


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on `path`; changes nothing, also where nothing can be
    written."""
    try:
        stream: BufferedRandom | BufferedReader = path.open("rb+")
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        raise _is_a_folder(path) from None
    except OSError:
        stream = path.open("rb")  # not for all: some file systems lock only what may be written
    with stream:
        return not try_lock(stream.fileno())


def release(path: Path, stream: BufferedRandom) -> None:
    """Release a lock obtained from `take` and remove its file."""
    path.unlink(missing_ok=True)
    stream.close()


_ABANDONED_SECONDS = 600.0
"""The age at which a temporary name is abandoned where no lock tells."""


def claim(handle: int, path: Path) -> bool:
    """Hold the new temporary file or folder `path`, open as `handle`, until that is closed.

    False if `abandoned` was faster and it is gone. Where the file system locks no such thing, its
    age protects it.
    """
    with contextlib.suppress(OSError):
        try_lock(handle, wait=True)
    return path.exists()


@contextlib.contextmanager
def abandoned(path: Path) -> Iterator[bool]:
    """Whether the process that made a temporary file or folder is gone (see `claim`)."""
    with contextlib.ExitStack() as held:
        try:
            handle = os.open(path, os.O_RDONLY)
            held.callback(os.close, handle)
            free = _is_old(path) if os.name == "nt" else try_lock(handle)
        except OSError:
            free = _is_old(path)
        yield free


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS
    except OSError:
        return False


def open_lock(path: Path) -> BufferedRandom:
    """Open a lock file, made with its folder if needed. BadInput if it is a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return path.open("a+b")
    except IsADirectoryError:
        raise _is_a_folder(path) from None


def _is_a_folder(path: Path) -> BadInput:
    return BadInput(
        f"{path} is a folder, expected a lock file; `bench doctor --fix` moves it to "
        "mlruns/quarantine/"
    )


def _is_there(stream: BufferedRandom, path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
