"""Figures of a classifier: its confusions, the scores of each class, its calibration."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.core.spec import RunRecord
from bench.figures.sheet import Row, draw_sheet
from bench.figures.style import (
    COLOURS,
    INK,
    MUTED,
    Arrays,
    describe,
    legend_below,
    plot_canvas,
    put_title,
    ranked_part,
    short_name,
    styled,
)
from bench.metrics.calibration import BINS, CalibrationBins, calibration_bins

MOST_CLASSES = 30
"""Above this many classes, names are left out."""
_NUMBERED = 15
_LONGEST_NAME = 14
_A_ROW = 6

Floats = NDArray[np.float64]


@styled
def confusion_matrix(record: RunRecord, arrays: Arrays) -> Figure:
    """Test images by true class (rows) and predicted class (columns).

    Darker cells hold a larger share of their class; the numbers count images. Up to 15
    classes have numbers, up to 30 names.
    """
    counts = np.asarray(arrays["confusion/test"])
    names = [short_name(name, _LONGEST_NAME) for name in record.class_names]
    right = int(np.trace(counts))
    below = f"{describe(record)} · {right:,} of {counts.sum():,} test images right"
    side = max(3.0, 0.44 * min(len(names), MOST_CLASSES))
    figure, (ax,) = plot_canvas(1, side, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if len(names) <= _NUMBERED:
        _write_counts(ax, counts, shares)
    shown = range(len(names)) if len(names) <= MOST_CLASSES else range(0)
    ax.set_xticks(shown, [names[i] for i in shown], rotation=40, ha="right", rotation_mode="anchor")
    ax.set_yticks(shown, [names[i] for i in shown])
    ax.set_xlabel("called")
    ax.set_ylabel("is")
    ax.grid(visible=False)
    put_title(figure, "Confusion matrix", below)
    return figure


def _write_counts(ax: Axes, counts: NDArray[np.int64], shares: Floats) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ink = "white" if shares[row, column] > 0.5 else INK
            ax.text(column, row, f"{count}", ha="center", va="center", fontsize=7.5, color=ink)


@styled
def misclassified(record: RunRecord, arrays: Arrays) -> Figure:
    """The most confident mistakes: above each image its true and predicted class and confidence."""
    images = np.asarray(arrays["misclassified/x"], np.float32)
    above = [
        f"is {_name(record, label)}\ncalled {_name(record, predicted)}, {confidence:.0%}"
        for label, predicted, confidence in zip(
            *(arrays[f"misclassified/{key}"] for key in ("label", "predicted", "confidence")),
            strict=True,
        )
    ]
    rows = [
        Row(images[start : start + _A_ROW], above=above[start : start + _A_ROW])
        for start in range(0, len(images), _A_ROW)
    ]
    title = f"The {len(images)} most confident mistakes on {ranked_part(record)} images"
    if len(images) == 1:
        title = f"The only mistake on {ranked_part(record)} images"
    return draw_sheet(title, describe(record), rows, cell=112)


def _name(record: RunRecord, label: int) -> str:
    """A class name, short enough to fit above an image."""
    return short_name(record.class_names[int(label)], 12)


@styled
def class_report(record: RunRecord, arrays: Arrays) -> Figure:
    """F1 of every class on test as a bar, the worst on top, with its precision and recall.

    Of more than 30 classes the worst 30 are shown.
    """
    shares = np.asarray(arrays["per_class/test"], np.float64)
    order = np.argsort(shares[:, 2], kind="stable")[:MOST_CLASSES]
    names = [f"{short_name(record.class_names[i], 20)}  {shares[i, 2]:.3f}" for i in order]
    figure, (ax,) = plot_canvas(1, 5.9, 0.25 + 0.32 * len(order))
    places = np.arange(len(order))
    ax.barh(places, shares[order, 2], height=0.62, color="#c9d7e6", label="F1 (number)")
    ax.plot(shares[order, 0], places - 0.12, "v", color=COLOURS[0], ms=6, label="precision")
    ax.plot(shares[order, 1], places + 0.12, "^", color=COLOURS[3], ms=6, label="recall")
    ax.set_yticks(places, names)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlim(0, 1.02)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("share on the test images (higher is better)")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=8.5)
    shown = "" if len(order) == len(shares) else f" · worst {len(order)} of {len(shares)} classes"
    put_title(figure, "Precision, recall and F1 by class", f"{describe(record)}{shown}")
    return figure


@styled
def reliability(record: RunRecord, arrays: Arrays) -> Figure:
    """Accuracy against confidence, and the distribution of the confidence.

    Guo et al. 2017: 15 equal bins of the confidence on test. On the dashed line the classifier is
    calibrated, below it overconfident. A number counts the images of its point.
    """
    bins = _bins(arrays)
    images = bins.images
    held = images > 0
    confidence, accuracy = bins.confidence[held], bins.accuracy[held]
    figure, (left, right) = plot_canvas(2, 3.7, 2.9)
    left.plot([0, 1], [0, 1], ls="--", color=MUTED, lw=1.2, label="as often as it claims")
    left.vlines(confidence, confidence, accuracy, color=COLOURS[3], lw=3, alpha=0.5, label="gap")
    areas = 14 + 240 * images[held] / images.sum()
    left.scatter(
        confidence,
        accuracy,
        areas,
        color=COLOURS[0],
        zorder=3,
        label="images of a bin, counted",
    )
    left.set(xlim=(0, 1.08), ylim=(0, 1.02), xlabel="mean confidence", ylabel="share that is right")
    for x, y, count in zip(confidence, accuracy, images[held], strict=True):
        left.annotate(
            f"{int(count):,}", (x, y), (7, -4), textcoords="offset points", size=7, color=MUTED
        )
    legend_below(left)
    left.set_title(f"Expected calibration error {bins.error:.4f}")
    middles = (np.arange(BINS) + 0.5) / BINS
    right.bar(middles, images / images.sum(), width=0.9 / BINS, color=COLOURS[0])
    right.set(xlim=(0, 1.02), xlabel="confidence", ylabel="share of the test images")
    right.set_title(f"{int(images.sum()):,} test images")
    put_title(figure, "Is its confidence earned?", describe(record))
    return figure


def _bins(arrays: Arrays) -> CalibrationBins:
    predicted, labels, confidence = (
        np.asarray(arrays[f"{key}/test"]) for key in ("predicted", "label", "confidence")
    )
    return calibration_bins(confidence, predicted == labels)
