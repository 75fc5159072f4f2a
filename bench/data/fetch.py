"""Put a known set into the cache folder, from the user's files or by torchvision's download.

The set is decoded, verified against its row, written to a temporary folder and renamed, so
that the cache never holds a partial or unverified set.
"""

import contextlib
import http.client
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.disk import failure_behind
from bench.core.errors import BadInput
from bench.core.paths import given_path
from bench.core.spec import Part
from bench.core.store import sync_folder, write_atomically, writing_to
from bench.data.content import ImageSet, LabelledImages
from bench.data.csv_file import read_csv
from bench.data.idx import encode_part
from bench.data.known import cache_folder, find_idx, image_set, read_found, verify
from bench.data.limits import reason_of
from bench.data.npz_file import read_npz
from bench.data.table import DATASETS, Dataset

_SILENCE = 30.0  # seconds without a byte after which a download has failed


def fetch(name: str, source: Path | None = None) -> Path:
    """Put a known set into the cache folder and return the folder that holds it.

    `source` is a folder with IDX files (plain or gzip, also in torchvision's layout) or with a
    pair of CSV files with `train` and `test` in their names, or an NPZ file; None means download.
    Raises BadInput, with the cache unchanged, if there is nothing to read, if it is another set,
    if the download fails or the cache cannot be written.
    """
    if name not in DATASETS:
        raise DATASETS.missing(name)
    row = DATASETS[name]
    if row.bundled:
        raise BadInput(f"{name} comes with the package; there is nothing to fetch")
    if source is None and row.torchvision is None:
        raise BadInput(
            f"{name} has no download; give its files (IDX, CSV or NPZ): bench data fetch {name} "
            "--from DIR"
        )
    given = None if source is None else _read_source(row, given_path(str(source), "--from"))
    with _workspace(row) as folder:
        return _store(row, given or _download(row, folder), folder)


@contextlib.contextmanager
def _workspace(row: Dataset) -> Iterator[Path]:
    """A temporary folder next to the set's; turns write errors into one clear line."""
    with writing_to("the data cache", cache_folder(), "BENCH_DATA"):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f".{row.id}.") as folder:
            yield Path(folder)


def _store(row: Dataset, images: ImageSet, folder: Path) -> Path:
    """Write plain IDX files, which load faster than gzip, and move them into place."""
    new, place = folder / "new", cache_folder() / row.id
    new.mkdir()
    for part, content in images.parts.items():
        for name, data in encode_part(part, content).items():
            write_atomically(new / name, data)
    if place.exists():
        place.rename(folder / "old")
    new.rename(place)
    sync_folder(place.parent)
    return place


def _read_source(row: Dataset, source: Path) -> ImageSet:
    """A verified set from the files at `source`."""
    if not source.exists():
        raise BadInput(f"{source}: no such file or folder")
    if source.is_file() and source.suffix.lower() == ".npz":
        return _from_npz(row, source)
    if source.is_dir():
        found = find_idx(row, source)
        if found is not None:
            return read_found(row, found)
        files = sorted(source.iterdir())
        tables = [path for path in files if path.suffix.lower() == ".csv"]
        if tables:
            return _from_csv_pair(row, source, tables)
        archives = [path for path in files if path.suffix.lower() == ".npz"]
        if len(archives) == 1:
            return _from_npz(row, archives[0])
    raise BadInput(
        f"{source}: holds no files of {row.id}; expected IDX files (train-images-idx3-ubyte and "
        "so on, also .gz), two CSV files (*train*.csv and *test*.csv), or one NPZ file"
    )


def _from_csv_pair(row: Dataset, folder: Path, tables: list[Path]) -> ImageSet:
    parts: dict[Part, LabelledImages] = {}
    for part in row.counts:
        named = [path for path in tables if part in path.name.lower()]
        if len(named) != 1:
            listed = ", ".join(path.name for path in named) or "none"
            raise BadInput(
                f"{folder}: expected one CSV file with '{part}' in its name, found {listed}"
            )
        table = read_csv(named[0])
        numbers = _class_numbers(named[0], np.array(table.labels))
        parts[part] = LabelledImages(table.images, numbers)
    return _verified(row, parts, folder)


def _from_npz(row: Dataset, path: Path) -> ImageSet:
    found = read_npz(path)
    images, labels = found.images, found.labels
    for part in row.counts:
        if part not in images or part not in labels:
            raise BadInput(f"{path}: has no {part} images with labels; {row.id} needs its own")
    parts = {
        part: LabelledImages(images[part], _class_numbers(path, labels[part]))
        for part in row.counts
    }
    return _verified(row, parts, path)


def _class_numbers(path: Path, labels: NDArray[np.generic]) -> NDArray[np.int64]:
    """Labels of a known set as class numbers, even if a file holds them as text."""
    try:
        return labels.astype(np.int64)
    except ValueError as error:
        raise BadInput(f"{path}: labels must be class numbers: {reason_of(error)}") from None


def _verified(row: Dataset, parts: Mapping[Part, LabelledImages], source: Path) -> ImageSet:
    verify(row, parts, str(source))
    return image_set(row, parts)


def _download(row: Dataset, folder: Path) -> ImageSet:
    """Let torchvision download into `folder`, trying its mirrors; progress goes to stderr."""
    hint = f"or give the files that you have: bench data fetch {row.id} --from DIR"
    try:
        # torchvision and torch from different indexes fail with a RuntimeError on import.
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        raise BadInput(
            f"cannot download {row.id}: torchvision does not work ({reason_of(error)}); install "
            f"torch and torchvision from the same index, {hint}"
        ) from None
    silence = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE)  # torchvision's urlopen has no time-out
    try:
        getattr(datasets, str(row.torchvision))(str(folder), train=True, download=True)
    except (RuntimeError, OSError, EOFError, ValueError, http.client.HTTPException) as error:
        if (full := failure_behind(error)) is not None:
            raise full from None
        raise BadInput(
            f"cannot download {row.id}: {_last_line(error)}; check the network and repeat, {hint}"
        ) from None
    finally:
        socket.setdefaulttimeout(silence)
    found = find_idx(row, folder)
    if found is None:
        raise BadInput(f"cannot download {row.id}: torchvision delivered no files; {hint}")
    return read_found(row, found)


def _last_line(error: Exception) -> str:
    """The reason at the end of torchvision's message, which lists every mirror it tried."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return reason_of(f"{lines[0].rstrip(':')}: {lines[-1]}" if len(lines) > 1 else error)
