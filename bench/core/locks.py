"""Locks on files. They are the operating system's: it gives them back when their holder dies."""

import contextlib
import os
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path


def try_lock(handle: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file; False where another holder has it. Windows has no shared locks."""
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
    """Wait for the lock on `path` and hold it; the file and its folder are made if needed."""
    with _open(path) as stream:
        try_lock(stream.fileno(), wait=True)
        yield


def take(path: Path) -> BufferedRandom | None:
    """The lock on `path` as an open file, or None where another holder has it.

    It ends with `release`, or when the file is closed. A file that its last holder removed while
    we opened it is not the lock: whoever comes next would lock a new file beside ours.
    """
    stream = _open(path)
    if not try_lock(stream.fileno()) or not _is_there(stream, path):
        stream.close()
        return None
    return stream


def release(path: Path, stream: BufferedRandom) -> None:
    """Give back a lock that `take` gave, and remove its file."""
    path.unlink(missing_ok=True)
    stream.close()


def _open(path: Path) -> BufferedRandom:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+b")


def _is_there(stream: BufferedRandom, path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False
