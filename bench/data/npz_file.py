"""Images as NPZ, NumPy's zip of arrays, with the array names common in Keras and MedMNIST.

Images are N x H x W, N x H x W x C or N x C x H x W (C is 1 or 3): whole numbers from 0 to 255, or
floats that are such numbers, plain or divided by 255. Other floats are refused: uint8 cannot
represent them, so the scores would be those of other images. Labels are whole
numbers or text. Pickled objects are never read.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.core.spec import Part
from bench.data.content import (
    ONE_CLASS,
    PARTS,
    ImageSet,
    LabelledImages,
    checked_shape,
    classes_of,
    own_source,
    without_labels,
)
from bench.data.limits import human_size, reason_of, refuse_if_too_large, regular_file

_KEYS: Mapping[Part, tuple[tuple[str, str], ...]] = {
    "train": (
        ("x_train", "y_train"),
        ("train_images", "train_labels"),
        ("images", "labels"),
        ("x", "y"),
    ),
    "validation": (
        ("x_val", "y_val"),
        ("x_validation", "y_validation"),
        ("x_valid", "y_valid"),
        ("val_images", "val_labels"),
    ),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
_EXPECTED = "x_train, y_train, x_test, y_test, or images, labels"
_CHUNK = 4096  # images converted at once, so that floats take little extra memory


@dataclass(frozen=True)
class _Member:
    """An array inside the zip, as described by its header."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def load_npz(path: Path, name: str) -> ImageSet:
    """Read an NPZ file; raises BadInput as `read_npz`."""
    parts, labels = read_npz(path)
    if not labels:
        content = {part: LabelledImages(x, without_labels(len(x))) for part, x in parts.items()}
        return ImageSet(name, (ONE_CLASS,), content, own_source(name, path))
    names, numbers = classes_of(labels, str(path))
    content = {part: LabelledImages(x, numbers[part]) for part, x in parts.items()}
    return ImageSet(name, names, content, own_source(name, path))


