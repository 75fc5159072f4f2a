"""Scores of reconstructions of damaged images against the strength of the damage."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.core.palette import look
from bench.figures.group import Group
from bench.figures.labels import End, height_for, label_ends
from bench.figures.style import plot_canvas, put_title, styled
from bench.metrics import METRICS

_KINDS = {
    "gaussian": ("Gaussian noise", "standard deviation"),
    "salt_and_pepper": ("Salt and pepper", "share of pixels"),
    "masking": ("Masking", "share of pixels"),
}
_STRENGTHS = {
    kind: {
        name: float(name.rpartition("_")[2]) / 100
        for name in METRICS
        if name.startswith(f"psnr_{kind}_")
    }
    for kind in _KINDS
}


class Damaged(NamedTuple):
    """A row of a table: its name, its variant, and its mean test scores by metric, of which the
    PSNR of clean and of damaged images are shown."""

    name: str
    model: str
    scores: Mapping[str, float]


_METRICS = ("psnr", *(name for names in _STRENGTHS.values() for name in names))


@styled
def damage_lines(rows: Sequence[Damaged], below: str) -> Figure:
    """PSNR of reconstructions of damaged test images against the clean ones, a panel per kind of
    damage: one line per row, the mean over its seeds. Strength 0 is the undamaged image.

    The damaged images may be fewer than the test images, whose mean stands at 0. `below`: the line
    below the title.
    """
    shown = [row for row in rows if _is_shown(row)]
    figure, axes = plot_canvas(len(_KINDS), 2.6, max(2.6, 0.2 + height_for(len(shown))))
    for ax, (kind, (title, unit)) in zip(axes, _KINDS.items(), strict=True):
        ends = [_line(ax, row, kind) for row in shown]
        ax.set_title(title)
        ax.set_xlabel(unit)
        ax.sharey(axes[0])
        if ax is axes[0]:
            ax.set_ylabel("PSNR against the clean image (dB)")
    label_ends(axes[-1], ends)
    put_title(figure, "Reconstructions of damaged images", below)
    return figure


def error_under_damage(group: Group) -> Figure:
    """`damage_lines` of the cells of a group."""
    return damage_lines(_rows(group), f"{group.about} · {group.seeds} · test")


def lacks_damage(group: Group) -> str:
    """Why a group has nothing to show; empty if it has."""
    shown = any(map(_is_shown, _rows(group)))
    return "" if shown else "no run measured by the task robustness"


def _rows(group: Group) -> list[Damaged]:
    rows = []
    for cell in group.cells:
        found = {name: cell.scores("test", name) for name in _METRICS}
        means = {name: float(np.mean(scores)) for name, scores in found.items() if scores}
        rows.append(Damaged(cell.name, cell.model, means))
    return rows


def _is_shown(row: Damaged) -> bool:
    return any(len(_points(row, kind)) > 1 for kind in _KINDS)


def _points(row: Damaged, kind: str) -> list[tuple[float, float]]:
    """Strengths and mean scores over seeds."""
    strengths = {"psnr": 0.0, **_STRENGTHS[kind]}
    return [(at, row.scores[name]) for name, at in strengths.items() if name in row.scores]


def _line(ax: Axes, row: Damaged, kind: str) -> End:
    strengths, means = zip(*_points(row, kind), strict=True)
    drawn, hollow = look(row.model), row.name != row.model
    ax.plot(
        strengths,
        means,
        ls=drawn.line,
        marker=drawn.marker or "",
        ms=4.5,
        color=drawn.colour,
        mfc="white" if hollow else drawn.colour,
        label=row.name,
    )
    return End(strengths[-1], means[-1], row.name, drawn, hollow)
