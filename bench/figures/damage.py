"""Scores of reconstructions of damaged images against the strength of the damage."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.figures.group import Cell, Group
from bench.figures.labels import End, height_for, label_ends
from bench.figures.style import plot_canvas, put_title, styled
from bench.metrics import METRICS

_KINDS = {
    "gaussian": ("Gaussian noise", "standard deviation"),
    "salt_and_pepper": ("Salt and pepper", "share of pixels"),
    "masking": ("Masking", "share of pixels"),
}


@styled
def error_under_damage(group: Group) -> Figure:
    """PSNR of reconstructions of damaged test images against the clean ones, a panel per kind of
    damage: one line per variant, the mean over its seeds. Strength 0 is the undamaged image.

    The damaged images may be fewer than the test images, whose mean stands at 0.
    """
    cells = [cell for cell in group.cells if _drawn(cell)]
    figure, axes = plot_canvas(len(_KINDS), 2.6, max(2.6, 0.2 + height_for(len(cells))))
    for ax, (kind, (title, unit)) in zip(axes, _KINDS.items(), strict=True):
        ends = [_line(ax, cell, kind) for cell in cells]
        ax.set_title(title)
        ax.set_xlabel(unit)
        ax.sharey(axes[0])
        if ax is axes[0]:
            ax.set_ylabel("PSNR against the clean image (dB)")
    label_ends(axes[-1], ends)
    put_title(figure, "Reconstructions of damaged images", f"{group.about} · {group.seeds} · test")
    return figure


def lacks_damage(group: Group) -> str:
    """Why a group has nothing to show; empty if it has."""
    return "" if any(map(_drawn, group.cells)) else "no run measured by the task robustness"


def _drawn(cell: Cell) -> bool:
    return any(len(_points(cell, kind)) > 1 for kind in _KINDS)


def _points(cell: Cell, kind: str) -> list[tuple[float, float]]:
    """Strengths and mean scores over seeds."""
    strengths = {
        name: float(name.rpartition("_")[2]) / 100
        for name in METRICS
        if name.startswith(f"psnr_{kind}_")
    }
    found = {name: cell.scores("test", name) for name in ("psnr", *strengths)}
    return [
        (strengths.get(name, 0.0), float(np.mean(scores)))
        for name, scores in found.items()
        if scores
    ]


def _line(ax: Axes, cell: Cell, kind: str) -> End:
    strengths, means = zip(*_points(cell, kind), strict=True)
    look = cell.look
    ax.plot(
        strengths,
        means,
        ls=look.line,
        marker=look.marker or "",
        ms=4.5,
        color=look.colour,
        mfc="white" if cell.hollow else look.colour,
        label=cell.name,
    )
    return End(strengths[-1], means[-1], cell.name, look, cell.hollow)
