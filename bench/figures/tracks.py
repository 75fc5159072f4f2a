"""TRACK_FIGURES: figures over the runs of one track, or over all tracks of a protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.core.tasks import TASKS, ModelKind
from bench.figures.classes import scores_by_class
from bench.figures.comparison import Bar, Point, ranking_bars, rate_distortion
from bench.figures.damage import error_under_damage, lacks_damage
from bench.figures.group import Cell, Group
from bench.figures.sheet import Images, Row, draw_sheet
from bench.figures.style import (
    INK,
    code_bits,
    counted,
    plot_canvas,
    put_title,
    short_name,
    styled,
)
from bench.figures.training import lacks_training, training_curves
from bench.metrics import Metric

_MANY_ROWS, _SMALL_CELL = 8, 56
_MOST_CLASSES, _LONGEST_NAME = 16, 11


@dataclass(frozen=True)
class GroupFigureRow:
    """One kind of figure of several runs.

    `lacks` says why a group has nothing to show, else "". `all_tracks`: it covers all tracks of
    a protocol on a data set instead of one. `judges`: the kind of its models; None: any. `task`:
    the further task that measures what it shows; empty: none has to.
    """

    id: str
    title: str
    draw: Callable[[Group], Figure]
    lacks: Callable[[Group], str]
    all_tracks: bool = False
    judges: ModelKind | None = None
    task: str = ""

    def suits(self, group: Group) -> bool:
        """Whether the figure applies to this kind of group at all."""
        measured = {
            task
            for cell in group.cells
            for record in cell.records
            for task in record.spec.evaluation.tasks
        }
        of_task = not self.task or self.task in measured
        return of_task and self.judges in (None, TASKS[group.task].judges)


@styled
def side_by_side(group: Group) -> Figure:
    """The same test images (one of each class) through every variant, the best variant on top."""
    metric, cells = group.metric, [cell for cell in group.best_first() if _shows(cell)]
    first = cells[0]
    names = first.records[0].class_names
    labels = first.arrays["shown/test/label"]
    above = [short_name(names[int(label)], _LONGEST_NAME) for label in labels] if names else []
    rows = [Row(first.arrays["shown/test/x"], "test image", above)]
    for cell in cells:
        mean = np.mean(cell.scores("test", metric.id))
        lines = [*cell.name.split(", "), f"{mean:.{metric.decimals}f}"]
        rows.append(Row(cell.arrays["shown/test/x_hat"], "\n".join(lines), new_block=cell is first))
    below = f"{group.about} · {group.seeds}"
    if group.several:
        below += f": the {group.shown} one's pictures, {metric.title.lower()} of all"
    else:
        below += f" · numbers: {metric.title.lower()} of all test images"
    return draw_sheet(
        f"The same test images through {counted(len(cells), 'variant')}",
        below,
        rows,
        cell=_SMALL_CELL if len(cells) > _MANY_ROWS else None,
    )


@styled
def variants_sheet(images: Images, decoded: Sequence[tuple[str, Images]], below: str) -> Figure:
    """Test images (N, C, H, W) above their reconstructions, one row for each label."""
    rows = [Row(images, "test image")]
    rows += [Row(x_hat, label, new_block=i == 0) for i, (label, x_hat) in enumerate(decoded)]
    title = f"The same test images through {counted(len(decoded), 'variant')}"
    return draw_sheet(title, below, rows, cell=_SMALL_CELL if len(decoded) > _MANY_ROWS else None)


def _shows(cell: Cell) -> bool:
    return {"shown/test/x", "shown/test/x_hat", "shown/test/label"} <= cell.arrays.keys()


def _lacks_reconstructions(group: Group) -> str:
    return "" if any(map(_shows, group.best_first())) else "no run with reconstructions"


def final_scores(group: Group) -> Figure:
    """The final test score of every variant as a bar, with the range of its seeds."""
    metric = group.metric
    bars = []
    for cell in group.best_first():
        scores = cell.scores("test", metric.id)
        mean = float(np.mean(scores))
        bars.append(Bar(cell.name, mean, min(scores), max(scores), cell.closed_form))
    title = f"Final {metric.title.lower()} of {counted(len(bars), 'variant')} on test images"
    seeds = f"mean of {group.seeds}, whiskers: lowest to highest"
    below = f"{group.about} · {seeds if group.several else group.seeds}"
    return ranking_bars(bars, metric.id, below, title)


def _lacks_scores(group: Group) -> str:
    return "" if group.best_first() else "no run that finished with a test score"


@styled
def class_map(group: Group) -> Figure:
    """The mean test score of every variant on every class, the best variant on top.

    Classes are ordered from the hardest to the easiest; of more than 16 the hardest are shown.
    """
    metric, cells = group.metric, _with_classes(group)
    names = cells[0].records[0].class_names
    means = np.array([_class_means(cell, metric, len(names)) for cell in cells])
    hardest = np.argsort(np.mean(means, axis=0) * (1 if metric.higher_is_better else -1))
    hardest = hardest[np.isfinite(means).all(axis=0)[hardest]][:_MOST_CLASSES]
    rows = [cell.name for cell in cells]
    figure, (ax,) = plot_canvas(1, max(5.0, 0.66 * len(hardest)), 0.1 + 0.27 * len(rows))
    _tiles(ax, means[:, hardest], metric)
    ax.set_yticks(range(len(rows)), rows)
    columns = [short_name(names[int(label)], _LONGEST_NAME) for label in hardest]
    ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
    part = f"hardest {len(hardest)} of {len(names)} classes"
    seeds = f"{group.shown} of {group.seeds}" if group.several else group.seeds
    below = f"{group.about} · {seeds}, test images"
    below += f" · {part}" if len(hardest) < len(names) else ""
    put_title(figure, f"{metric.title} by class, darker is worse", below)
    return figure


def _with_classes(group: Group) -> list[Cell]:
    needs = {f"test/{group.metric.id}", "label/test"}
    return [cell for cell in group.best_first() if needs <= cell.arrays.keys()]


def _lacks_classes(group: Group) -> str:
    return "" if _with_classes(group) else f"no run with test/{group.metric.id} and label/test"


def _class_means(cell: Cell, metric: Metric, classes: int) -> NDArray[np.float64]:
    """Mean score of each class; NaN for a class without test images."""
    scores = np.asarray(cell.arrays[f"test/{metric.id}"], np.float64)
    found = scores_by_class(scores, np.asarray(cell.arrays["label/test"]))
    return np.array([found[i].mean() if i in found else np.nan for i in range(classes)])


def _tiles(ax: Axes, means: NDArray[np.float64], metric: Metric) -> None:
    """One tile per mean, with its number; errors are shaded by their logarithm."""
    errors = not metric.higher_is_better and means.min() > 0
    norm = (LogNorm if errors else Normalize)(means.min(), means.max())
    ax.imshow(
        means,
        cmap="Blues" if not metric.higher_is_better else "Blues_r",
        norm=norm,
        aspect="auto",
        alpha=0.85,
    )
    share = np.asarray(norm(means))
    dark = 1 - share if metric.higher_is_better else share
    for (row, column), value in np.ndenumerate(means):
        ax.text(
            column,
            row,
            f"{value:.{metric.decimals}f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark[row, column] > 0.6 else INK,
        )
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def error_by_size(group: Group) -> Figure:
    """Test score against code size, one line per variant with a band over its seeds; variants
    that cannot be on such an axis are named below it."""
    below = f"{group.about} · test images · {group.seeds}"
    return rate_distortion(_points(group), group.metric.id, below, _left_out(group))


def _points(group: Group) -> list[Point]:
    """Cells whose codes are real numbers and smaller than an image."""
    return [
        Point(cell.name, cell.track.size, cell.scores("test", group.metric.id), cell.model)
        for cell in group.cells
        if not _why_left_out(cell, group.metric)
    ]


def _why_left_out(cell: Cell, metric: Metric) -> str:
    """Why a cell has no point on the axis of code sizes; empty if it has one."""
    if bits := code_bits(cell.records[0]):
        return f"a discrete code of {counted(bits, 'bit')}, not of real numbers"
    if cell.track.overcomplete:
        return "a code no smaller than the image"
    if not cell.track.on_size_axis:
        return "no code"
    if not cell.scores("test", metric.id):
        return f"no test score at size {cell.track.size}"
    return ""


def _left_out(group: Group) -> str:
    """The names of all cells without a point, by reason; empty if there are none."""
    names: dict[str, list[str]] = {}
    for cell in group.cells:
        if why := _why_left_out(cell, group.metric):
            names.setdefault(why, []).append(cell.name)
    return "; ".join(f"{', '.join(dict.fromkeys(n))} ({why})" for why, n in names.items())


def _lacks_sizes(group: Group) -> str:
    sizes = {point.code_size for point in _points(group)}
    return "" if len(sizes) > 1 else "fewer than two code sizes with test scores"


TRACK_FIGURES: Mapping[str, GroupFigureRow] = MappingProxyType(
    {
        row.id: row
        for row in (
            GroupFigureRow(
                "side_by_side",
                "The same test images reconstructed by every variant",
                side_by_side,
                _lacks_reconstructions,
                judges="autoencoder",
            ),
            GroupFigureRow(
                "final_scores",
                "Final test score of every variant as bars",
                final_scores,
                _lacks_scores,
            ),
            GroupFigureRow(
                "training_curves",
                "Training and validation curves of every variant",
                training_curves,
                lacks_training,
            ),
            GroupFigureRow(
                "class_map",
                "Test score of every variant on every class",
                class_map,
                _lacks_classes,
            ),
            GroupFigureRow(
                "error_under_damage",
                "PSNR of reconstructions of damaged test images by strength of the damage",
                error_under_damage,
                lacks_damage,
                judges="autoencoder",
                task="robustness",
            ),
            GroupFigureRow(
                "rate_distortion",
                "Test score against code size, with bands over seeds and the line of PCA",
                error_by_size,
                _lacks_sizes,
                all_tracks=True,
                judges="autoencoder",
            ),
        )
    }
)
