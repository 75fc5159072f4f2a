"""File locks of the operating system, which releases them when their holder dies."""

import contextlib
import os
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path


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
    with _open(path) as stream:
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
        yield
        return
    with stream:
        try_lock(stream.fileno(), shared=True, wait=True)
        yield


def take(path: Path) -> BufferedRandom | None:
    """The lock on `path` as an open file, or None if another process holds it.

    Free it with `release` or by closing the file. If the last holder removed the file while we
    opened it, we hold no lock: the next process would lock a new file of the same name.
    """
    stream = _open(path)
    if not try_lock(stream.fileno()) or not _is_there(stream, path):
        stream.close()
        return None
    return stream


def release(path: Path, stream: BufferedRandom) -> None:
    """Release a lock obtained from `take` and remove its file."""
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
