"""Sheets of images: everything is pasted into one array and drawn by a single imshow.

One picture of 64 images so takes 20 ms; 64 axes take more than a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.figures.style import DPI, put_title

Images = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# Pixels on the figure: an image, the widest sheet, the gap between images and between blocks, a
# line of text, a letter of the line below the title, and the margins.
_CELL, _WIDEST, _GAP, _BLOCK, _LINE, _LETTER = 84, 900, 3, 14, 16, 6.8
_MARGIN, _HEAD, _LABELS = 12, 58, 124


@dataclass(frozen=True)
class Row:
    """One row of a sheet: images Columns x C x H x W, a label at its left, texts above them."""

    images: Images
    label: str = ""
    above: Sequence[str] = ()
    new_block: bool = False


def image_grid(images: Images, upscale: int = 4) -> Pixels:
    """Tile images [R, Columns, C, H, W] in [0, 1] into one RGB picture, for logging as it is.

    Every pixel becomes `upscale` x `upscale` pixels (28 pixel images are tiny on a screen), with
    white lines between images. Returns uint8 [height, width, 3].
    """
    gap = max(1, upscale // 2)
    lefts = np.arange(images.shape[1]) * (images.shape[4] * upscale + gap)
    tops = np.arange(images.shape[0]) * (images.shape[3] * upscale + gap)
    return _paste(images, tops, lefts, upscale)


def _paste(rows: Sequence[Images] | Images, tops: Pixels, lefts: Pixels, upscale: int) -> Pixels:
    """A white RGB canvas with every image at its place."""
    height, width = (side * upscale for side in rows[0].shape[-2:])
    canvas = np.full((tops[-1] + height, lefts[-1] + width, 3), 255, np.uint8)
    for row, top in zip(rows, tops, strict=True):
        for image, left in zip(row, lefts, strict=False):
            canvas[top : top + height, left : left + width] = _enlarged(image, upscale)
    return canvas


def _enlarged(image: Images, upscale: int) -> Pixels:
    """One image C x H x W in [0, 1] as uint8 RGB, every pixel repeated."""
    # nan_to_num: what a diverged model gives is drawn black instead of undefined.
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
    """Rows of images with their labels; before the columns in `breaks` stands a wider gap.

    `cell`: about how many pixels of the figure an image takes, where 84 would be too many.
    """
    height, width = rows[0].images.shape[-2:]
    columns = max(len(row.images) for row in rows)
    upscale = max(1, round((cell or _CELL) / max(height, width)))
    # Small images fill whole pixels of the figure; what is too wide is scaled down by matplotlib.
    scale = min(1.0, _WIDEST / (columns * width * upscale))
    lines = max((text.count("\n") + 1 for row in rows for text in row.above), default=1)
    gap, block, line = (round(size / scale) for size in (_GAP, _BLOCK, lines * _LINE))
    lefts = np.arange(columns) * (width * upscale + gap)
    for start in breaks:
        lefts[start:] += block
    spaces = [gap + block * row.new_block + line * bool(row.above) for row in rows]
    # What stands above the first row is drawn outside the axes.
    tops = np.cumsum([0, *(height * upscale + space for space in spaces[1:])])
    canvas = _paste([row.images for row in rows], tops, lefts, upscale)
    figure, ax = _figure_around(canvas, scale, rows, below)
    for row, top in zip(rows, tops, strict=True):
        middle = top + height * upscale / 2
        ax.text(-10 / scale, middle, row.label, ha="right", va="center", fontsize=9)
        for text, left in zip(row.above, lefts, strict=False):
            centre = left + width * upscale / 2
            ax.text(centre, top - 4 / scale, text, ha="center", va="bottom", fontsize=7.5)
    put_title(figure, title, below)
    return figure


def _figure_around(
    canvas: Pixels, scale: float, rows: Sequence[Row], below: str
) -> tuple[Figure, Axes]:
    """A figure in which the canvas fills its axes pixel by pixel (times `scale`), wide enough for
    the line `below` its title."""
    high, wide = (side * scale for side in canvas.shape[:2])
    longest = max(len(line) for row in rows for line in row.label.splitlines() or [""])
    left = max(_LABELS, 22 + 7 * longest) if longest else _MARGIN
    head = _HEAD + _LINE * max((text.count("\n") + 1 for text in rows[0].above), default=0)
    total_wide = max(left + wide + _MARGIN, 2 * _MARGIN + _LETTER * len(below), 480)
    total_high = head + high + _MARGIN
    figure = Figure(figsize=(total_wide / DPI, total_high / DPI))
    place = (left / total_wide, _MARGIN / total_high, wide / total_wide, high / total_high)
    ax = figure.add_axes(place)
    ax.imshow(canvas, interpolation="nearest" if scale == 1 else "antialiased", aspect="auto")
    ax.set_axis_off()
    return figure, ax
