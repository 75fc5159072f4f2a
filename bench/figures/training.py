"""The training curves of many variants in one figure."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.core.spec import RunRecord
from bench.figures.curves import LOG_FROM, on_both_scales
from bench.figures.group import Cell, Group
from bench.figures.labels import End, height_for, label_ends
from bench.figures.style import counted, log_axis, plot_canvas, put_title, styled
from bench.metrics import Metric

Curve = Mapping[int, float]
"""Values by epoch."""
Drawn = list[tuple[Cell, Mapping[str, Curve]]]
"""Cells with the curve of each of their runs, by run key."""


@styled
def training_curves(group: Group) -> Figure:
    """The selection metric of every variant by epoch, on training and on validation images.

    The line is the run that represents its cell, the band covers all seeds; solved variants
    are horizontal lines on the validation side. If training did not record the metric, the left
    side shows the objective; if no images were held out, only the left side is drawn.
    """
    metric = group.metric
    validation = _curves(group, f"val/{metric.id}")
    training, what = _training(group)
    levels = {
        cell.name: scores[0]
        for cell in group.cells
        if cell.closed_form and (scores := cell.scores("val", metric.id))
    }
    labelled = validation or training
    names = [*(cell.name for cell, _ in labelled), *levels]
    sides, width = (2, 3.7) if validation else (1, 4.5)
    figure, axes = plot_canvas(sides, width, max(2.4, 0.2 + 1.4 * height_for(len(names))))
    ends = _draw(axes[0], training, {}, group)
    if validation:
        axes[0].set_title(f"Training: {what}")
        ends = _draw(axes[1], validation, levels, group)
        better = "higher" if metric.higher_is_better else "lower"
        axes[1].set_title(f"Validation: {metric.title.lower()}, {better} is better")
    left, right = _values(training), [*_values(validation), *levels.values()]
    if validation and what == metric.title.lower():
        # A common scale makes the gap between training and validation visible.
        _scale(axes, left + right, metric)
    else:
        for ax, values in zip(axes, (left, right), strict=False):
            _scale([ax], values, metric)
    label_ends(axes[-1], ends)
    below = f"{group.about} · {group.seeds}"
    if group.several:
        below += f" (line: the {group.shown} one, band: all)"
    below += "" if validation else f" · {what}, training images"
    put_title(figure, f"Training curves of {counted(len(names), 'variant')}", below)
    return figure


def _training(group: Group) -> tuple[Drawn, str]:
    """The curves on training images, and what they show."""
    found = _curves(group, f"train/{group.metric.id}")
    if found:
        return found, group.metric.title.lower()
    return _curves(group, "train/loss"), "each variant's own objective"


def lacks_training(group: Group) -> str:
    """Why there are no training curves to draw; empty if there are."""
    drawn = _curves(group, f"val/{group.metric.id}") or _training(group)[0]
    longest = max((len(curve) for _, found in drawn for curve in found.values()), default=0)
    return "" if longest > 1 else "no run of two epochs"


def _curves(group: Group, key: str) -> Drawn:
    """The cells whose history holds finite values of `key`, with the curve of every seed."""
    found: Drawn = []
    for cell in group.cells:
        curves = {record.run_key: _curve(record, key) for record in cell.records}
        curves = {run_key: curve for run_key, curve in curves.items() if curve}
        found += [(cell, curves)] if curves else []
    return found


def _curve(record: RunRecord, key: str) -> Curve:
    values = {each.epoch: each.values.get(key, math.nan) for each in on_both_scales(record)}
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def _draw(ax: Axes, drawn: Drawn, levels: Mapping[str, float], group: Group) -> list[End]:
    """Draw every cell; returns the ends of the lines, for their labels."""
    ends = [_line(ax, cell, curves) for cell, curves in drawn]
    last = ax.get_xlim()[1]
    for cell in group.cells:
        if cell.name in levels:
            level = levels[cell.name]
            ax.axhline(level, ls=cell.look.line, color=cell.look.colour, lw=1.6, label=cell.name)
            ends.append(End(last, level, cell.name, cell.look))
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ends


def _scale(sides: Sequence[Axes], values: Sequence[float], metric: Metric) -> None:
    """One range for all sides; on a linear axis errors of many variants crowd at the lower end."""
    factor = LOG_FROM if metric.higher_is_better else 1.5
    if values and min(values) > 0 and max(values) >= factor * min(values):
        for ax in sides:
            log_axis(ax, "y")
    limits = [limit for ax in sides for limit in ax.get_ylim()]
    for ax in sides:
        ax.set_ylim(min(limits), max(limits))


def _values(drawn: Drawn) -> list[float]:
    return [v for _, curves in drawn for curve in curves.values() for v in curve.values()]


def _line(ax: Axes, cell: Cell, curves: Mapping[str, Curve]) -> End:
    """The median run as a line, the range of all runs as a band; returns the end of the line."""
    shown = cell.shown.run_key if cell.shown else ""
    median = curves[shown if shown in curves else min(curves)]
    look, epochs = cell.look, list(median)
    ax.plot(
        epochs,
        list(median.values()),
        look.line,
        color=look.colour,
        marker=look.marker,
        markevery=max(1, len(epochs) // 6),
        ms=4.5,
        lw=1.4,
        mfc="white" if cell.hollow else look.colour,
        label=cell.name,
    )
    if len(curves) > 1:
        every = sorted({epoch for curve in curves.values() for epoch in curve})
        there = [[curve[epoch] for curve in curves.values() if epoch in curve] for epoch in every]
        lows, highs = list(map(min, there)), list(map(max, there))
        ax.fill_between(every, lows, highs, color=look.colour, alpha=0.12, lw=0)
    return End(epochs[-1], median[epochs[-1]], cell.name, look, cell.hollow)
