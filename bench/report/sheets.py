"""Small pictures as PNG in the page, with the same bytes on every machine.

Versions of zlib compress the same pixels to different bytes, so the pixels are stored as they are
(PNG, third edition, section 10; RFC 1950 and RFC 1951, "non-compressed blocks").
"""

import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sheet = NDArray[np.uint8]
"""Pictures of one row: N x C x H x W, grey (C = 1) or colours (C = 3)."""

BUDGET = 5_000_000
"""Bytes of all pictures of a page together, at most."""
_PAGE = 7_500_000  # bytes of a page, which with its script and style stays below 8 MB
_SHADES = 4  # bits of a grey pixel where 8 take too many bytes
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


@dataclass(frozen=True)
class Fit:
    """How the pictures of a page fit into it.

    `most`: how many of each sheet, all of them where it is None. `bits`: of a grey pixel, 8 or 4.
    """

    most: int | None = None
    bits: int = 8


def affordable(sheets: Iterable[Sheet], taken: int = 0) -> Fit:
    """All pictures as they are, else in 16 shades of grey, else fewer of them, at least one.

    They get BUDGET, or less where the rest of the page has `taken` too many bytes.
    """
    found = list(sheets)
    room = min(BUDGET, _PAGE - taken - _FRAME * len(found))
    if not found or sum(map(_bytes, found)) <= room:
        return Fit()
    needed = sum(_bytes(sheet, _SHADES) for sheet in found)
    if needed <= room:
        return Fit(bits=_SHADES)
    most = max(len(sheet) for sheet in found)
    return Fit(max(1, int(most * room / needed)), _SHADES)


def _bytes(sheet: Sheet, bits: int = 8) -> float:
    """Of its pixels in the page."""
    return sheet.size * 4 / 3 * (bits / 8 if sheet.shape[1] == 1 else 1)


def data_uri(sheet: Sheet, bits: int = 8) -> str:
    """The pictures side by side as a `data:` address."""
    return "data:image/png;base64," + b64encode(png(sheet, bits)).decode()


def png(sheet: Sheet, bits: int = 8) -> bytes:
    """The pictures (N, C, H, W) side by side, as a PNG of N * W x H pixels.

    `bits`: of a grey pixel. 4 round to 16 shades; colours always have 8.
    """
    count, channels, height, width = sheet.shape
    lines = sheet.transpose(2, 0, 3, 1).reshape(height, count * width * channels)
    if channels > 1:
        bits = 8
    if bits == _SHADES:
        shades = ((lines.astype(np.uint16) + 8) // 17).astype(np.uint8)
        pairs = np.pad(shades, ((0, 0), (0, shades.shape[1] % 2)))
        lines = pairs[:, ::2] * np.uint8(16) + pairs[:, 1::2]
    unfiltered = np.zeros((height, 1), np.uint8)
    header = (count * width, height, bits, _COLOURS[channels], 0, 0, 0)
    pixels = np.concatenate([unfiltered, lines], axis=1).tobytes()
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", *header)),
        (b"IDAT", _stored(pixels)),
        (b"IEND", b""),
    ]
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
