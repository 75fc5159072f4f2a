"""Results as NPZ, CSV or PNG, by the ending of the file's name; whole or not at all."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.core.paths import given_path
from bench.core.store import write_atomically, writing_to
from bench.inference.inputs import place_of

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Result:
    """What a command found: `arrays` for NPZ; `columns` and a function that gives `rows` for CSV;
    `picture` for PNG, None where a picture says nothing."""

    arrays: Arrays
    columns: Sequence[str]
    rows: Callable[[], Sequence[Sequence[object]]]
    picture: Callable[[], bytes] | None = None


def output_file(text: str, endings: Sequence[str], images: str = "") -> Path:
    """The file that `--out` names; BadInput if its ending is not one of `endings` (".npz", ...), if
    its folder is not there, or if it would replace the `images` that a command reads, or be one of
    them the next time."""
    path = given_path(text, "--out")
    if path.suffix.lower() not in endings:
        raise BadInput(
            f"--out: '{path.name}' ends in '{path.suffix}'; expected {' or '.join(endings)}"
        )
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else f"needs the folder {path.parent}"
        raise BadInput(f"--out: {path} {what}; name a file in a folder that exists")
    if images and (place := place_of(images)) is not None:
        here, given = path.resolve(), place.resolve()
        if here == given or (here.suffix.lower() == ".png" and given in here.parents):
            raise BadInput(
                f"--out: {path} is {'the file' if here == given else 'in the folder'} of the "
                "images; name another place, so that none of them is replaced or added"
            )
    return path


def write_result(path: Path, result: Result) -> None:
    """Write a result in the format that the name asks for.

    Raises StorageFailed if the disk refuses; no half file stays. NPZ holds no Python objects.
    """
    kind = path.suffix.lower()
    if kind == ".npz":
        content = _npz(result.arrays)
    elif kind == ".csv":
        content = _csv(result.columns, result.rows())
    else:
        assert result.picture is not None
        content = result.picture()
    with writing_to("the result", path.absolute().parent, "--out"):
        write_atomically(path, content)


def _npz(arrays: Arrays) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogateescape")
