"""Sheets of images: all images are pasted into one array and drawn by a single imshow.

A sheet of 64 images takes 20 ms this way; 64 axes take more than a second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.figures.style import DPI, text_width, title_width, write_title

Images = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# Pixels on the figure: an image, the widest sheet, the gap between images and between blocks, a
# line of text, the gap between two texts, and the margins.
_CELL, _WIDEST, _GAP, _BLOCK, _LINE, _APART = 84, 900, 3, 14, 16, 9
_MARGIN, _HEAD, _LABELS = 12, 58, 124
_TALLEST = 2.5
"""Cells that a tall image may cover."""
_ABOVE, _BESIDE = 7.5, 9
"""Font sizes in points of the texts above and beside images."""


@dataclass(frozen=True)
class Row:
    """One row of a sheet: images Columns x C x H x W, a label at its left, texts above them."""

    images: Images
    label: str = ""
    above: Sequence[str] = ()
    new_block: bool = False


def image_grid(images: Images, upscale: int = 4) -> Pixels:
    """Tile images [R, Columns, C, H, W] in [0, 1] into one RGB picture, ready for logging.

    Every pixel becomes `upscale` x `upscale` pixels (28 pixel images are tiny on a screen), with
    white lines between images. Returns uint8 [height, width, 3].
    """
    gap = max(1, upscale // 2)
    lefts = np.arange(images.shape[1]) * (images.shape[4] * upscale + gap)
    tops = np.arange(images.shape[0]) * (images.shape[3] * upscale + gap)
    return _paste(images, tops, lefts, upscale)


def _paste(rows: Sequence[Images] | Images, tops: Pixels, lefts: Pixels, upscale: int) -> Pixels:
    """A white RGB canvas with every image in its place."""
    height, width = (side * upscale for side in rows[0].shape[-2:])
    canvas = np.full((tops[-1] + height, lefts[-1] + width, 3), 255, np.uint8)
    for row, top in zip(rows, tops, strict=True):
        for image, left in zip(row, lefts, strict=False):
            canvas[top : top + height, left : left + width] = _enlarged(image, upscale)
    return canvas


def _enlarged(image: Images, upscale: int) -> Pixels:
    """One image C x H x W in [0, 1] as uint8 RGB, every pixel repeated."""
    # nan_to_num: values of a diverged model are drawn black instead of undefined.
    levels = np.rint(np.nan_to_num(image).clip(0, 1) * 255).astype(np.uint8)
    rgb = np.broadcast_to(levels, (3, *levels.shape[1:])).transpose(1, 2, 0)
    return rgb.repeat(upscale, 0).repeat(upscale, 1)


def draw_sheet(
    title: str,
    below: str,
    rows: Sequence[Row],
    breaks: Sequence[int] = (),
    cell: int | None = None,
) -> Figure:
    """Rows of images with their labels; a wider gap precedes the columns in `breaks`.

    `cell`: about how many pixels of the figure an image covers, if 84 are too many.
    """
    height, width = rows[0].images.shape[-2:]
    columns = max(len(row.images) for row in rows)
    upscale = _upscale(height, width, columns, cell or _CELL)
    # Small images fill whole pixels of the figure; matplotlib scales down large ones.
    wide, high = width * upscale, height * upscale
    scale = min(1.0, _WIDEST / (columns * wide), _TALLEST * (cell or _CELL) / high)
    lines = max((text.count("\n") + 1 for row in rows for text in row.above), default=1)
    gap, block, line = (round(size / scale) for size in (_GAP, _BLOCK, lines * _LINE))
    longest = max((text_width(text, _ABOVE) for row in rows for text in row.above), default=0.0)
    lefts = np.arange(columns) * max(wide + gap, math.ceil((longest + _APART) / scale))
    for start in breaks:
        lefts[start:] += block
    beside = max(row.label.count("\n") + 1 if row.label else 0 for row in rows)
    gap += max(0, round(beside * _LINE / scale) - high)
    spaces = [gap + block * row.new_block + line * bool(row.above) for row in rows]
    # Texts above the first row are drawn outside the axes.
    tops = np.cumsum([0, *(high + space for space in spaces[1:])])
    canvas = _paste([row.images for row in rows], tops, lefts, upscale)
    jut = max(0.0, longest - wide * scale) / 2
    figure, ax = _figure_around(canvas, scale, rows, jut, DPI * title_width(title, below))
    for row, top in zip(rows, tops, strict=True):
        middle = top + high / 2
        ax.text(-10 / scale, middle, row.label, ha="right", va="center", fontsize=_BESIDE)
        for text, left in zip(row.above, lefts, strict=False):
            centre = left + wide / 2
            ax.text(centre, top - 4 / scale, text, ha="center", va="bottom", fontsize=_ABOVE)
    write_title(figure, title, below)
    return figure


def _upscale(height: int, width: int, columns: int, cell: int) -> int:
    """How often each pixel is repeated: an image covers about `cell` x `cell` pixels, a narrow one
    is at most 1.5 times as high, and the columns fit into the widest sheet."""
    area = round(cell / math.sqrt(height * width))
    return max(1, min(area, 3 * cell // (2 * height), _WIDEST // (columns * width)))


def _figure_around(
    canvas: Pixels, scale: float, rows: Sequence[Row], jut: float, least: float
) -> tuple[Figure, Axes]:
    """A figure in which the canvas fills its axes pixel by pixel (times `scale`); texts above
    images extend beyond it by `jut` on either side; at `least` so many wide."""
    high, wide = (side * scale for side in canvas.shape[:2])
    beside = max(text_width(row.label, _BESIDE) for row in rows)
    labels = max(_LABELS, 10 + beside + _MARGIN) if beside else 0
    left = math.ceil(max(labels, _MARGIN + jut))  # whole pixels, otherwise images blur
    head = _HEAD + _LINE * max((text.count("\n") + 1 for text in rows[0].above), default=0)
    total_wide = max(left + math.ceil(wide + jut) + _MARGIN, math.ceil(least), 480)
    total_high = head + high + _MARGIN
    figure = Figure(figsize=(total_wide / DPI, total_high / DPI))
    place = (left / total_wide, _MARGIN / total_high, wide / total_wide, high / total_high)
    ax = figure.add_axes(place)
    ax.imshow(canvas, interpolation="nearest" if scale == 1 else "antialiased", aspect="auto")
    ax.set_axis_off()
    return figure, ax
