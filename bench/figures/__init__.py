"""FIGURES: pictures of a run, drawn from its stored record and arrays, never from a live model.

A new picture is a function `draw(record, arrays) -> Figure` and a row here. Figures are plain
matplotlib `Figure` objects without pyplot: save them with `figure.savefig` or `to_png`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from matplotlib.figure import Figure

from bench.figures import curves, latent, reconstruction
from bench.figures.comparison import Bar, Point, ranking_bars, rate_distortion
from bench.figures.sheet import image_grid
from bench.figures.study import STUDY_FIGURES, StudyTrials, TrialPoint
from bench.figures.style import Arrays, to_png
from bench.spec import RunRecord

__all__ = [
    "FIGURES",
    "STUDY_FIGURES",
    "Bar",
    "FigureRow",
    "Point",
    "StudyTrials",
    "TrialPoint",
    "draw_figures",
    "image_grid",
    "ranking_bars",
    "rate_distortion",
    "to_png",
]


@dataclass(frozen=True)
class FigureRow:
    """One kind of picture. `needs`: keys of the arrays it is drawn from; a key that ends in "/"
    asks for any array below it. `epochs`: how many epochs the history must hold."""

    id: str
    title: str
    draw: Callable[[RunRecord, Arrays], Figure]
    needs: tuple[str, ...] = ()
    epochs: int = 0

    def can_draw(self, record: RunRecord, arrays: Arrays) -> bool:
        """Whether a run left behind what this picture shows."""
        return len(record.history) >= self.epochs and all(map(_holds(arrays), self.needs))


def _holds(arrays: Arrays) -> Callable[[str], bool]:
    def held(need: str) -> bool:
        return need in arrays or (need.endswith("/") and any(k.startswith(need) for k in arrays))

    return held


def _table(*rows: FigureRow) -> Mapping[str, FigureRow]:
    return MappingProxyType({row.id: row for row in rows})


FIGURES: Mapping[str, FigureRow] = _table(
    FigureRow(
        "loss_curves",
        "Training objective and validation score by epoch",
        curves.loss_curves,
        epochs=2,
    ),
    FigureRow(
        "reconstructions",
        "Eight training and eight test images above their reconstructions",
        reconstruction.reconstructions,
        tuple(
            f"shown/{part}/{key}" for part in ("train", "test") for key in ("x", "x_hat", "label")
        ),
    ),
    FigureRow(
        "progress",
        "Validation images reconstructed as training went on",
        reconstruction.progress,
        ("progress/x", "progress/x_hat", "progress/epoch"),
    ),
    FigureRow(
        "latent_map",
        "Codes on the plane, coloured by class",
        latent.latent_map,
        ("codes/z", "codes/label"),
    ),
    FigureRow(
        "samples",
        "Decoded random codes",
        reconstruction.samples,
        ("samples/x_hat", "samples/fitted"),
    ),
    FigureRow(
        "interpolation",
        "Decoded codes between pairs of images",
        reconstruction.interpolation,
        ("interpolation/x", "interpolation/x_hat"),
    ),
    FigureRow(
        "extremes",
        "Best and worst reconstructions",
        reconstruction.extremes,
        ("extremes/x", "extremes/x_hat", "extremes/score"),
    ),
    FigureRow(
        "score_histogram",
        "Distribution of the scores of single test images",
        curves.score_histogram,
        ("test/",),
    ),
)


def draw_figures(record: RunRecord, arrays: Arrays) -> dict[str, Figure]:
    """Draw every row of FIGURES that the run left the arrays for, by its id.

    A row without its arrays is not an error: a model without a code has no latent map.
    """
    return {
        row.id: row.draw(record, arrays) for row in FIGURES.values() if row.can_draw(record, arrays)
    }
