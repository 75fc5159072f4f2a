"""Types of image data: labelled images, a whole set with its parts, and the supported shapes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.core.spec import Part

PARTS: tuple[Part, ...] = ("train", "validation", "test")
SMALLEST_SIDE = 4
MOST_CLASSES = 1000
ONE_CLASS = "all"
"""The class of every image in a set without labels."""


class LabelledImages(NamedTuple):
    """Images as uint8 (N x C x H x W, 0 to 255) and their classes as int64 (N, from 0)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """A whole data set as stored on disk: one to three parts, all of one shape."""

    name: str
    class_names: tuple[str, ...]
    parts: Mapping[Part, LabelledImages]
    source: str

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
            f"least {SMALLEST_SIDE} pixels"
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

    Whole numbers sort as numbers, anything else as text. BadInput if there are so many that they
    are hardly classes (most likely the wrong column).
    """
    arrays = {part: np.asarray(values) for part, values in labels.items()}
    if any(array.dtype.kind == "U" for array in arrays.values()):
        arrays = {part: _as_integers_or_text(array) for part, array in arrays.items()}
        if len({array.dtype.kind for array in arrays.values()}) > 1:
            arrays = {part: array.astype(str) for part, array in arrays.items()}
    names, numbers = np.unique(np.concatenate(list(arrays.values())), return_inverse=True)
    if len(names) > MOST_CLASSES:
        raise BadInput(
            f"{where}: {len(names):,} different labels; expected at most {MOST_CLASSES:,} classes: "
            "is that the column or array of the labels?"
        )
    ends = np.cumsum([len(array) for array in arrays.values()])[:-1]
    split = np.split(numbers.astype(np.int64), ends)
    return tuple(str(name) for name in names), dict(zip(arrays, split, strict=True))


def _as_integers_or_text(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Convert text such as "7" to the number 7, if all of it is numeric."""
    try:
        return array.astype(np.int64)
    except (ValueError, OverflowError):
        return array


def without_labels(count: int) -> NDArray[np.int64]:
    """Labels for images without labels: all are in the one class `all`."""
    return np.zeros(count, np.int64)


def own_source(name: str, path: Path) -> str:
    """The source of the user's own images: the file's name alone, without its folder."""
    return f"{name}: own images, read from {path.resolve().name}"
