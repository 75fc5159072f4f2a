"""Room for texts, measured with their actual fonts.

Matplotlib's automatic layouts measure and place everything twice. Here only what surrounds the
axes is measured, and the figure grows by the missing room. The axes keep their size.
"""

import math
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

# Matplotlib's own type stubs lack these two.
_Renderer: Any = RendererAgg
_Canvas: Any = FigureCanvasAgg
_EDGE = 7.0
"""Free pixels around labels."""


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in pixels of the longest line of a text, at `size` points."""
    ruler = _Renderer(1, 1, mpl.rcParams["figure.dpi"])
    font = FontProperties(size=size, weight=weight)
    lines = (ruler.get_text_width_height_descent(line, font, False) for line in text.splitlines())
    return max((width for width, _, _ in lines), default=0.0)


def widest(texts: Iterable[str], size: float) -> float:
    """Width in pixels of the longest text; 0 if there are none."""
    return max((text_width(text, size) for text in texts), default=0.0)


def wrapped(text: str, size: float, room: float) -> str:
    """Break a text between words into lines no wider than `room` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def make_room(figure: Figure) -> None:
    """Grow the figure until ticks and labels of all axes are inside it and clear of the axes
    to their left. Scales and limits must be final."""
    renderer = _Canvas(figure).get_renderer()
    shifts: dict[Axes, float] = {}
    shift = bottom = right = edge = labels_end = 0.0
    for ax in sorted((ax for ax in figure.axes if ax.axison), key=lambda ax: float(ax.bbox.x0)):
        below, beside = ax.xaxis.get_tightbbox(renderer), ax.yaxis.get_tightbbox(renderer)
        lacking = [0.0]
        if beside is not None:
            lacking.append(edge + _EDGE - beside.x0)
            bottom = max(bottom, _EDGE - beside.y0)
        if below is not None:
            lacking.append(labels_end + _EDGE - below.x0)
            bottom = max(bottom, _EDGE - below.y0)
            labels_end = below.x1
            right = below.x1 + _EDGE - figure.bbox.width
        shift += max(lacking)
        shifts[ax] = shift
        edge = ax.bbox.x1
    grow(figure, shifts, right=shift + max(0.0, right), bottom=bottom)


def grow(
    figure: Figure,
    shifts: dict[Axes, float] | None = None,
    right: float = 0.0,
    bottom: float = 0.0,
) -> None:
    """Make a figure wider and higher by some pixels; axes move by their `shifts`, up by `bottom`.

    Call it before placing anything on the figure itself, which would move.
    """
    if right <= 0 and bottom <= 0:
        return
    boxes = {ax: ax.bbox.frozen() for ax in figure.axes}
    right, bottom = math.ceil(max(0.0, right)), math.ceil(max(0.0, bottom))
    wide, high = figure.bbox.width + right, figure.bbox.height + bottom
    figure.set_size_inches(wide / figure.dpi, high / figure.dpi)
    for ax, box in boxes.items():
        left = box.x0 + (shifts or {}).get(ax, 0.0)
        place = (left / wide, (box.y0 + bottom) / high, box.width / wide, box.height / high)
        ax.set_position(place)
