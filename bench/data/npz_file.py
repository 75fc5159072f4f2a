"""Images as NPZ, NumPy's zip of arrays, with the usual names of arrays (see `npz_names`).

Images are N x H x W, N x H x W x C or N x C x H x W (C is 1 or 3), or N x 784 for grey squares:
bools, whole numbers from 0 to 255 (uint16: to 65,535), or floats that are such numbers, plain or
divided by 255. Labels are whole numbers, text or one-hot. Pickled objects are never read.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
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
    ImageSet,
    LabelledImages,
    checked_shape,
    classes_of,
    own_source,
    without_labels,
)
from bench.data.limits import human_size, reason_of, refuse_if_too_large, regular_file
from bench.data.npz_names import Arrays, arrays_by_part
from bench.data.pixels import (
    SIXTEEN_BITS,
    Seen,
    as_levels,
    check_brightness,
    check_range,
    resized,
    white_in,
)
from bench.data.reading import AS_THEY_ARE, Reading

_EXPECTED = "x_train, y_train, x_test, y_test, or images, labels"
_BLOCK = 1 << 21
"""Bytes decompressed at once: an array is never in memory whole as it is stored."""


@dataclass(frozen=True)
class _Member:
    """An array inside the zip, as described by its header."""

    name: str
    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """Bytes of its values, as a Python integer, which cannot overflow."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class _Plan:
    """How an array of images is read: `shape` (N x C x H x W, or N x H x W x C if `channels_last`)
    of its values, and `stored` (N x C x H x W) of the images made of them."""

    shape: tuple[int, int, int, int]
    channels_last: bool
    stored: tuple[int, int, int, int]


@dataclass(frozen=True)
class Read:
    """Images (N x C x H x W) and labels (N) by part; no labels if no part has any."""

    images: dict[Part, NDArray[np.uint8]]
    labels: dict[Part, NDArray[np.generic]]
    notes: tuple[str, ...]


def load_npz(path: Path, name: str, reading: Reading = AS_THEY_ARE) -> ImageSet:
    """Read an NPZ file as a set; raises BadInput as `read_npz`."""
    found = read_npz(path, reading)
    names: tuple[str, ...] = (ONE_CLASS,)
    numbers = {part: without_labels(len(x)) for part, x in found.images.items()}
    if found.labels:
        names, numbers = classes_of(found.labels, str(path))
    content = {part: LabelledImages(x, numbers[part]) for part, x in found.images.items()}
    return ImageSet(name, names, content, own_source(name, path, reading), found.notes)


def read_npz(path: Path, reading: Reading = AS_THEY_ARE) -> Read:
    """Read the arrays whose names `npz_names` knows; `notes` say which, and which are left out.

    Raises BadInput naming the file and the array for damage, pickled objects, sizes that memory
    or the file cannot hold, and for images and labels other than described above.
    """
    regular_file(path, "an NPZ file")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_parts(path, archive, reading)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(
            f"{path}: not an NPZ file, or damaged ({reason_of(error)}); write it again "
            "with numpy.savez"
        ) from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {reason_of(error)}") from None


