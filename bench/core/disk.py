"""Failures of the disk: full, read-only, not permitted. One line says what to do."""

import contextlib
import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from bench.core.errors import BadInput

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
"""The system's errors behind SQLite's primary result codes."""
_FROM_RUST = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust, such as safetensors, end the text of an error of the system."""


class StorageFailed(BadInput):
    """The disk takes no more: whatever is trained now would be lost."""


class NotWritten(OSError):
    """A file that could not be written; `needed`: its bytes, 0 if unknown."""

    needed = 0

    @classmethod
    def of(cls, error: OSError, path: Path, needed: int = 0) -> "NotWritten":
        """The same failure, of the file that was meant instead of a temporary one."""
        made = cls(error.errno, error.strerror or str(error), str(path))
        made.needed = getattr(error, "needed", 0) or needed
        return made


def is_of_storage(error: OSError) -> bool:
    """Whether every further write would fail as well: disk full, read-only, not permitted, I/O."""
    if error.errno in _CLOSED[:2]:
        return isinstance(error, NotWritten)  # else a file that we may not read
    return error.errno in (*_FULL, *_CLOSED, errno.EFBIG, errno.EIO)


def failure_behind(error: BaseException) -> OSError | None:
    """The failure of the disk that made a library raise `error`, if that is its cause.

    Knows OSErrors, SQLite's errors, what SQLAlchemy, Optuna and MLflow raise from them, and the
    texts of libraries in Rust (safetensors).
    """
    seen: list[BaseException | None] = [None]
    cause: BaseException | None = error
    while cause not in seen:
        assert cause is not None
        seen.append(cause)
        found = _as_os_error(cause)
        if found is not None and is_of_storage(found):
            return found
        cause = getattr(cause, "orig", None) or cause.__cause__
    return None


def _as_os_error(error: BaseException) -> OSError | None:
    if isinstance(error, OSError):
        return error
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        number = None if code is None else _SQLITE.get(code & 0xFF)
        return None if number is None else NotWritten(number, str(error))
    if type(error).__name__ == "SafetensorError" and (told := _FROM_RUST.search(str(error))):
        return NotWritten(int(told[1]), os.strerror(int(told[1])))
    return None


def storage_failed(
    error: OSError, doing: str, folder: Path, needed: int = 0, setting: str = "BENCH_HOME"
) -> StorageFailed:
    """One line for an OSError of a write.

    `doing` completes "cannot"; `folder` is where, unless the error names a file; `needed`: bytes
    to be written, 0 if unknown; `setting`: the variable that chooses another folder.
    """
    place = Path(error.filename) if isinstance(error.filename, str) else folder
    reason = error.strerror or str(error) or type(error).__name__
    needed = getattr(error, "needed", 0) or needed
    if error.errno in _FULL:
        wanted = f"{needed:,} bytes needed, " if needed else ""
        what = "remove files from" if _has_no_file_left(place) else "free space on"
        advice = f"{wanted}{_free(place):,} free; {what} {_standing(place)}, or set {setting}"
    elif error.errno == errno.EFBIG:
        wanted = f"{needed:,} bytes needed; " if needed else ""
        advice = f"{wanted}raise the limit of a file's size (`ulimit -f`)"
    elif error.errno in _CLOSED:
        advice = f"make {_standing(place)} writable, or set {setting} to a folder that is"
    else:
        advice = f"check the disk, or set {setting} to a folder on another one"
    return StorageFailed(f"cannot {doing} at {place}: {reason}; {advice}")


@contextlib.contextmanager
def naming(path: Path, needed: int = 0) -> Iterator[None]:
    """Raise NotWritten for `path` in the place of an OSError under its temporary name."""
    try:
        yield
    except OSError as error:
        raise NotWritten.of(error, path, needed) from None


def _standing(place: Path) -> Path:
    """The nearest folder that exists, `place` itself or above it."""
    for folder in (place, *place.absolute().parents):
        with contextlib.suppress(OSError):
            if folder.is_dir():
                return folder
    return Path(place.anchor or ".")


def _free(place: Path) -> int:
    return shutil.disk_usage(_standing(place)).free


def _has_no_file_left(place: Path) -> bool:
    """Whether the disk is out of files (inodes) rather than of bytes."""
    if not hasattr(os, "statvfs"):
        return False
    told = os.statvfs(_standing(place))
    return told.f_files > 0 and told.f_favail == 0


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise StorageFailed if fewer than `needed` bytes are free where `folder` is."""
    if _free(folder) < needed:
        raise storage_failed(
            OSError(errno.ENOSPC, "not enough space on the disk"), f"store {what}", folder, needed
        )
