"""Badges: what a reader should know about a row besides its score, mostly problems."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from bench.core.recipes import BEST_OF, FEW_STEPS
from bench.core.spec import COPIED
from bench.leaderboard.cells import TableCell
from bench.leaderboard.spread import WIDE_SPREAD, WORTH_A_NOTE

COLLAPSED_SHARE = 0.1
CONSTANT_SHARE = 0.01
CONSTANT_FLOOR = 1e-4
WORSE_THAN_PCA = "worse than PCA"


def badges(cell: TableCell, widest: float) -> Iterator[str]:
    """Notable properties of a cell, mostly problems; comparisons with NaN are false, so unknown
    values give no badge."""
    if cell.margin < 0:
        yield WORSE_THAN_PCA
    if cell.code_size and cell.facts["active_units"] < COLLAPSED_SHARE * cell.code_size:
        yield "collapsed latent"
    if cell.facts["output_std"] < max(CONSTANT_FLOOR, CONSTANT_SHARE * widest):
        yield "constant output"
    if (missing := _never_called(cell)) > 0:
        yield f"{missing:.2g} classes never predicted"
    if (dead := cell.facts["dead_codes"]) > 0:
        yield f"{dead:.3g} codes never used"
    if cell.track.overcomplete:
        yield "over-complete"
    yield from _of_bits(cell)
    if cell.seed_spread > WIDE_SPREAD:
        yield f"seeds differ by more than {100 * WIDE_SPREAD:g} %"
    if cell.diverged:
        yield f"{cell.diverged} of {cell.started} diverged"
    if cell.wide:
        yield "width not reached"
    if cell.facts[FEW_STEPS] > 0:
        yield "few steps"
    if (trials := cell.facts[BEST_OF]) > 0:
        yield f"best of {trials:.0f} trials"
    if (copies := cell.facts[COPIED]) > 0:
        yield f"{copies:.0f} images in two parts"


def _of_bits(cell: TableCell) -> Iterator[str]:
    if (loss := cell.loss_at_8_bits) > WORTH_A_NOTE:
        yield f"needs more than 8 bits per number: +{100 * loss:.0f} %"


def _never_called(cell: TableCell) -> float:
    """Classes that a classifier never predicts, mean over seeds; NaN for other cells."""
    return (cell.track.size if cell.track.classifies else 0) - cell.facts["predicted_classes"]


def task_badges(task: str, cell: TableCell) -> Iterator[str]:
    """The badges that a further task gives a row, by its means on validation."""
    for holds, badge in TASK_BADGES.get(task, ()):
        if holds(cell):
            yield badge


def _no_better_than_the_mean(sampler: str, cell: TableCell) -> bool:
    """Whether the features of samples are as far from those of images as the mean image alone."""
    return cell.mean(f"val_fcd_{sampler}") >= cell.mean("val_fcd_mean_image")


MEMORISED = 0.9
"""Of new images a third to one half are nearer to a training image than it is to another one."""


def _memorised(sampler: str, cell: TableCell) -> bool:
    """Whether more than nine of ten samples are nearer to their nearest training image than this
    one is to the training image nearest to it."""
    return cell.mean(f"val_closeness_{sampler}") > MEMORISED


TASK_BADGES: Mapping[str, Sequence[tuple[Callable[[TableCell], bool], str]]] = {
    "representation": ((lambda cell: cell.mean("val_probe_converged") < 1, "probe not converged"),),
    "generation": tuple(
        rule
        for sampler, words in (
            ("prior", "N(0, I)"),
            ("gaussian", "a Gaussian"),
            ("mixture", "10 Gaussians"),
        )
        for rule in (
            (
                partial(_no_better_than_the_mean, sampler),
                f"samples of {words} no better than the mean image",
            ),
            (partial(_memorised, sampler), f"memorised samples of {words}"),
        )
    ),
    "robustness": ((lambda cell: cell.mean("val_ood_auroc") < 0.5, "AUROC below .5"),),
}
"""By further task: when a row gets a badge, and its words. NaN gives none."""