def _read_parts(path: Path, archive: zipfile.ZipFile, reading: Reading) -> Read:
    inside = sorted({name.removesuffix(".npy") for name in archive.namelist()})
    arrays = arrays_by_part(inside)
    if "train" not in arrays:
        held = ", ".join(inside[:8]) or "nothing"
        raise BadInput(f"{path}: holds {held}; expected the arrays {_EXPECTED}")
    named = [name for each in arrays.values() for name in (each.images, each.labels) if name]
    members = {name: _described(path, archive, name) for name in named}
    plans = {
        part: _planned(f"{path}: {each.images}", members[each.images], reading)
        for part, each in arrays.items()
    }
    _check_shapes_agree(path, arrays, plans)
    refuse_if_too_large(
        str(path),
        sum(math.prod(plan.stored) for plan in plans.values())
        + sum(members[each.labels].size for each in arrays.values() if each.labels),
    )
    images: dict[Part, NDArray[np.uint8]] = {}
    labels: dict[Part, NDArray[np.generic]] = {}
    for part, each in arrays.items():
        where = f"{path}: {each.images}"
        images[part] = _images(where, archive, members[each.images], plans[part], reading)
        if each.labels:
            labels[part] = _labels(f"{path}: {each.labels}", archive, members[each.labels])
            if len(labels[part]) != len(images[part]):
                raise BadInput(
                    f"{path}: {len(labels[part]):,} labels in {each.labels} for the "
                    f"{len(images[part]):,} images in {each.images}"
                )
    without = [each.images for part, each in arrays.items() if part not in labels]
    if labels and without:
        ours = [name for name in inside if name not in named]
        raise BadInput(
            f"{path}: the labels of {without[0]} are missing, while other parts have theirs"
            + (f"; not used: {', '.join(ours[:8])}" if ours else "")
        )
    return Read(images, labels, tuple(_used(arrays, inside, named)))


def _used(
    arrays: Mapping[Part, Arrays], inside: Sequence[str], named: Sequence[str]
) -> Iterator[str]:
    """What was used and what was not, in words."""
    used = [
        f"{each.images} as {part} images{f' with labels {each.labels}' if each.labels else ''}"
        for part, each in arrays.items()
    ]
    ignored = [name for name in inside if name not in named]
    more = f" and {len(ignored) - 8} more" if len(ignored) > 8 else ""
    if len(inside) > 1:  # else there was nothing to choose
        rest = f"; ignored {', '.join(ignored[:8])}{more}" if ignored else ""
        yield f"used {', '.join(used)}{rest}"


def _described(path: Path, archive: zipfile.ZipFile, name: str) -> _Member:
    """Read only an array's header, and check its claimed size against that in the zip."""
    info = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
    where = f"{path}: {name}"
    with archive.open(info) as stream:
        member = _Member(info.filename, *_header(where, stream))
        if member.dtype.hasobject:
            raise BadInput(
                f"{where}: holds pickled Python objects, which are never read; save numbers"
            )
        held = info.file_size - stream.tell()
    if member.size != held:
        raise BadInput(
            f"{where}: damaged: its header claims {human_size(member.size)} of values, the file "
            f"holds {human_size(held)}"
        )
    return member


