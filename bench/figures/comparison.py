"""Figures over many runs: score against code size, the ranking, and ranges of ranks."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from bench.core.palette import look
from bench.figures.labels import End, height_for, label_ends
from bench.figures.style import (
    COLOURS,
    INK,
    log_axis,
    plot_canvas,
    put_title,
    score_axis,
    styled,
)
from bench.metrics import METRICS, Metric

_PCA, _MEAN_IMAGE = "pca", "mean_image"
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}


@dataclass(frozen=True)
class Point:
    """A cell of the leaderboard: its name, its code size, and one mean score per seed.

    `variant` selects the look of the line if it differs from the name.
    """

    model: str
    code_size: int
    scores: tuple[float, ...]
    variant: str = ""


@dataclass(frozen=True)
class Bar:
    """A row of a ranking: its name, its mean score and the interval around it."""

    label: str
    mean: float
    low: float
    high: float
    closed_form: bool = False


@dataclass(frozen=True)
class Standing:
    """A row's range of ranks in a table; `place` is its place by the mean, from 1."""

    row: str
    table: str
    low: int
    high: int
    place: int


@styled
def rank_ranges(standings: Sequence[Standing], below: str) -> Figure:
    """The ranges of ranks, a panel per table; rows from the best mean place down.

    A bar is the range that the comparisons leave a row, the dot its place by the mean; bars from
    rank 1 on, of rows that may be the best, are dark. `below` says what the rows share. Needs at
    least one standing.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for each in standings:
        places[each.row].append(each.place)
    rows = sorted(places, key=lambda row: (float(np.mean(places[row])), row))
    tables = list(dict.fromkeys(each.table for each in standings))
    most = max(each.high for each in standings)
    figure, axes = plot_canvas(len(tables), max(1.7, 5.4 / len(tables)), 0.27 * len(rows))
    for ax, table in zip(axes, tables, strict=True):
        for each in (each for each in standings if each.table == table):
            y, is_first = rows.index(each.row), each.low == 1
            ends, colour = (each.low - 0.35, each.high + 0.35), COLOURS[0]
            ax.plot(ends, (y, y), color=colour, lw=7, alpha=0.85 if is_first else 0.3)
            ax.plot(each.place, y, "o", ms=4, color="white" if is_first else INK, zorder=3)
        ax.set_xlim(0.2, most + 0.8)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=2))
        ax.set_yticks(range(len(rows)), rows if ax is axes[0] else [""] * len(rows))
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlabel(f"{table} · rank")
    below += " · dot: place by the mean · dark: may be the best"
    put_title(figure, "Ranges of ranks", below)
    return figure


@styled
def rate_distortion(
    points: Sequence[Point], metric_id: str, below: str, left_out: str = ""
) -> Figure:
    """Score against code size, one line per variant (mean over seeds) with a band over its seeds.

    PCA is the dashed black line, the baseline. The mean image, whose error would take half of the
    scale, is a note. `below` says what the points share: data set, protocol, seeds; `left_out`
    which variants have no point, and why. Needs at least one point.
    """
    metric = METRICS[metric_id]
    by_model: dict[str, list[Point]] = defaultdict(list)
    points, notes = _without_mean_image(points, metric)
    for point in sorted(points, key=lambda point: point.code_size):
        by_model[point.model].append(point)
    figure, (ax,) = plot_canvas(1, 5.9, max(3.6, 0.2 + height_for(len(by_model))))
    ends = [_line(ax, row) for row in by_model.values()]
    _scales(ax, points, metric)
    ax.set_xlabel("code size (numbers per image)")
    score_axis(ax, metric, "y")
    label_ends(ax, ends)
    bands = any(min(point.scores) < max(point.scores) for point in points)
    below += " · bands: lowest to highest seed" if bands else ""
    notes += [f"Not drawn: {left_out}"] if left_out else []
    put_title(figure, f"{metric.title} against code size", below, ". ".join(notes))
    return figure


def _without_mean_image(
    points: Sequence[Point], metric: Metric
) -> tuple[Sequence[Point], list[str]]:
    """The points of the other variants, and the score of the mean image as a note."""
    others = [point for point in points if point.model != _MEAN_IMAGE]
    constant = [score for point in points if point.model == _MEAN_IMAGE for score in point.scores]
    if not others or not constant:
        return points, []
    score = f"{np.mean(constant):.{metric.decimals}f}"
    return others, [f"Predicting the mean image scores {score}"]


def _line(ax: Axes, points: list[Point]) -> End:
    """Draw a variant's means and the band over its seeds; returns the end of the line."""
    name, variant = points[0].model, points[0].variant or points[0].model
    style, hollow = look(variant), variant != name
    sizes = [point.code_size for point in points]
    means = [float(np.mean(point.scores)) for point in points]
    lows, highs = [min(p.scores) for p in points], [max(p.scores) for p in points]
    ax.plot(
        sizes,
        means,
        ls=style.line,
        # A single point needs a marker to be visible.
        marker=style.marker or ("D" if len(points) == 1 else ""),
        ms=5.5,
        color=style.colour,
        mfc="white" if hollow else style.colour,
        zorder=2.5 if style.marker else 2.2,
        label=name,
    )
    if any(low < high for low, high in zip(lows, highs, strict=True)):
        ax.fill_between(sizes, lows, highs, color=style.colour, alpha=0.2, lw=0)
    return End(sizes[-1], means[-1], name, style, hollow)


