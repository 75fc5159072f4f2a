"""What the columns of a CSV file hold: found from its first line, and from --label-column."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.data.reading import LABELS

_LABEL_NAMES = ("label", "labels", "class", "target", "y")
_INDEX_NAMES = ("", "index", "id", "unnamed: 0")
"""Columns that pandas and Kaggle put beside the labels: neither labels nor pixels."""
_LONGEST_NAME = 60
_NUMBERED = re.compile(r"(?P<word>\D*)(?P<number>\d{1,9})\Z")
_GRID = re.compile(r"(?P<word>[^\W\d]*)(?P<row>\d{1,6})(?P<between>[x_])(?P<column>\d{1,6})\Z")


@dataclass(frozen=True)
class Layout:
    """What the columns hold: lines above the values, the places of the label, of the columns that
    are left out and of the pixels in image order, and the shape (C, H, W) of an image.

    `label` None: there is none. `unsure`: the label is in the first or the last column, and only
    the values can tell; `label` and `pixels` are then as if it were in the first.
    """

    skip: int
    columns: int
    label: int | None
    pixels: NDArray[np.intp]
    shape: tuple[int, int, int]
    ignored: tuple[int, ...] = ()
    unsure: bool = False
    notes: tuple[str, ...] = ()


def layout_of(path: Path, line: int, cells: Sequence[str], label: str) -> Layout:
    """The layout that the first line (its number, its cells) shows.

    `label` is empty or what was given with --label-column. Raises BadInput naming the column that
    is missing, repeated or unknown.
    """
    if is_header(cells, label):
        return _from_header(path, line, cells, label)
    count = len(cells)
    if label == "none":
        shape, found, pixels = _square(count), None, np.arange(count)
    elif label in ("", "first", "last"):
        shape, found = _square(count - 1), count - 1 if label == "last" else 0
        pixels = np.delete(np.arange(count), found)
    else:
        raise BadInput(
            f"{path}: --label-column {label}: there is no header with names; expected {LABELS}"
        )
    if shape is None:
        other = "" if label or _square(count) is None else " (images alone: --label-column none)"
        raise BadInput(
            f"{path}: line {line} has {count:,} columns; expected {'' if found is None else 'a '}"
            f"{'' if found is None else 'label and '}the pixels of a square grey or RGB image "
            f"(28x28 grey: {784 + (found is not None)} columns); is a column missing, or does one "
            f"number the rows (remove it)?{other}"
        )
    return Layout(line - 1, count, found, pixels, shape, unsure=not label)


def is_header(cells: Sequence[str], label: str = "") -> bool:
    """A known name of the label column, more text than one label has, or numbers that count."""
    names = {*_LABEL_NAMES, *([label.strip().lower()] if label else [])}
    texts = [cell.strip().lower() for cell in cells if not _is_number(cell)]
    return len(texts) > 1 or not names.isdisjoint(texts) or _counts(cells[1:])


def _counts(cells: Sequence[str]) -> bool:
    """Whether the cells count the columns, as pandas names them: 1, 2, 3, ..."""
    first = cells[0] if cells else ""
    if not first.isascii() or not first.isdigit() or len(first) > 4 or len(cells) < 3:
        return False
    return list(cells) == [str(int(first) + place) for place in range(len(cells))]


def _is_number(cell: str) -> bool:
    """Also with a decimal comma, which is refused where the numbers are read."""
    try:
        float(cell.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def _from_header(path: Path, line: int, cells: Sequence[str], label: str) -> Layout:
    names = [cell.strip().lower() for cell in cells]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise BadInput(f"{path}: column {_shown(repeated)} is in the header more than once")
    ignored = [index for index, name in enumerate(names) if name in _INDEX_NAMES]
    found = _label_in(path, names, label, ignored)
    if label:
        # What was stated holds, so other columns of labels are left out.
        ignored += [index for index, name in enumerate(names) if name in _LABEL_NAMES]
    ignored = sorted({*ignored} - {found})
    pixels = {
        name: index for index, name in enumerate(names) if index != found and index not in ignored
    }
    if pixels and all(_GRID.match(name) for name in pixels):
        order, shape = _grid(path, pixels)
    else:
        order, shape = _numbered(path, pixels)
    out = [_shown(cells[index]) for index in ignored]
    notes = (f"left out the column {', '.join(out)}",) if out else ()
    return Layout(
        line, len(names), found, np.array(order), shape, ignored=tuple(ignored), notes=notes
    )


def _label_in(path: Path, names: Sequence[str], label: str, ignored: Sequence[int]) -> int | None:
    """The place of the label column among the names of a header; None: there is none."""
    places = [index for index in range(len(names)) if index not in ignored]
    wanted = label.strip().lower()
    if label and wanted in names:
        return names.index(wanted)
    if label in ("first", "last"):
        return places[0 if label == "first" else -1]
    if label == "none":
        return None
    if label:
        some = ", ".join(names[:6])
        raise BadInput(
            f"{path}: --label-column {label}: no such column; the header is {some}, ...; expected "
            f"{LABELS}"
        )
    found = [names.index(name) for name in _LABEL_NAMES if name in names]
    if len(found) > 1:
        raise BadInput(
            f"{path}: more than one column of labels: {', '.join(names[i] for i in found)}; say "
            "which one with --label-column"
        )
    if not found:
        raise BadInput(
            f"{path}: column 'label' is missing from the header; give the name of the labels with "
            "--label-column NAME, or --label-column none if the images have no classes"
        )
    return found[0]


def _grid(path: Path, pixels: dict[str, int]) -> tuple[list[int], tuple[int, int, int]]:
    """Pixel columns named by row and column, from 1 or 0, such as 28x28 or pixel_0_0."""
    matches = [match for name in pixels if (match := _GRID.match(name))]
    places = {(int(match["row"]), int(match["column"])): match[0] for match in matches}
    first = min(1, *map(min, places))
    height, width = (max(place[axis] for place in places) + 1 - first for axis in (0, 1))
    if height * width > 4 * len(pixels):
        raise BadInput(
            f"{path}: {len(pixels):,} pixel columns, but one is named as of {height}x{width}"
        )
    wanted = list(product(range(first, first + height), range(first, first + width)))
    word, between = matches[0]["word"], matches[0]["between"]
    missing = [
        f"{word}{row}{between}{column}" for row, column in wanted if (row, column) not in places
    ]
    _refuse_missing(path, missing)
    known = set(places.values())
    _refuse_unknown(path, [name for name in pixels if name not in known])
    return [pixels[places[place]] for place in wanted], (1, height, width)


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


def _shown(name: str) -> str:
    """A column's name in one line, in quotes: it may be long, and hold line ends."""
    name = " ".join(name.split())
    return f"'{name}'" if len(name) <= _LONGEST_NAME else f"'{name[:_LONGEST_NAME]}...'"


def _refuse_missing(path: Path, missing: Sequence[str]) -> None:
    if missing:
        others = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise BadInput(
            f"{path}: pixel column {_shown(missing[0])} is missing from the header{others}"
        )


def _refuse_unknown(path: Path, unknown: Sequence[str]) -> None:
    if unknown:
        raise BadInput(
            f"{path}: column {_shown(unknown[0])} is neither a label nor a pixel; expected "
            "label,pixel0,pixel1,... or label,1x1,1x2,...: if it holds the labels, say so with "
            "--label-column, else remove it"
        )


def _square(count: int) -> tuple[int, int, int] | None:
    """Shape of the square grey or RGB image with so many values, if there is one."""
    for channels in (1, 3):
        side = math.isqrt(max(count, 0) // channels)
        if side > 1 and channels * side * side == count:
            return channels, side, side
    return None