def _header(where: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, columns_first, dtype = read(stream)
    except (ValueError, SyntaxError, TokenError, TypeError, OverflowError) as error:
        # A damaged header goes through Python's own tokenizer and parser of literals.
        raise BadInput(f"{where}: not a NumPy array: {reason_of(error)}") from None
    return shape, columns_first, dtype


def _planned(where: str, member: _Member, reading: Reading) -> _Plan:
    """How to read an array of images, from its shape alone; BadInput for one that holds none."""
    given = " x ".join(map(str, member.shape))
    shape = _four_sides(member.shape)
    if shape is None:
        raise BadInput(
            f"{where}: has the shape {given}; expected N x H x W, N x H x W x C, N x C x H x W, or "
            "N x (H * H) for square grey images"
        )
    if not shape[0]:
        raise BadInput(f"{where}: holds no images")
    channels_last = shape[3] in (1, 3)
    channels, height, width = (shape[3], *shape[1:3]) if channels_last else shape[1:]
    if channels not in (1, 3):
        raise BadInput(
            f"{where}: has the shape {given}; expected one channel (grey) or three (RGB), first or "
            "last"
        )
    if member.dtype.kind not in "buif":
        raise BadInput(f"{where}: holds values of type {member.dtype}; expected numbers")
    sides = checked_shape((channels, *(reading.size or (height, width))), where)
    return _Plan(shape, channels_last, (shape[0], *sides))


def _four_sides(shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Any accepted layout as N x C x H x W or N x H x W x C; None for others."""
    match shape:
        case (count, pixels):
            side = math.isqrt(max(pixels, 0))
            return (count, 1, side, side) if side > 1 and side * side == pixels else None
        case (count, height, width):
            return count, 1, height, width
        case (count, first, second, third):
            return count, first, second, third
    return None


def _check_shapes_agree(
    path: Path, arrays: Mapping[Part, Arrays], plans: Mapping[Part, _Plan]
) -> None:
    """All parts must have images of one shape."""
    train = plans["train"].stored[1:]
    for part, plan in plans.items():
        if plan.stored[1:] != train:
            raise BadInput(
                f"{path}: the images of {arrays[part].images} (C x H x W {plan.stored[1:]}) differ "
                f"in shape from those of {arrays['train'].images} ({train}); --image-size 28 or "
                "HxW resizes them"
            )


def _images(
    where: str, archive: zipfile.ZipFile, member: _Member, plan: _Plan, reading: Reading
) -> NDArray[np.uint8]:
    """The images of an array as uint8, N x C x H x W; it is decompressed twice if it is not uint8,
    since only all of its values say which one is white."""
    seen = Seen()
    if member.dtype != np.uint8 and reading.scale is None:
        for block in _blocks(where, archive, member, plan):
            seen.add(block)
    white = white_in(seen, member.dtype, reading.scale)
    rounded = reading.scale is not None or white == SIXTEEN_BITS
    images = np.empty(plan.stored, np.uint8)
    done, seen = 0, Seen()
    for block in _blocks(where, archive, member, plan):
        seen.add(block)
        check_range(where, seen, white)
        levels = as_levels(where, block, white, rounded=rounded)
        by_rows = levels if plan.channels_last else levels.transpose(0, 2, 3, 1)
        for pixels in by_rows if reading.size else ():
            images[done] = resized(pixels, reading.size).transpose(2, 0, 1)
            done += 1
        if not reading.size:
            images[done : done + len(block)] = by_rows.transpose(0, 3, 1, 2)
            done += len(block)
    if reading.scale is None:
        check_brightness(where, seen.highest, white)
    return images


def _blocks(
    where: str, archive: zipfile.ZipFile, member: _Member, plan: _Plan
) -> Iterator[NDArray[np.generic]]:
    """An array's values, some images at a time, in the shape of the plan.

    Only an array stored by columns (Fortran's order) has to be in memory whole.
    """
    if member.columns_first:
        refuse_if_too_large(where, member.size)
        yield _whole(where, archive, member).reshape(plan.shape)
        return
    each = max(1, _BLOCK // max(1, member.size // plan.shape[0]))
    with archive.open(member.name) as stream:
        _header(where, stream)
        for start in range(0, plan.shape[0], each):
            shape = (min(each, plan.shape[0] - start), *plan.shape[1:])
            content = stream.read(member.dtype.itemsize * math.prod(shape))
            if len(content) < member.dtype.itemsize * math.prod(shape):
                raise EOFError("ends too early")
            yield np.frombuffer(content, member.dtype).reshape(shape)


def _whole(where: str, archive: zipfile.ZipFile, member: _Member) -> NDArray[np.generic]:
    try:
        with archive.open(member.name) as stream:
            array: NDArray[np.generic] = npy.read_array(stream, allow_pickle=False)
            return array
    except ValueError as error:
        raise BadInput(f"{where}: damaged: {reason_of(error)}") from None


def _labels(where: str, archive: zipfile.ZipFile, member: _Member) -> NDArray[np.generic]:
    """Labels, one for each image: whole numbers (also as floats), text, or one-hot rows."""
    array = _whole(where, archive, member)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "buif":
        one_hot = ((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all()
        array = array.argmax(axis=1) if one_hot else array
    if array.ndim != 1 or array.dtype.kind not in "uiUbf":
        shape = " x ".join(map(str, array.shape))
        raise BadInput(
            f"{where}: labels of type {array.dtype} and shape {shape}; expected one whole number "
            "or text per image, or a row with a single 1"
        )
    return array if array.dtype.kind in "Uf" else array.astype(np.int64)