def _scales(ax: Axes, points: Sequence[Point], metric: Metric) -> None:
    """Log axes: sizes double, with ticks at the points; errors too."""
    ax.set_xscale("log", base=2)
    sizes = sorted({point.code_size for point in points})
    ax.xaxis.set_major_locator(FixedLocator(sizes))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes, [str(size) for size in sizes])
    positive = all(min(point.scores) > 0 for point in points)
    if positive and not metric.higher_is_better:
        means = [float(np.mean(point.scores)) for point in points]
        log_axis(ax, "y", fine=max(means) < 10 * min(means))


@styled
def ranking_bars(bars: Sequence[Bar], metric_id: str, below: str, title: str = "") -> Figure:
    """The score of every variant with its interval, best on top; closed-form rows are hatched.

    The dotted line extends PCA's score through all rows. `below` says what they share: data
    set, track, part, seeds, kind of interval. Needs at least one bar.
    """
    metric = METRICS[metric_id]
    ranked = sorted(bars, key=lambda bar: bar.mean, reverse=metric.higher_is_better)
    figure, (ax,) = plot_canvas(1, 6.4, 0.32 * len(ranked))
    span = max(abs(bar.high) for bar in ranked)
    for i, bar in enumerate(ranked):
        fill = "#d9d9d9" if bar.closed_form else COLOURS[0]
        hatch = "///" if bar.closed_form else ""
        ax.barh(i, bar.mean, color=fill, height=0.66, hatch=hatch, edgecolor="white", lw=0)
        error = [[bar.mean - bar.low], [bar.high - bar.mean]]
        ax.errorbar(bar.mean, i, xerr=error, color=INK, capsize=3, lw=1.2)
        text = f"{bar.mean:.{metric.decimals}f}"
        ax.text(
            max(bar.mean, bar.high) + 0.012 * span, i, text, va="center", fontsize=8.5, bbox=_PAPER
        )
        if bar.label == _PCA:
            ax.axvline(bar.mean, color=INK, ls=":", lw=1.2, zorder=0.5)
    ax.set_yticks(range(len(ranked)), [bar.label for bar in ranked])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.margins(x=0.12)
    score_axis(ax, metric)
    below += " · dotted: PCA" if any(bar.label == _PCA for bar in ranked) else ""
    put_title(figure, title or f"Ranking by {metric.title.lower()}", below)
    return figure
