"""Failures of the disk: full, read-only, not permitted. One line says what to do."""

import contextlib
import errno
import shutil
from pathlib import Path

from bench.core.errors import BadInput

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class StorageFailed(BadInput):
    """The disk takes no more: whatever is trained now would be lost."""


def is_of_storage(error: OSError) -> bool:
    """Whether every further write would fail as well: disk full, read-only, not permitted, I/O."""
    return error.errno in (*_FULL, *_CLOSED, errno.EIO)


def storage_failed(error: OSError, doing: str, folder: Path, needed: int = 0) -> StorageFailed:
    """One line for an OSError of a write.

    `doing` completes "cannot"; `folder` is where, unless the error names a file; `needed`: bytes
    to be written, 0 if unknown.
    """
    place = Path(error.filename) if isinstance(error.filename, str) else folder
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        wanted = f"{needed:,} bytes needed, " if needed else ""
        advice = (
            f"{wanted}{_free(place):,} free; free space on {_standing(place)}, or set BENCH_HOME"
        )
    elif error.errno in _CLOSED:
        advice = f"make {_standing(place)} writable, or set BENCH_HOME to a folder that is"
    else:
        advice = "check the disk, or set BENCH_HOME to a folder on another one"
    return StorageFailed(f"cannot {doing} at {place}: {reason}; {advice}")


def _standing(place: Path) -> Path:
    """The nearest folder that exists, `place` itself or above it."""
    for folder in (place, *place.absolute().parents):
        with contextlib.suppress(OSError):
            if folder.is_dir():
                return folder
    return Path(place.anchor or ".")


def _free(place: Path) -> int:
    return shutil.disk_usage(_standing(place)).free


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise StorageFailed if fewer than `needed` bytes are free where `folder` is."""
    if _free(folder) < needed:
        raise storage_failed(
            OSError(errno.ENOSPC, "not enough space on the disk"), f"store {what}", folder, needed
        )
