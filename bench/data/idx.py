"""IDX, the format of the MNIST family (LeCun et al. 1998), plain or gzip.

A header of big-endian 32-bit numbers, a magic number and the sizes, then one byte per value:
0x803 images (N, H, W), 0x801 labels (N).
"""

import hashlib
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.core.spec import Part
from bench.data.content import LabelledImages, checked_shape
from bench.data.limits import (
    human_size,
    most_that_can_be_in,
    opened,
    read_exactly,
    refuse_if_too_large,
)

_KINDS = {"images": (0x803, 3), "labels": (0x801, 1)}
_STEMS: dict[Part, str] = {"train": "train", "validation": "validation", "test": "t10k"}


def idx_name(part: Part, kind: str) -> str:
    """The usual name of a part's file of `images` or `labels`, such as t10k-labels-idx1-ubyte."""
    return f"{_STEMS[part]}-{kind}-idx{_KINDS[kind][1]}-ubyte"


def read_pair(images_path: Path, labels_path: Path) -> LabelledImages:
    """Read one part from its two IDX files.

    Raises BadInput naming the file for a wrong magic number, swapped, truncated or overlong
    files, sizes that memory or the file cannot hold, shapes that the suite cannot take, and
    counts that differ.
    """
    labels = read_idx(labels_path, "labels")
    images = read_idx(images_path, "images")
    if len(images) != len(labels):
        raise BadInput(
            f"{labels_path}: {len(labels):,} labels for the {len(images):,} images of "
            f"{images_path.name}; the two files do not belong together"
        )
    if not len(images):
        raise BadInput(f"{images_path}: holds no images")
    checked_shape((1, *images.shape[1:]), str(images_path))
    return LabelledImages(images[:, None], labels.astype(np.int64))


def read_idx(path: Path, kind: str) -> NDArray[np.uint8]:
    """Read `images` (N x H x W) or `labels` (N) as uint8; raises BadInput as `read_pair`."""
    magic, dimensions = _KINDS[kind]
    with opened(path) as stream:
        header = stream.read(4 + 4 * dimensions)
        _check_magic(path, header[:4], kind, magic)
        if len(header) < 4 + 4 * dimensions:
            raise BadInput(f"{path}: truncated within its header; get the file again")
        shape = struct.unpack(f">{dimensions}I", header[4:])
        count = math.prod(shape)
        if count > most_that_can_be_in(path):
            raise BadInput(
                f"{path}: truncated or damaged: the header claims "
                f"{' x '.join(f'{n:,}' for n in shape)} values ({human_size(count)}), more than "
                f"a file of {human_size(path.stat().st_size)} can hold; get the file again"
            )
        refuse_if_too_large(str(path), count)
        return read_exactly(stream, count, path).reshape(shape)


def _check_magic(path: Path, first: bytes, kind: str, expected: int) -> None:
    found = int.from_bytes(first, "big")
    if found == expected and len(first) == 4:
        return
    for other, (magic, _) in _KINDS.items():
        if found == magic and other != kind:
            raise BadInput(
                f"{path}: holds {other} (magic number 0x{found:x}), expected {kind} "
                f"(0x{expected:x}); are the files of images and labels swapped?"
            )
    raise BadInput(
        f"{path}: not an IDX file of {kind}: starts with 0x{first.hex() or '0'}, expected "
        f"0x{expected:08x}"
    )


def encode_images(images: NDArray[np.uint8]) -> bytes:
    """The IDX file of grey images (N x 1 x H x W)."""
    count, _, height, width = images.shape
    return struct.pack(">4I", _KINDS["images"][0], count, height, width) + images.tobytes()


def encode_labels(labels: NDArray[np.int64]) -> bytes:
    """The IDX file of labels from 0 to 255 (N)."""
    return struct.pack(">2I", _KINDS["labels"][0], len(labels)) + labels.astype(np.uint8).tobytes()


def encode_part(part: Part, content: LabelledImages) -> dict[str, bytes]:
    """A part as its two IDX files, by file name."""
    return {
        idx_name(part, "images"): encode_images(content.images),
        idx_name(part, "labels"): encode_labels(content.labels),
    }


def sha256_of_part(part: Part, content: LabelledImages) -> dict[str, str]:
    """SHA-256 of a part's two IDX files once decompressed, by file name.

    Computed from the decoded values, so that it also holds for a set read from CSV or NPZ.
    """
    files = encode_part(part, content)
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
