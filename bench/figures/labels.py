"""Labels at the ends of lines, so that many lines can be told apart without a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from bench.core.palette import Look
from bench.figures.style import DPI, INK, MUTED

_SIZE = 8.5
_GAP = 13.0
_FIRST, _MARK, _TEXT = 22.0, 30.0, 38.0
"""Pixels: between two labels; from the axes to the leader's end, to the mark, and to the text."""


@dataclass(frozen=True)
class End:
    """The end of a line in axes coordinates, its name and its look.

    `hollow`: its markers are not filled.
    """

    x: float
    y: float
    text: str
    look: Look
    hollow: bool = False


def height_for(names: int) -> float:
    """Height of the axes, in inches, that fits so many labels."""
    return (names + 1) * _GAP / DPI


def label_ends(ax: Axes, ends: Sequence[End]) -> None:
    """Write every line's name right of the axes, as close to its end as the other labels allow.

    A thin grey leader connects the name to the end: it does not look like data. Limits, scales and
    size of the axes must be final; `put_title` keeps the size.
    """
    if not ends:
        return
    # Drawing a leader must not change the limits used to place it.
    ax.set_xlim(ax.get_xlim())
    ax.set_ylim(ax.get_ylim())
    box = ax.bbox
    wanted = ax.transData.transform([(end.x, end.y) for end in ends])[:, 1] - box.y0
    places = spread(np.clip(wanted, 0, box.height), _GAP, box.height)
    across = [1 + pixels / box.width for pixels in (_FIRST, _MARK, _TEXT)]
    for end, place in zip(ends, places / box.height, strict=True):
        _leader(ax, end, (across[0], float(place)))
        _mark(ax, end.look, end.hollow, (across[1], float(place)))
        ax.text(
            across[2],
            place,
            end.text,
            transform=ax.transAxes,
            fontsize=_SIZE,
            va="center",
            color=INK,
        )


def _leader(ax: Axes, end: End, target: tuple[float, float]) -> None:
    """A thin grey line from the end of a line to its label; dotted where it crosses the axes."""
    crosses = ax.transData.transform((end.x, end.y))[0] < ax.bbox.x0 + 0.9 * ax.bbox.width
    ax.annotate(
        "",
        xy=(end.x, end.y),
        xytext=target,
        textcoords="axes fraction",
        annotation_clip=False,
        in_layout=False,
        arrowprops={
            "arrowstyle": "-",
            "color": MUTED,
            "ls": ":" if crosses else "-",
            "lw": 0.5,
            "alpha": 0.6,
            "shrinkA": 0,
            "shrinkB": 4,
        },
    )


def _mark(ax: Axes, look: Look, hollow: bool, place: tuple[float, float]) -> None:
    """The marker of a line in front of its name; a dash for a line without markers. It belongs to
    the figure, because lines in the axes are data."""
    half = 5 / ax.bbox.width
    across = [place[0]] if look.marker else [place[0] - half, place[0] + half]
    mark = Line2D(
        across,
        [place[1]] * len(across),
        ls="-",
        color=look.colour,
        marker=look.marker,
        ms=5,
        lw=1.8,
        mfc="white" if hollow else look.colour,
        transform=ax.transAxes,
    )
    ax.figure.add_artist(mark)


def spread(wanted: NDArray[np.float64], gap: float, highest: float) -> NDArray[np.float64]:
    """Positions as close as possible (least squares) to the wanted ones, at least `gap` apart.

    Between 0 and `highest` if all fit, else beyond it. After subtracting the gaps, the positions
    must not decrease: isotonic regression, solved by pooling adjacent violators
    (Barlow and others 1972).
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    pools: list[tuple[float, int]] = []
    for value in wanted[order] - steps:
        mean, count = float(value), 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        pools.append((mean, count))
    rising = np.concatenate([np.full(count, mean) for mean, count in pools]) + steps
    rising = np.maximum(np.minimum(rising, highest - steps[::-1]), steps)
    places: NDArray[np.float64] = np.empty_like(rising)
    places[order] = rising
    return places
