"""Types of image data: labelled images, a whole set with its parts, and the supported shapes."""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.core.spec import Part
from bench.data.pixels import RESIZED_BY
from bench.data.reading import Reading

PARTS: tuple[Part, ...] = ("train", "validation", "test")
SMALLEST_SIDE = 4
ONE_CLASS = "all"
"""The class of every image in a set without labels."""
_MISSING = ("", "nan", "-nan", "<na>", "#n/a", "#na", "n/a", "null", "nat")
"""What programs write for a label that is missing."""
_MISSING_NUMBERS = (*_MISSING, "none", "na", "?", "-")
"""The same where all other labels are numbers: "none" may be the name of a class."""


class LabelledImages(NamedTuple):
    """Images as uint8 (N x C x H x W, 0 to 255) and their classes as int64 (N, from 0)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """A whole data set as stored on disk: one to three parts, all of one shape.

    `notes`: what its reader did that a person should know, such as conversions, one line each.
    `files`: of a folder, the file of each image by part, relative to the folder.
    """

    name: str
    class_names: tuple[str, ...]
    parts: Mapping[Part, LabelledImages]
    source: str
    notes: tuple[str, ...] = ()
    files: Mapping[Part, tuple[str, ...]] = field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.parts["train"].images.shape
        return channels, height, width

    @property
    def counts(self) -> dict[Part, int]:
        """Number of images in each existing part."""
        return {part: len(images.labels) for part, images in self.parts.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shapes, images, labels and part structure, not names or file format.

        The same images therefore have the same digest as IDX, CSV, NPZ or a folder.
        """
        present = [part for part in PARTS if part in self.parts]
        shapes = [[part, *self.parts[part].images.shape] for part in present]
        sha = hashlib.sha256(json.dumps(shapes).encode())
        for part in present:
            images, labels = self.parts[part]
            sha.update(np.ascontiguousarray(images).data)
            sha.update(np.ascontiguousarray(labels, dtype="<i8").data)
        return sha.hexdigest()


def checked_shape(shape: Sequence[int], where: str) -> tuple[int, int, int]:
    """Return (C, H, W) if every variant can take such images; BadInput names the shape.

    One channel (grey) or three (RGB), and sides of at least 4 pixels.
    """
    channels, height, width = shape
    if min(height, width) < SMALLEST_SIDE:
        raise BadInput(
            f"{where}: images of {height}x{width} pixels cannot be used; both sides must have at "
            f"least {SMALLEST_SIDE} pixels: pad or resize them (--image-size)"
        )
    if channels not in (1, 3):
        raise BadInput(
            f"{where}: images have {channels} channels; expected 1 (grey) or 3 (RGB): convert them"
        )
    return channels, height, width


def classes_of(
    labels: Mapping[Part, Sequence[int] | Sequence[str] | NDArray[np.generic]], where: str
) -> tuple[tuple[str, ...], dict[Part, NDArray[np.int64]]]:
    """Number the labels of all parts from 0 in sorted order; returns class names and numbers.

    Whole numbers, also as 7.0, sort as numbers, anything else as text. Raises BadInput for labels
    that are missing (`nan`, `NULL`), and for fractions where all labels are numbers.
    """
    arrays = {part: np.asarray(values) for part, values in labels.items()}
    if any(array.dtype.kind in "fU" for array in arrays.values()):
        arrays = {part: _as_integers_or_text(array, where) for part, array in arrays.items()}
        if len({array.dtype.kind for array in arrays.values()}) > 1:
            arrays = {part: array.astype(str) for part, array in arrays.items()}
    names, numbers = np.unique(np.concatenate(list(arrays.values())), return_inverse=True)
    ends = np.cumsum([len(array) for array in arrays.values()])[:-1]
    split = np.split(numbers.astype(np.int64), ends)
    return tuple(str(name) for name in names), dict(zip(arrays, split, strict=True))


def _as_integers_or_text(array: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    """Convert text such as "7" or "7.0" to the number 7, if all of it is numeric."""
    with contextlib.suppress(ValueError, OverflowError):
        if array.dtype.kind != "f":
            return array.astype(np.int64)
    words = np.char.lower(np.char.strip(array.astype(str)))
    _refuse_missing(where, array, np.isin(words, _MISSING))
    absent = np.isin(words, _MISSING_NUMBERS)
    try:
        numbers = array[~absent].astype(np.float64)
    except (ValueError, OverflowError):
        return array
    if not absent.all():
        _refuse_missing(where, array, absent)
    if len(numbers) < len(array):
        return array
    whole = np.isfinite(numbers) & (numbers == np.rint(numbers)) & (np.abs(numbers) < 2**53)
    if not whole.all():
        raise BadInput(
            f"{where}: label {array[(~whole).argmax()]} is not a whole number; expected one for "
            "each class, or words: is that the column or array of the labels?"
        )
    return numbers.astype(np.int64)


def _refuse_missing(where: str, labels: NDArray[np.generic], missing: NDArray[np.bool_]) -> None:
    if missing.any():
        first = int(missing.argmax())
        raise BadInput(
            f"{where}: {missing.sum():,} of {len(labels):,} labels are missing "
            f"({labels[first] or 'empty'}, the first that of image {first + 1:,}); give every "
            "image a label, or none"
        )


def without_labels(count: int) -> NDArray[np.int64]:
    """Labels for images without labels: all are in the one class `all`."""
    return np.zeros(count, np.int64)


def own_source(name: str, path: Path, reading: Reading) -> str:
    """The source of a person's own images: the file's name alone, without its folder, and how the
    images were made from it."""
    made = []
    if reading.size:
        made.append(f"in {reading.size[0]}x{reading.size[1]} pixels ({RESIZED_BY})")
    if reading.scale:
        made.append(f"with white at {reading.scale}")
    if reading.label:
        made.append(f"labels: {reading.label}")
    return ", ".join([f"{name}: own images, read from {path.resolve().name}", *made])


def repeated_images(parts: Mapping[Part, LabelledImages]) -> tuple[int, int]:
    """Exact copies (same pixels): how many images equal one of an earlier part of PARTS, and how
    many equal an earlier one of the same part."""
    between = within = 0
    before: set[bytes] = set()
    for part in PARTS:
        if part not in parts:
            continue
        images = parts[part].images
        digests = [hashlib.blake2b(image, digest_size=16).digest() for image in images]
        between += sum(digest in before for digest in digests)
        within += len(digests) - len(set(digests))
        before.update(digests)
    return between, within
