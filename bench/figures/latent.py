"""Figures of the code."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.core.spec import RunRecord
from bench.figures.sheet import image_grid
from bench.figures.style import (
    COLOURS,
    INK,
    MARKERS,
    Arrays,
    counted,
    describe,
    plot_canvas,
    put_title,
    ranked_part,
    short_name,
    styled,
)

Floats = NDArray[np.float64]

_CLASSES_NAMED = 10
_EXACT_SVD = 512
_LONGEST_NAME = 14


class Projection(NamedTuple):
    """Codes in the plane: points [n, 2] and the share of variance that each axis explains."""

    points: Floats
    explained: tuple[float, float]


@styled
def latent_map(record: RunRecord, arrays: Arrays) -> Figure:
    """Codes of images in the plane, coloured and marked by class.

    Codes of two numbers are drawn directly, of one number against the class, longer ones on
    their first two principal components. Discrete codes have no such map: their numbers are
    labels of vectors, without an order.
    """
    codes = np.asarray(arrays["codes/z"], np.float64)
    labels = np.asarray(arrays["codes/label"]).astype(int)
    figure, (ax,) = plot_canvas(1, 5.2, 4.2)
    size = codes.shape[1]
    names: tuple[str, ...]
    if size == 1:
        points, title = np.column_stack([codes[:, 0], labels]), "Codes of one number, by class"
        names = ("z1", "class number")
    elif size == 2:
        points, title, names = codes, "Codes of two numbers", ("z1", "z2")
    else:
        points, explained = principal_plane(codes)
        title = f"Codes of {size} numbers on their first two principal components"
        shares = (f"{share:.1%} of the codes' variance" for share in explained)
        names = tuple(f"component {i + 1} ({share})" for i, share in enumerate(shares))
    _scatter(ax, points, labels, record.class_names)
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    below = f"{describe(record)} · {len(codes):,} {ranked_part(record)} images"
    put_title(figure, title, below)
    return figure


@styled
def latent_grid(record: RunRecord, arrays: Arrays) -> Figure:
    """Decoded codes of two numbers where they lie on the plane, with the codes of images over them.

    Codes outside of the grid, which spans 98 % of them along either axis, are not shown.
    """
    axes = np.asarray(arrays["grid/z"], np.float64)
    figure, (ax,) = plot_canvas(1, 6.4, 6.0)
    # Rows of the grid go up with the second number, rows of a picture go down.
    canvas = image_grid(np.asarray(arrays["grid/x_hat"][::-1] / 255, np.float32), 2)
    span = axes[-1] - axes[0]
    # A number that does not vary has no scale; images of no height would be invisible.
    half = np.where(span > 0, span / (2 * (len(axes) - 1)), 0.5)
    (left, low), (right, high) = axes[0] - half, axes[-1] + half
    ax.imshow(canvas, extent=(left, right, low, high), aspect="auto", interpolation="antialiased")
    codes = np.asarray(arrays["codes/z"], np.float64)[:, :2]
    inside = ((codes >= (left, low)) & (codes <= (right, high))).all(axis=1)
    labels = np.asarray(arrays["codes/label"]).astype(int)[inside]
    _scatter(ax, codes[inside], labels, record.class_names)
    ax.grid(False)
    ax.set_xlim(left, right)
    ax.set_ylim(low, high)
    ax.set_xlabel("z1")
    ax.set_ylabel("z2")
    below = f"{describe(record)} · codes of {inside.sum():,} {ranked_part(record)} images"
    put_title(figure, "Decoded codes of two numbers", below)
    return figure


def principal_plane(codes: Floats) -> Projection:
    """Project codes [n, d], d >= 2, onto the plane of their largest variance.

    The largest weight of each axis is positive, so that the figure is not mirrored between
    machines. Codes that do not vary fall on one point and explain nothing.
    """
    centred = codes - codes.mean(0)
    if min(centred.shape) <= _EXACT_SVD:
        axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    else:
        axes = _leading_axes(centred)
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    axes = np.pad(axes, ((0, 2 - len(axes)), (0, 0)))  # a single code has no second direction
    points = centred @ axes.T
    total = float((centred**2).sum())
    first, second = (points**2).sum(0) / total if total > 0 else (0.0, 0.0)
    return Projection(points, (float(first), float(second)))


def _leading_axes(centred: Floats) -> Floats:
    """Two leading right singular vectors by subspace iteration (Halko et al. 2011, algorithm 4.4).

    Over-complete codes have thousands of numbers, for which a full decomposition takes seconds.
    """
    matrix = centred.astype(np.float32)
    start = np.random.default_rng(0).standard_normal((matrix.shape[1], 8), np.float32)
    basis = np.linalg.qr(start)[0]
    for _ in range(8):
        basis = np.linalg.qr(matrix.T @ (matrix @ basis))[0]
    within = np.linalg.svd(matrix @ basis, full_matrices=False)[2][:2]
    axes: Floats = (within @ basis.T).astype(np.float64)
    return axes


def _scatter(ax: Axes, points: Floats, labels: NDArray[np.int64], names: tuple[str, ...]) -> None:
    """Points by class: the ten most frequent with colour and marker, the others in grey."""
    if not names:
        ax.scatter(points[:, 0], points[:, 1], s=18, color=COLOURS[0], lw=0, rasterized=True)
        return
    classes, counts = np.unique(labels, return_counts=True)
    named = np.sort(classes[np.argsort(-counts, kind="stable")[:_CLASSES_NAMED]])
    for i, label in enumerate(named):
        chosen = points[labels == label]
        ax.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=18,
            color=COLOURS[i],
            marker=MARKERS[i],
            edgecolor=INK,
            linewidth=0.25,
            rasterized=True,
            label=short_name(names[label], _LONGEST_NAME),
        )
    rest = points[~np.isin(labels, named)]
    if len(rest):
        label = counted(len(classes) - len(named), "other class", "other classes")
        ax.scatter(rest[:, 0], rest[:, 1], s=9, color="#bbbbbb", lw=0, zorder=0.9, label=label)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.7)
