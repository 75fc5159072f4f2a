"""Images as CSV: one image per row, as on Kaggle for MNIST and similar sets.

With a header: a column `label` (or class, target, y) anywhere, and pixel columns
`pixel0, pixel1, ...` (any word or none before the number, from 0 or 1) or `1x1, 1x2, ...`, in any
order. Without: the label first. A file without labels is refused, because it cannot be told from
one that lost a column; images without classes take the same label in every row.
Pixels are whole numbers from 0 to 255 in row-major order; three times a square number of them
make an RGB image with channels last. Labels may be text.
"""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.data.content import (
    ImageSet,
    LabelledImages,
    checked_shape,
    classes_of,
    own_source,
)
from bench.data.limits import reason_of, refuse_if_too_large, regular_file

_LONGEST_LINE = 1 << 28
_LABEL_NAMES = ("label", "labels", "class", "target", "y")
_NUMBERED = re.compile(r"(?P<word>\D*)(?P<number>\d{1,9})\Z")
_GRID = re.compile(r"(?P<row>\d{1,6})x(?P<column>\d{1,6})\Z")
_NUMBER = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*\Z")
_PIXEL = re.compile(r"\s*\+?0*\d{1,3}\s*\Z")


@dataclass(frozen=True)
class _Layout:
    """What the columns hold: lines above the values, the label's place, pixels in image order."""

    skip: int
    columns: int
    label: int
    pixels: NDArray[np.intp]
    shape: tuple[int, int, int]


def load_csv(path: Path, name: str) -> ImageSet:
    """Read a CSV file as a set of one part; raises BadInput as `read_csv`."""
    images, labels = read_csv(path)
    names, numbers = classes_of({"train": labels}, str(path))
    parts = LabelledImages(images, numbers["train"])
    return ImageSet(name, names, {"train": parts}, own_source(name, path))


def read_csv(path: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """Images (N x C x H x W) and the text of their labels.

    Raises BadInput naming the file and the line or column for anything other than described at
    the top of this module, and for images that the suite cannot take.
    """
    regular_file(path, "a CSV file")
    # No value takes less than two characters, a digit and a comma.
    refuse_if_too_large(str(path), path.stat().st_size // 2)
    layout = _layout(path)
    labels: list[str] = []

    def take_label(cell: str) -> int:
        labels.append(cell.strip())
        return 0

    try:
        # loadtxt's own loop is in C; it only calls back for cells of the label column.
        table = np.loadtxt(
            path,
            dtype=np.uint8,
            delimiter=",",
            quotechar='"',
            comments=None,
            skiprows=layout.skip,
            converters={layout.label: take_label},
            ndmin=2,
            encoding="utf-8-sig",
        )
    except ValueError as error:
        _explain(path, layout, error)
    if table.shape[1] != layout.columns or "" in labels:
        _explain(path, layout, ValueError("columns differ"))
    images = table[:, layout.pixels]
    channels, height, width = layout.shape
    images = images.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), labels


def _layout(path: Path) -> _Layout:
    """Find out from the first line what the columns hold."""
    first, second = _first_rows(path)
    line, cells = first
    if _is_header(cells):
        if second is None:
            raise BadInput(f"{path}: has a header and no images below it")
        return _from_header(path, line, cells)
    count = len(cells)
    shape = _square(count - 1)
    if shape is None:
        raise BadInput(
            f"{path}: line {line} has {count:,} columns; expected a label and the pixels of a "
            "square grey or RGB image (28x28 grey: 785 columns); is a column missing?"
        )
    return _Layout(line - 1, count, 0, np.arange(1, count), checked_shape(shape, str(path)))


def _first_rows(path: Path) -> tuple[tuple[int, list[str]], tuple[int, list[str]] | None]:
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise BadInput(f"{path}: is empty; expected a row of numbers for each image")
    return first, next(rows, None)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with its line number from 1."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            if len(stream.readline(_LONGEST_LINE)) == _LONGEST_LINE:
                raise BadInput(f"{path}: not CSV text: its first line does not end")
            stream.seek(0)
            # As strict about quotes as loadtxt; its line numbers match those of an editor.
            reader = csv.reader(stream)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: not CSV text (compressed?): {reason_of(error)}") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {reason_of(error)}") from None


def _is_header(cells: Sequence[str]) -> bool:
    """A known name of the label column, or more text than one label has."""
    texts = sum(not _NUMBER.match(cell) for cell in cells)
    return texts > 1 or any(cell.strip().lower() in _LABEL_NAMES for cell in cells)


