"""Scores by class: which classes a variant finds hard."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.core.spec import RunRecord
from bench.figures.style import (
    COLOURS,
    INK,
    MUTED,
    Arrays,
    describe,
    log_axis,
    plot_canvas,
    put_title,
    score_axis,
    short_name,
    styled,
)
from bench.metrics import METRICS

MOST_CLASSES = 30
_LONGEST_NAME = 24
_LOG_FROM = 20.0


@styled
def class_scores(record: RunRecord, arrays: Arrays) -> Figure:
    """The selection metric of single test images as one box per class, the best class on top.

    A box spans the middle half of the class, its bar is the median, the whiskers reach from 5 % to
    95 %, the diamond is the mean, also printed with the name; the dotted line is the mean of all
    images. Of more than 30 classes the worst 30 are shown.
    """
    metric = METRICS[record.spec.selection_metric]
    scores = np.asarray(arrays[f"test/{metric.id}"], np.float64)
    by_class = scores_by_class(scores, np.asarray(arrays["label/test"]))
    order = sorted(by_class, key=lambda label: (by_class[label].mean(), label))
    order = (order[::-1] if metric.higher_is_better else order)[-MOST_CLASSES:]
    names = [_name(record, label, by_class[label].mean(), metric.decimals) for label in order]
    figure, (ax,) = plot_canvas(1, 5.5, 0.1 + 0.32 * len(order))
    _boxes(ax, [by_class[label] for label in order])
    ax.axvline(scores.mean(), color=INK, ls=":", lw=1.2, zorder=0.5)
    ax.set_yticks(range(len(order)), names)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    score_axis(ax, metric)
    shown = "" if len(order) == len(by_class) else f" · worst {len(order)} of {len(by_class)}"
    below = f"{describe(record)} · {len(scores):,} test images{shown}"
    put_title(figure, f"{metric.title} by class: 5, 25, 50, 75, 95 %, ◆ mean, ⋯ all images", below)
    return figure


def scores_by_class(
    scores: NDArray[np.float64], labels: NDArray[np.int64]
) -> dict[int, NDArray[np.float64]]:
    """The finite scores of each class that has any."""
    finite = np.isfinite(scores)
    found = np.unique(labels[finite])
    return {int(label): scores[finite & (labels == label)] for label in found}


def _name(record: RunRecord, label: int, mean: float, decimals: int) -> str:
    return f"{short_name(record.class_names[label], _LONGEST_NAME)}  {mean:.{decimals}f}"


def _boxes(ax: Axes, groups: list[NDArray[np.float64]]) -> None:
    stroke = {"color": INK, "lw": 1.1}
    ax.boxplot(
        groups,
        positions=range(len(groups)),
        orientation="horizontal",
        widths=0.62,
        whis=(5, 95),
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        boxprops={"facecolor": (*COLOURS[0], 0.35), "edgecolor": MUTED},
        medianprops={**stroke, "lw": 1.8},
        whiskerprops=stroke,
        capprops=stroke,
        meanprops={"marker": "D", "ms": 4.5, "mfc": INK, "mec": "white", "mew": 0.6},
    )
    low = min(float(np.quantile(group, 0.05)) for group in groups)
    high = max(float(np.quantile(group, 0.95)) for group in groups)
    if low > 0 and high >= _LOG_FROM * low:
        log_axis(ax, "x")
