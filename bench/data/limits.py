"""Safe reading of untrusted files: bounded, in chunks, refused before memory runs out."""

import contextlib
import gzip
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import psutil
from numpy.typing import NDArray

from bench.core.errors import BadInput

Stream = IO[bytes] | gzip.GzipFile

COPIES = 2
"""How often a process holds a data set: whole, and as drawn parts (see `split.split_set`)."""
_CHUNK = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate cannot do better than 1032 to 1 (zlib's technical notes); a larger claim is false.
MOST_DEFLATED = 1040


def human_size(count: float) -> str:
    """Bytes in a readable unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def reason_of(error: BaseException | str) -> str:
    """An error's message as a short line: some libraries quote the whole file."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return textwrap.shorten(text.encode("utf-8", "replace").decode(), 160, placeholder=" ...")


def refuse_if_too_large(where: str, count: int, workers: int = 0) -> None:
    """Raise BadInput if images of `count` bytes do not fit into the memory that is free now.

    Each process holds them COPIES times: as they were read, and as drawn parts. `workers`: how many
    processes will do so, besides this one, which has them already; 0: this one alone. A set that is
    too large is refused, with its size, before the machine starts to swap.
    """
    free = psutil.virtual_memory().available
    processes = workers or 1
    if count * COPIES * processes <= free:
        return
    most = human_size(free // (COPIES * processes))
    if not workers:
        raise BadInput(
            f"{where}: needs {human_size(count)} of memory once decoded, but only {most} may be "
            "used here (half of what is free: the drawn parts need the other); use fewer or "
            "smaller images, or a machine with more memory"
        )
    fewer = int(free // (count * COPIES))
    raise BadInput(
        f"{where}: {workers} workers need {human_size(count * COPIES * workers)} of memory for the "
        f"images ({human_size(count)} {COPIES} times in each), {human_size(free)} is free; "
        + (f"use --workers {fewer}" if fewer else "use fewer or smaller images")
    )


def regular_file(path: Path, what: str) -> Path:
    """Return `path` if it is a file that can be read to its end; BadInput otherwise."""
    try:
        if path.is_dir():
            raise BadInput(f"{path}: is a folder; expected {what}")
        if not path.exists():
            raise BadInput(f"{path}: no such file; expected {what}")
        if not path.is_file():
            raise BadInput(f"{path}: is not a regular file; expected {what}")
        with path.open("rb"):
            return path
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {reason_of(error)}") from None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """Open a file for reading; gzip is detected by its first bytes, not its name.

    Damage found while reading is a BadInput that names the file.
    """
    regular_file(path, "an IDX file")
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield stream
            else:
                yield raw
    except EOFError:
        raise BadInput(
            f"{path}: the gzip file is truncated (it ends too early); get the file again"
        ) from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(
            f"{path}: the gzip file is damaged ({reason_of(error)}); get the file again"
        ) from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {reason_of(error)}") from None


def most_that_can_be_in(path: Path) -> int:
    """Upper bound of the bytes that a file can hold, after decompression if it is gzip."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        return size * MOST_DEFLATED if raw.read(2) == _GZIP_MAGIC else size


def read_exactly(stream: Stream, count: int, path: Path) -> NDArray[np.uint8]:
    """Read the `count` bytes that remain in a stream; BadInput if there are fewer or more."""
    content = np.empty(count, np.uint8)
    done = 0
    while done < count:
        chunk = stream.read(min(_CHUNK, count - done))
        if not chunk:
            raise BadInput(
                f"{path}: truncated: the header promises {count:,} bytes of values, the file holds "
                f"{done:,}; get the file again"
            )
        content[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        done += len(chunk)
    if stream.read(1):
        raise BadInput(
            f"{path}: holds more than the {count:,} bytes of values that its header promises; "
            "it is not the file that it claims to be"
        )
    return content
