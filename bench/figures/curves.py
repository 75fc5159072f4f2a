"""Training curves and the spread of the scores over images."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench.core.spec import EpochValues, RunRecord
from bench.core.tasks import TASKS
from bench.figures.style import (
    COLOURS,
    INK,
    LINES,
    MARKERS,
    MUTED,
    Arrays,
    describe,
    legend_below,
    log_axis,
    plot_canvas,
    put_title,
    styled,
)
from bench.metrics import METRICS

LOG_FROM = 5.0
"""Curves that fall by at least this factor are drawn on a log scale."""


@styled
def loss_curves(record: RunRecord, _arrays: Arrays) -> Figure:
    """The objective with its terms, and the selection metric with the kept epoch. Training and
    validation share the axes if they are comparable.

    Training values are means over the batches of an epoch, during which the weights change.
    """
    history = on_both_scales(record)
    figure, (left, right) = plot_canvas(2, 3.7, 2.2)
    _curves(left, history, _objective(history))
    left.set_title("Training objective")
    selection = METRICS[record.spec.selection_metric]
    parts = {f"{part}/{selection.id}": name for part, name in _PARTS.items()}
    better = "higher" if selection.higher_is_better else "lower"
    _curves(right, history, parts)
    right.set_title(f"{_with_unit(selection.title, selection.unit)}, {better} is better")
    if "best_epoch" in record.facts:
        _mark_epoch(right, history, int(record.facts["best_epoch"]), f"val/{selection.id}")
    put_title(figure, "Training curves", describe(record))
    return figure


def on_both_scales(record: RunRecord) -> tuple[EpochValues, ...]:
    """An autoencoder's history, with `train/mse` and `val/reconstruction` added if missing.

    The reconstruction term is the squared error on the variant's own value range, `mse` the same
    on [0, 1] (clipped, unlike the term): they differ by the square of the range's width.
    """
    low, high = record.value_range
    area = (high - low) ** 2
    if TASKS[record.spec.task].judges != "autoencoder":
        return record.history
    return tuple(
        dataclasses.replace(each, values=_completed(each.values, area)) for each in record.history
    )


def _completed(values: Mapping[str, float], area: float) -> dict[str, float]:
    found = dict(values)
    if "train/reconstruction" in values:
        found.setdefault("train/mse", values["train/reconstruction"] / area)
    if "val/mse" in values:
        found.setdefault("val/reconstruction", values["val/mse"] * area)
    return found


_PARTS = {"train": "training", "val": "validation"}
_WHOLE = ("val/loss", "val/cross_entropy")
"""The objective on validation images; for a classifier, the cross-entropy."""
_TERMS = {
    "train/reconstruction": "training reconstruction term",
    "train/penalty": "training penalty term",
}


def _objective(history: Sequence[EpochValues]) -> dict[str, str]:
    """The keys of the objective with their names; its terms only if there is a penalty."""
    penalised = any(values.values.get("train/penalty") for values in history)
    there = {key for values in history for key in values.values}
    whole = next((key for key in _WHOLE if key in there), "")
    validation = whole or "val/reconstruction"
    term = "loss" if whole or not penalised else "reconstruction term"
    # In this order training and validation look the same in both panels.
    names = {"train/loss": "training loss", validation: f"validation {term}"}
    return names | (_TERMS if penalised else {})


def _curves(ax: Axes, history: Sequence[EpochValues], keys: Mapping[str, str]) -> None:
    """One line for each of the keys that the history has."""
    drawn: list[float] = []
    for i, (key, name) in enumerate(keys.items()):
        points = [(each.epoch, each.values[key]) for each in history if key in each.values]
        if not points:
            continue
        epochs, values = zip(*points, strict=True)
        marker = MARKERS[i] if len(points) <= 40 else ""
        ax.plot(epochs, values, LINES[i], color=COLOURS[i], marker=marker, ms=4, label=name)
        drawn += [value for value in values if np.isfinite(value)]
    if drawn and min(drawn) > 0 and max(drawn) >= LOG_FROM * min(drawn):
        log_axis(ax, "y")
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if drawn:
        legend_below(ax)


def _mark_epoch(ax: Axes, history: Sequence[EpochValues], epoch: int, key: str) -> None:
    """Mark the epoch whose weights were kept, with its score."""
    scores = [each.values[key] for each in history if each.epoch == epoch and key in each.values]
    ax.axvline(epoch, color=MUTED, lw=1, ls=":")
    if scores:
        ax.plot([epoch], scores[:1], "*", ms=13, color=INK, zorder=5)
        ax.set_xlabel(f"epoch  (★ kept: epoch {epoch}, {scores[0]:.4g})")


@styled
def score_histogram(record: RunRecord, arrays: Arrays) -> Figure:
    """Histogram of the scores of single test images, with validation as an outline."""
    chosen = _two_metrics(record, arrays)
    figure, axes = plot_canvas(len(chosen), 3.7, 2.2)
    for ax, name in zip(axes, chosen, strict=True):
        _histogram(ax, name, arrays)
    count = len(arrays[f"test/{chosen[0]}"])
    put_title(figure, f"Scores of {count:,} single test images", describe(record))
    return figure


def _two_metrics(record: RunRecord, arrays: Arrays) -> list[str]:
    """The selection metric and a second one: SSIM, or the next one available."""
    there = [name for name in METRICS if f"test/{name}" in arrays]
    wanted = [record.spec.selection_metric, "ssim", "mse", *there]
    return list(dict.fromkeys(name for name in wanted if name in there))[:2]


def _histogram(ax: Axes, name: str, arrays: Arrays) -> None:
    metric = METRICS[name]
    test, validation = (_finite(arrays, f"{part}/{name}") for part in ("test", "validation"))
    edges = np.histogram_bin_edges(np.concatenate([test, validation]), bins=50)
    tallest = _percent(test, edges).max()
    ax.stairs(_percent(test, edges), edges, fill=True, color=COLOURS[0], alpha=0.55, label="test")
    if len(validation):
        tallest = max(tallest, _percent(validation, edges).max())
        ax.stairs(_percent(validation, edges), edges, color=INK, lw=1, label="validation")
    if len(test):
        for value, text, line in ((test.mean(), "mean", "-"), (np.median(test), "median", "--")):
            label = f"test {text} {value:.{metric.decimals}f}"
            ax.axvline(value, color=COLOURS[3], ls=line, lw=1.4, label=label)
    ax.set_ylim(0, 1.06 * tallest)
    better = "higher" if metric.higher_is_better else "lower"
    ax.set_title(f"{_with_unit(metric.title, metric.unit)}, {better} is better")
    ax.set_ylabel("images, %")
    legend_below(ax)


def _finite(arrays: Arrays, key: str) -> NDArray[np.float64]:
    """The finite scores under `key`; empty if the run has none."""
    scores = np.asarray(arrays.get(key, ()), np.float64)
    return scores[np.isfinite(scores)]


def _percent(scores: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.histogram(scores, edges)[0]
    return counts * (100 / max(1, len(scores)))


def _with_unit(title: str, unit: str) -> str:
    return f"{title} ({unit})" if unit else title
