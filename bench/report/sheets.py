"""Small pictures as PNG in the page, with the same bytes on every machine.

Versions of zlib compress the same pixels to different bytes, so the pixels are stored as they are
(PNG, third edition, section 10; RFC 1950 and RFC 1951, "non-compressed blocks").
"""

import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Sheet = NDArray[np.uint8]
"""Pictures of one row: N x C x H x W, grey (C = 1) or colours (C = 3)."""

BUDGET = 5_000_000
"""Bytes of all pictures of a page together, at most."""
_PAGE = 7_500_000  # bytes of a page, which with its script and style stays below 8 MB
_FRAME = 500  # bytes of a row's pictures beside their pixels
_STORED = 65_535  # bytes of a block that is not compressed
_COLOURS = {1: 0, 3: 2}


def can_show(sheet: Sheet) -> bool:
    """Whether these are pictures that a PNG can hold: at least one, grey or in colours."""
    return (
        sheet.dtype == np.uint8
        and sheet.ndim == 4
        and sheet.shape[1] in _COLOURS
        and sheet.size > 0
    )


def affordable(sheets: Iterable[Sheet], taken: int = 0) -> int | None:
    """How many pictures of each sheet fit, at least one; None: all of them.

    They get BUDGET, or less where the rest of the page has `taken` too many bytes.
    """
    found = list(sheets)
    room = min(BUDGET, _PAGE - taken - _FRAME * len(found))
    needed = sum(sheet.size for sheet in found) * 4 / 3
    if not found or needed <= room:
        return None
    most = max(len(sheet) for sheet in found)
    return max(1, int(most * room / needed))


def data_uri(sheet: Sheet) -> str:
    """The pictures side by side as a `data:` address."""
    return "data:image/png;base64," + b64encode(png(sheet)).decode()


def png(sheet: Sheet) -> bytes:
    """The pictures (N, C, H, W) side by side, as a PNG of N * W x H pixels."""
    count, channels, height, width = sheet.shape
    lines = sheet.transpose(2, 0, 3, 1).reshape(height, count * width * channels)
    unfiltered = np.zeros((height, 1), np.uint8)
    header = struct.pack(">IIBBBBB", count * width, height, 8, _COLOURS[channels], 0, 0, 0)
    pixels = np.concatenate([unfiltered, lines], axis=1).tobytes()
    chunks = [(b"IHDR", header), (b"IDAT", _stored(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def _stored(content: bytes) -> bytes:
    """A zlib stream of blocks that are not compressed."""
    blocks = []
    for start in range(0, len(content), _STORED):
        block = content[start : start + _STORED]
        last = start + _STORED >= len(content)
        blocks.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    return b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(content))
