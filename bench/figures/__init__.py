"""FIGURES: figures of a run, drawn from its stored record and arrays, never from a live model.

To add a figure, add a function `draw(record, arrays) -> Figure` and a row here; for one over
several runs, a function `draw(group) -> Figure` and a row of TRACK_FIGURES. Figures are plain
matplotlib `Figure` objects without pyplot: save them with `figure.savefig` or `to_png`.
"""

from collections.abc import Callable, Mapping
from functools import partial

from matplotlib.figure import Figure

from bench.core.spec import RunRecord
from bench.figures import classes, classification, curves, latent, reconstruction
from bench.figures.comparison import (
    Bar,
    Point,
    Standing,
    rank_ranges,
    ranking_bars,
    rate_distortion,
)
from bench.figures.damage import Damaged, damage_lines
from bench.figures.drawing import attempt, drawn
from bench.figures.group import Cell, Group
from bench.figures.reconstruction import (
    Differing,
    differences,
    image_sheet,
    interpolation_sheet,
    paired_sheet,
)
from bench.figures.sheet import image_grid
from bench.figures.study import STUDY_FIGURES, StudyTrials, TrialPoint
from bench.figures.style import Arrays, to_png
from bench.figures.table import FigureRow, table
from bench.figures.tracks import TRACK_FIGURES, GroupFigureRow, variants_sheet

__all__ = [
    "FIGURES",
    "STUDY_FIGURES",
    "TRACK_FIGURES",
    "Bar",
    "Cell",
    "Damaged",
    "Differing",
    "FigureRow",
    "Group",
    "GroupFigureRow",
    "Point",
    "Standing",
    "StudyTrials",
    "TrialPoint",
    "as_files",
    "attempt",
    "damage_lines",
    "differences",
    "draw_figures",
    "draw_files",
    "drawn",
    "image_grid",
    "image_sheet",
    "interpolation_sheet",
    "paired_sheet",
    "rank_ranges",
    "ranking_bars",
    "rate_distortion",
    "to_png",
    "variants_sheet",
]


FIGURES: Mapping[str, FigureRow] = table(
    (
        FigureRow(
            "loss_curves",
            "Training objective and validation score by epoch",
            curves.loss_curves,
            epochs=2,
        ),
        FigureRow(
            "reconstructions",
            "Training and test images of each class above their reconstructions",
            reconstruction.reconstructions,
            tuple(
                f"shown/{part}/{key}"
                for part in ("train", "test")
                for key in ("x", "x_hat", "label")
            ),
            judges="autoencoder",
        ),
        FigureRow(
            "progress",
            "Validation images reconstructed as training went on",
            reconstruction.progress,
            ("progress/x", "progress/x_hat", "progress/epoch"),
            judges="autoencoder",
        ),
        FigureRow(
            "latent_map",
            "Codes on the plane, coloured by class",
            latent.latent_map,
            ("codes/z", "codes/label"),
            judges="autoencoder",
            ordered=True,
        ),
        FigureRow(
            "latent_grid",
            "Decoded codes of two numbers, with the codes of images over them",
            latent.latent_grid,
            ("grid/x_hat", "grid/z", "codes/z", "codes/label"),
            judges="autoencoder",
            ordered=True,
            code_size=2,
        ),
        FigureRow(
            "samplers",
            "Samples by sampler above the nearest training images",
            reconstruction.samplers,
            ("generated/",),
            judges="autoencoder",
            task="generation",
        ),
        FigureRow(
            "paths",
            "Eleven decoded codes between pairs of test images",
            reconstruction.paths,
            ("paths/x", "paths/x_hat"),
            judges="autoencoder",
            task="interpolation",
        ),
        FigureRow(
            "samples",
            "Decoded random codes",
            reconstruction.samples,
            ("samples/x_hat", "samples/fitted"),
            judges="autoencoder",
        ),
        FigureRow(
            "standard_samples",
            "Decoded z ~ N(0, I) of a variant that was not trained towards it",
            reconstruction.standard_samples,
            ("samples/standard_x_hat",),
            judges="autoencoder",
        ),
        FigureRow(
            "interpolation",
            "Decoded codes between pairs of images",
            reconstruction.interpolation,
            ("interpolation/x", "interpolation/x_hat"),
            judges="autoencoder",
        ),
        FigureRow(
            "extremes",
            "Best and worst reconstructions",
            reconstruction.extremes,
            ("extremes/x", "extremes/x_hat", "extremes/score"),
            judges="autoencoder",
        ),
        FigureRow(
            "class_scores",
            "Scores of the test images by class",
            classes.class_scores,
            ("test/", "label/test"),
            judges="autoencoder",
        ),
        FigureRow(
            "score_histogram",
            "Distribution of the scores of single test images",
            curves.score_histogram,
            ("test/",),
            judges="autoencoder",
        ),
        FigureRow(
            "confusion_matrix",
            "Test images by class and by what they were called",
            classification.confusion_matrix,
            ("confusion/test",),
            judges="classifier",
        ),
        FigureRow(
            "misclassified",
            "The most confident mistakes",
            classification.misclassified,
            tuple(f"misclassified/{key}" for key in ("x", "label", "predicted", "confidence")),
            judges="classifier",
        ),
        FigureRow(
            "class_report",
            "Precision, recall and F1 by class",
            classification.class_report,
            ("per_class/test",),
            judges="classifier",
        ),
        FigureRow(
            "reliability",
            "How often a classifier is right by how sure it is",
            classification.reliability,
            tuple(f"{key}/test" for key in ("predicted", "label", "confidence")),
            judges="classifier",
        ),
    )
)


def draw_figures(record: RunRecord, arrays: Arrays) -> dict[str, Figure]:
    """Draw every row of FIGURES whose arrays the run stored, by its id.

    Missing arrays are not an error: a model without a code has no latent map. A figure that cannot
    be drawn is left out with a note.
    """
    chosen = (row for row in FIGURES.values() if row.can_draw(record, arrays))
    figures = {row.id: drawn(row.id, partial(row.draw, record, arrays)) for row in chosen}
    return {name: figure for name, figure in figures.items() if figure is not None}


def draw_files(record: RunRecord, arrays: Arrays) -> dict[str, bytes]:
    """The same as PNG files."""
    return as_files(
        {name: partial(to_png, figure) for name, figure in draw_figures(record, arrays).items()}
    )


def as_files(pictures: Mapping[str, Callable[[], bytes]]) -> dict[str, bytes]:
    """The pictures that can be drawn, by name; the others are left out with a note."""
    files = {name: drawn(name, draw) for name, draw in pictures.items()}
    return {name: content for name, content in files.items() if content is not None}
