"""Images as CSV: one image per row, as on Kaggle for MNIST and similar sets (see `csv_text`).

With a header: a column `label` (or class, target, y) anywhere, and pixel columns
`pixel0, pixel1, ...` (any word or none before the number, from 0 or 1) or, by row and column,
`1x1, 1x2, ...` or `pixel_0_0, ...`, in any order; a column `id` or `index`, or one without a name,
is left out. Without: the label first or last, told by its values. A file without labels is refused
unless that is stated, because it cannot be told from one that lost a column.
Pixels are whole numbers from 0 to 255, also as 7.0, or such numbers divided by 255, in row-major
order; three times a square number of them make an RGB image with channels last. Labels may be text.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.data.content import (
    ONE_CLASS,
    ImageSet,
    LabelledImages,
    checked_shape,
    classes_of,
    own_source,
    without_labels,
)
from bench.data.csv_layout import Layout, layout_of
from bench.data.csv_text import CsvText, survey
from bench.data.limits import reason_of, refuse_if_too_large
from bench.data.pixels import (
    LEVELS,
    Seen,
    as_levels,
    check_brightness,
    check_range,
    resized,
    white_in,
)
from bench.data.reading import AS_THEY_ARE, Reading

_CHUNK = 2048  # rows parsed at once
_ALIKE = 0.98
_CORRELATED = 0.5
_FILLED = 0.5
_EVEN = 0.9


@dataclass(frozen=True)
class Table:
    """Images (N x C x H x W), the text of their labels (empty: none has one), what to note."""

    images: NDArray[np.uint8]
    labels: list[str]
    notes: tuple[str, ...]


def load_csv(path: Path, name: str, reading: Reading = AS_THEY_ARE) -> ImageSet:
    """Read a CSV file as a set of one part; raises BadInput as `read_csv`."""
    table = read_csv(path, reading)
    names: tuple[str, ...] = (ONE_CLASS,)
    numbers = without_labels(len(table.images))
    if table.labels:
        names, found = classes_of({"train": table.labels}, str(path))
        numbers = found["train"]
    notes = table.notes
    if len(names) > max(100, len(numbers) // 2):
        notes = (*notes, f"{len(names):,} different labels for {len(numbers):,} images")
    parts = LabelledImages(table.images, numbers)
    return ImageSet(name, names, {"train": parts}, own_source(name, path, reading), notes)


def read_csv(path: Path, reading: Reading = AS_THEY_ARE) -> Table:
    """Read images and labels of a CSV file.

    Raises BadInput naming the file and the line or column for anything other than described at
    the top of this module, and for images that the suite cannot take.
    """
    text = survey(path)
    rows = text.rows()
    first = next(rows, None)
    if first is None:
        raise BadInput(f"{path}: is empty; expected a row of numbers for each image")
    layout = layout_of(path, *first, reading.label)
    if layout.skip >= first[0] and next(rows, None) is None:
        raise BadInput(f"{path}: has a header and no images below it")
    rows.close()
    channels, height, width = layout.shape
    wanted = checked_shape((channels, *(reading.size or (height, width))), str(path))
    count = text.lines - layout.skip
    resizes = reading.size not in (None, (height, width))
    refuse_if_too_large(str(path), count * (math.prod(layout.shape) + resizes * math.prod(wanted)))
    values = _Values(text, layout, reading)
    images = values.read(count).reshape(-1, height, width, channels)
    notes = (*text.notes, *layout.notes, *values.notes)
    if resizes:
        plain, images = images, np.empty((len(images), *wanted[1:], channels), np.uint8)
        for index, image in enumerate(plain):
            images[index] = resized(image, reading.size)
        notes = (*notes, f"{len(images):,} images were resized to {wanted[1]}x{wanted[2]}")
    images = images.transpose(0, 3, 1, 2)
    return Table(np.ascontiguousarray(images), values.labels, notes)


class _Values:
    """Reads the rows of a file into levels, chunk after chunk, and collects the labels."""

    def __init__(self, text: CsvText, layout: Layout, reading: Reading) -> None:
        self._text, self._layout, self._reading = text, layout, reading
        self._path = str(text.path)
        kept = () if layout.label is None else (layout.label,)
        last = (layout.columns - 1,) if layout.unsure else ()
        self._texts: dict[int, list[str]] = {place: [] for place in (*kept, *last)}
        self._pixels = layout.pixels[:-1] if layout.unsure else layout.pixels
        self._type: type[np.uint8] | type[np.float32] = np.uint8
        self._seen = Seen()
        self._whites: set[int] = set()
        self._zeros_and_ones: list[slice] = []
        self.labels: list[str] = []
        self.notes: list[str] = []

    def read(self, most: int) -> NDArray[np.uint8]:
        """Levels of at most so many rows, N x values, in image order."""
        images = np.empty((most, len(self._layout.pixels)), np.uint8)
        done = 0
        with self._text.open() as stream:
            lines = itertools.islice(stream, self._layout.skip, None)
            while chunk := list(itertools.islice(lines, _CHUNK)):
                rows = [line for line in chunk if not line.isspace()]
                if rows:
                    levels = self._levels(self._parsed(rows), slice(done, done + len(rows)))
                    images[done : done + len(rows), : levels.shape[1]] = levels
                    done += len(rows)
        images = images[:done]
        white = min(self._whites, default=LEVELS)
        if white == 1:
            for part in self._zeros_and_ones:
                images[part] *= LEVELS
        if self._reading.scale is None:
            check_brightness(self._path, self._seen.highest, white)
        if self._layout.unsure:
            self._settle(images, white)
        elif self._layout.label is not None:
            self.labels = self._texts[self._layout.label]
        if "" in self.labels:
            self._explain(white, "labels are missing")
        return images

    def _parsed(self, rows: list[str]) -> NDArray[np.generic]:
        """The values of some rows; 0 in the columns of text."""
        before = {place: len(found) for place, found in self._texts.items()}
        try:
            table = self._loaded(rows)
        except ValueError as error:
            if self._type is not np.uint8:
                self._explain(LEVELS, reason_of(error))
            # Floats, or a fault: tried once more as floats, from this chunk on.
            for place, length in before.items():
                del self._texts[place][length:]
            self._type = np.float32
            return self._parsed(rows)
        if table.shape != (len(rows), self._layout.columns):
            self._explain(LEVELS, "columns differ")
        return table

    def _loaded(self, rows: list[str]) -> NDArray[np.generic]:
        def take(place: int, cell: str) -> int:
            self._texts[place].append(cell.strip())
            return 0

        takers: dict[int | str, Callable[[str], int]] = {
            place: functools.partial(take, place) for place in self._texts
        }
        takers |= {place: lambda cell: 0 for place in self._layout.ignored}
        # loadtxt's own loop is in C; it only calls back for cells of these columns.
        table: NDArray[np.generic] = np.loadtxt(
            rows,
            dtype=np.dtype(self._type),
            delimiter=self._text.separator,
            quotechar='"',
            comments=None,
            converters=takers,
            ndmin=2,
        )
        return table

    def _levels(self, table: NDArray[np.generic], rows: slice) -> NDArray[np.uint8]:
        """The pixels of parsed rows as levels."""
        values = table[:, self._pixels]
        here = Seen()
        here.add(values)
        self._seen.add(values)
        white = white_in(here, table.dtype, self._reading.scale)
        if white == LEVELS and here.whole and here.highest <= 1:
            # Zeros and ones mean what the other rows show.
            self._zeros_and_ones.append(rows)
        else:
            self._whites.add(white)
        try:
            if len(self._whites) > 1:
                raise BadInput("some values are fractions of 1, others go to 255")
            check_range(self._path, here, white)
            return as_levels(self._path, values, white, rounded=self._reading.scale is not None)
        except BadInput as error:
            self._explain(white, str(error))

    def _settle(self, images: NDArray[np.uint8], white: int) -> None:
        """Decide whether the label is in the first or the last column, and put the other one where
        it belongs in the images."""
        first, last = self._texts.values()
        column = _label_column(first, last, images, white)
        if column is None:
            raise BadInput(
                f"{self._path}: the label may be in the first column ({_some(first)}) or in the "
                f"last ({_some(last)}); say where: --label-column first, or last"
            )
        self.labels, pixels = (first, last) if column == "first" else (last, first)
        if _counts_rows(self.labels):
            self.notes.append(f"the {column} column, taken for the labels, counts the rows")
        if column == "last":
            images[:, 1:] = images[:, :-1]
            self.notes.append("the labels are in the last column")
        values = _numbers(pixels)
        if values is None:
            self._explain(white, "a pixel is not a number")
        seen = Seen()
        seen.add(values)
        check_range(self._path, seen, white)
        levels = as_levels(self._path, values, white, rounded=self._reading.scale is not None)
        images[:, 0 if column == "last" else -1] = levels

    def _explain(self, white: float, reason: str) -> NoReturn:
        """Name the bad line of a file that was refused; slow, used only on failure."""
        layout, path = self._layout, self._path
        given = self._reading.scale
        for line, cells in self._text.rows():
            if line <= layout.skip:
                continue
            if len(cells) != layout.columns:
                raise BadInput(
                    f"{path}: line {line} has {len(cells):,} columns, expected "
                    f"{layout.columns:,} as in the first line"
                )
            for place in self._texts:
                if not cells[place].strip():
                    raise BadInput(f"{path}: line {line}: the label is missing")
            for place in self._pixels:
                if not _fits(cells[place], white, whole=given is None and white == LEVELS):
                    expected = f"a number from 0 to {white:g}"
                    if given is None:
                        expected = "a whole number from 0 to 255, or one divided by 255"
                    if "," in cells[place]:
                        expected += "; write its decimals behind a point"
                    raise BadInput(
                        f"{path}: line {line}, column {place + 1}: '{cells[place][:40]}' is not "
                        f"{expected}"
                    )
        if reason.startswith(f"{path}: "):
            raise BadInput(reason)
        raise BadInput(f"{path}: cannot be read as numbers: {reason_of(reason)}")


def _label_column(
    first: Sequence[str], last: Sequence[str], images: NDArray[np.uint8], white: int
) -> str | None:
    """Which of two columns holds the labels: the one that is not like the pixels beside it, and the
    one whose values are like numbers of classes. Either sign is enough, if the other is silent.

    `images` holds the columns between the two. None: the values do not tell.
    """
    columns = {"first": (first, images[:, 0]), "last": (last, images[:, -2])}
    unlike = [name for name, of in columns.items() if not _like_pixels(*of, white)]
    classes = [name for name, (cells, _) in columns.items() if _like_classes(cells)]
    signs = {found[0] for found in (unlike, classes) if len(found) == 1}
    return signs.pop() if len(signs) == 1 else None


def _like_classes(cells: Sequence[str]) -> bool:
    """Whether the values fill their range from 0, and none is in nearly every row: the corners of
    pictures on an even ground have one value, with few exceptions far from it."""
    values = _numbers(cells)
    if values is None or values.min() < 0 or not (values == np.rint(values)).all():
        return False
    found, counts = np.unique(values, return_counts=True)
    return bool(len(found) >= _FILLED * (found[-1] + 1) and counts.max() < _EVEN * len(values))


def _like_pixels(cells: Sequence[str], beside: NDArray[np.uint8], white: int) -> bool:
    """Whether a column can hold pixels: equal or similar to the column beside it, image by image.

    The difference to the neighbour is compared with that to the neighbour in every other image.
    """
    values = _numbers(cells)
    if values is None or not (values.min() >= 0 and values.max() <= white):
        return False
    levels = np.rint(values * (LEVELS / white)).astype(np.int64)
    if (levels == beside).mean() >= _ALIKE:
        return True
    counts = [np.bincount(column, minlength=LEVELS + 1) for column in (levels, beside)]
    steps = np.abs(np.subtract.outer(np.arange(LEVELS + 1), np.arange(LEVELS + 1)))
    expected = float(counts[0] @ steps @ counts[1]) / len(levels) ** 2
    return float(np.abs(levels - beside.astype(np.int64)).mean()) < _CORRELATED * expected


def _numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    try:
        return np.array(cells, np.float64)
    except ValueError:
        return None


def _counts_rows(labels: Sequence[str]) -> bool:
    """Whether labels are the numbers of the rows, from 0 or 1: an index, not classes."""
    if len(labels) < 4 or labels[0] not in ("0", "1"):
        return False
    return list(labels) == [str(int(labels[0]) + row) for row in range(len(labels))]


def _some(cells: Sequence[str]) -> str:
    """Some of the different values of a column."""
    found = list(dict.fromkeys(cells))
    return ", ".join(cell[:12] for cell in found[:4]) + (", ..." if len(found) > 4 else "")


def _fits(cell: str, white: float, *, whole: bool) -> bool:
    """Whether a cell holds a pixel's value."""
    try:
        value = float(cell)
    except ValueError:
        return False
    return 0 <= value <= white and (not whole or value == int(value))