def read_npz(
    path: Path,
) -> tuple[dict[Part, NDArray[np.uint8]], dict[Part, NDArray[np.generic]]]:
    """Images (N x C x H x W) and labels (N) by part; no labels if no part has any.

    Raises BadInput naming the file and the array for damage, pickled objects, sizes that memory
    or the file cannot hold, and for images and labels other than described above.
    """
    regular_file(path, "an NPZ file")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_parts(path, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(
            f"{path}: not an NPZ file, or damaged ({reason_of(error)}); write it again "
            "with numpy.savez"
        ) from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {reason_of(error)}") from None


def _read_parts(
    path: Path, archive: zipfile.ZipFile
) -> tuple[dict[Part, NDArray[np.uint8]], dict[Part, NDArray[np.generic]]]:
    inside = {name.removesuffix(".npy") for name in archive.namelist()}
    keys = {part: pair for part in PARTS for pair in _KEYS[part] if pair[0] in inside}
    if "train" not in keys:
        held = ", ".join(sorted(inside)[:8]) or "nothing"
        raise BadInput(f"{path}: holds {held}; expected the arrays {_EXPECTED}")
    members = {
        name: _described(path, archive, name)
        for pair in keys.values()
        for name in pair
        if name in inside
    }
    refuse_if_too_large(str(path), sum(_size(member) for member in members.values()))
    images: dict[Part, NDArray[np.uint8]] = {}
    labels: dict[Part, NDArray[np.generic]] = {}
    for part, (x, y) in keys.items():
        images[part] = _images(f"{path}: {x}", _read(path, archive, members[x]))
        if y in members:
            labels[part] = _labels(f"{path}: {y}", _read(path, archive, members[y]))
            if len(labels[part]) != len(images[part]):
                raise BadInput(
                    f"{path}: {len(labels[part]):,} labels in {y} for the "
                    f"{len(images[part]):,} images in {x}"
                )
    _check_parts_agree(path, keys, images, labels)
    return images, labels


def _described(path: Path, archive: zipfile.ZipFile, name: str) -> _Member:
    """Read only an array's header, and check its claimed size against that in the zip."""
    info = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
    where = f"{path}: {name}"
    with archive.open(info) as stream:
        shape, dtype = _header(where, stream)
        member = _Member(info.filename, shape, dtype)
        if dtype.hasobject:
            raise BadInput(
                f"{where}: holds pickled Python objects, which are never read; save numbers"
            )
        held = info.file_size - stream.tell()
    if _size(member) != held:
        raise BadInput(
            f"{where}: damaged: its header claims {human_size(_size(member))} of values, the file "
            f"holds {human_size(held)}"
        )
    return member


def _header(where: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, SyntaxError, TokenError, TypeError, OverflowError) as error:
        # A damaged header goes through Python's own tokenizer and parser of literals.
        raise BadInput(f"{where}: not a NumPy array: {reason_of(error)}") from None
    return shape, dtype


def _size(member: _Member) -> int:
    """Bytes of an array, as a Python integer, which cannot overflow."""
    count = member.dtype.itemsize
    for side in member.shape:
        count *= side
    return count


def _read(path: Path, archive: zipfile.ZipFile, member: _Member) -> NDArray[np.generic]:
    try:
        with archive.open(member.name) as stream:
            array: NDArray[np.generic] = npy.read_array(stream, allow_pickle=False)
            return array
    except ValueError as error:
        raise BadInput(f"{path}: {member.name} is damaged: {reason_of(error)}") from None


def _images(where: str, array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Any accepted layout and type as uint8, N x C x H x W."""
    shape = " x ".join(map(str, array.shape))
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4:
        raise BadInput(
            f"{where}: has the shape {shape}; expected N x H x W, N x H x W x C or N x C x H x W"
        )
    if not len(array):
        raise BadInput(f"{where}: holds no images")
    if array.shape[1] not in (1, 3):
        raise BadInput(
            f"{where}: has the shape {shape}; expected one channel (grey) or three (RGB), first or "
            "last"
        )
    checked_shape(array.shape[1:], where)
    return _as_bytes(where, array)


def _as_bytes(where: str, array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype.kind not in "uif":
        raise BadInput(f"{where}: holds values of type {array.dtype}; expected numbers")
    lowest, highest = float(array.min()), float(array.max())
    if not (lowest >= 0 and highest <= 255):
        raise BadInput(
            f"{where}: holds values from {lowest:g} to {highest:g}; expected whole numbers from 0 "
            "to 255, or those divided by 255"
        )
    scale = 255.0 if array.dtype.kind == "f" and highest <= 1 else 1.0
    images = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), _CHUNK):
        chunk = array[start : start + _CHUNK]
        if chunk.dtype.kind == "f":
            scaled = chunk.astype(np.float64) * scale
            rounded = np.rint(scaled)
            # Half precision near 1 is off by up to 0.06 of a level.
            if np.abs(scaled - rounded).max() > 0.1:
                raise BadInput(
                    f"{where}: holds floats that are not whole numbers from 0 to 255, nor those "
                    "divided by 255; save the images as uint8"
                )
            images[start : start + _CHUNK] = rounded
        else:
            images[start : start + _CHUNK] = chunk
    return images


def _labels(where: str, array: NDArray[np.generic]) -> NDArray[np.generic]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "uiUb":
        shape = " x ".join(map(str, array.shape))
        raise BadInput(
            f"{where}: labels of type {array.dtype} and shape {shape}; expected one whole number "
            "or text per image"
        )
    return array if array.dtype.kind == "U" else array.astype(np.int64)


def _check_parts_agree(
    path: Path,
    keys: Mapping[Part, tuple[str, str]],
    images: Mapping[Part, NDArray[np.uint8]],
    labels: Mapping[Part, NDArray[np.generic]],
) -> None:
    """All parts must have images of one shape, and either all or none have labels."""
    train = images["train"].shape[1:]
    for part, array in images.items():
        if array.shape[1:] != train:
            raise BadInput(
                f"{path}: the images of {keys[part][0]} (C x H x W {array.shape[1:]}) differ in "
                f"shape from those of {keys['train'][0]} ({train})"
            )
    without = [keys[part] for part in images if part not in labels]
    if labels and without:
        x, y = without[0]
        raise BadInput(f"{path}: the labels {y} of {x} are missing, while other parts have theirs")