def _from_header(path: Path, line: int, cells: Sequence[str]) -> _Layout:
    names = [cell.strip().lower() for cell in cells]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise BadInput(f"{path}: column '{repeated}' is in the header more than once")
    found = [names.index(name) for name in _LABEL_NAMES if name in names]
    if len(found) > 1:
        raise BadInput(
            f"{path}: more than one column of labels: {', '.join(names[i] for i in found)}"
        )
    if not found:
        raise BadInput(
            f"{path}: column 'label' is missing from the header; images without classes take a "
            "label column with the same word in every row"
        )
    label = found[0]
    pixels = {name: index for index, name in enumerate(names) if index != label}
    if pixels and all(_GRID.match(name) for name in pixels):
        order, shape = _grid(path, pixels)
    else:
        order, shape = _numbered(path, pixels)
    return _Layout(line, len(names), label, np.array(order), checked_shape(shape, str(path)))


def _grid(path: Path, pixels: dict[str, int]) -> tuple[list[int], tuple[int, int, int]]:
    """Pixel columns named by row and column from 1, such as 28x28."""
    places = {
        name: (int(m["row"]), int(m["column"])) for name in pixels if (m := _GRID.match(name))
    }
    height, width = (max(place[axis] for place in places.values()) for axis in (0, 1))
    if height * width > 4 * len(pixels):
        raise BadInput(f"{path}: {len(pixels):,} pixel columns, but one is named {height}x{width}")
    wanted = [f"{row}x{column}" for row in range(1, height + 1) for column in range(1, width + 1)]
    _refuse_missing(path, [name for name in wanted if name not in pixels])
    _refuse_unknown(path, [name for name in pixels if name not in set(wanted)])
    return [pixels[name] for name in wanted], (1, height, width)


def _numbered(path: Path, pixels: dict[str, int]) -> tuple[list[int], tuple[int, int, int]]:
    """Pixel columns with one number each, such as pixel0 or 784."""
    matches = {name: _NUMBERED.match(name) for name in pixels}
    words = [match["word"] for match in matches.values() if match]
    word = max(set(words), key=words.count) if words else "pixel"
    numbers = {int(m["number"]): name for name, m in matches.items() if m and m["word"] == word}
    known = set(numbers.values())
    _refuse_unknown(path, [name for name in pixels if name not in known])
    first, last = min(numbers, default=0), max(numbers, default=0)
    digits = max((len(numbers[n]) - len(word) for n in numbers), default=0)
    padded = any(len(name) - len(word) > len(str(n)) for n, name in numbers.items())
    if last < 4 * len(numbers):
        gaps = [n for n in range(min(first, 1), last + 1) if n not in numbers]
        _refuse_missing(path, [f"{word}{n:0{digits if padded else 1}d}" for n in gaps])
    shape = _square(len(numbers))
    if shape is None or last - first + 1 != len(numbers):
        raise BadInput(
            f"{path}: {len(numbers):,} pixel columns ({word}{first} to {word}{last}) make no "
            "square grey or RGB image; expected 784 for 28x28 grey: is a column missing?"
        )
    return [pixels[numbers[n]] for n in sorted(numbers)], shape


def _refuse_missing(path: Path, missing: Sequence[str]) -> None:
    if missing:
        others = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise BadInput(f"{path}: pixel column '{missing[0]}' is missing from the header{others}")


def _refuse_unknown(path: Path, unknown: Sequence[str]) -> None:
    if unknown:
        raise BadInput(
            f"{path}: column '{unknown[0]}' is neither a label nor a pixel; expected "
            "label,pixel0,pixel1,... or label,1x1,1x2,...: remove or rename it"
        )


def _square(count: int) -> tuple[int, int, int] | None:
    """Shape of the square grey or RGB image with so many values, if there is one."""
    for channels in (1, 3):
        side = math.isqrt(max(count, 0) // channels)
        if side > 1 and channels * side * side == count:
            return channels, side, side
    return None


def _value(cell: str) -> int:
    """The number in a cell that matches _PIXEL; int() takes 4,300 digits at most."""
    return int(cell.strip().lstrip("+0") or 0)


def _explain(path: Path, layout: _Layout, error: ValueError) -> NoReturn:
    """Name the bad line of a file that loadtxt refused; slow, used only on failure."""
    for line, cells in _rows(path):
        if line <= layout.skip:
            continue
        if len(cells) != layout.columns:
            raise BadInput(
                f"{path}: line {line} has {len(cells):,} columns, expected {layout.columns:,} as "
                "in the first line"
            )
        for column, cell in enumerate(cells):
            if column == layout.label and not cell.strip():
                raise BadInput(f"{path}: line {line}: the label is missing")
            if column != layout.label and not (_PIXEL.match(cell) and _value(cell) <= 255):
                raise BadInput(
                    f"{path}: line {line}, column {column + 1}: '{cell[:40]}' is not a whole "
                    "number from 0 to 255"
                )
    raise BadInput(f"{path}: cannot be read as numbers: {reason_of(error)}")
