"""METRICS: the scores of the benchmark.

Each says what it reads (`needs`) of one part of the data (`Seen`). Most give one value per image,
averaged once, elsewhere; others give one value for a whole set (`per_image` is False): these are
shown, but cannot select or rank a model. Those of further tasks stand in `rows`, one file each.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from bench.core.lazy import Lazy
from bench.core.plugins import Table
from bench.core.protocol import EvaluationConfig
from bench.core.tasks import FURTHER_TASKS, TASKS
from bench.metrics.base import PSNR_CAP, Metric, Tolerance
from bench.metrics.quantised import with_few_bits
from bench.metrics.rows.cost import COST
from bench.metrics.rows.generation import GENERATION
from bench.metrics.rows.interpolation import INTERPOLATION
from bench.metrics.rows.representation import REPRESENTATION
from bench.metrics.rows.robustness import ROBUSTNESS
from bench.metrics.seen import MISSING, Made, Need, Seen, seen_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BYTES",
    "METRICS",
    "Made",
    "Metric",
    "Need",
    "Seen",
    "Tolerance",
    "chosen_metrics",
    "headlines",
    "metrics_for",
    "metrics_of",
    "of_part",
    "per_image",
    "seen_of",
    "short_title",
    "whole_set",
    "why_absent",
    "within",
]

_IMAGES: frozenset[Need] = frozenset({"images", "reconstructions"})
_CLASSES: frozenset[Need] = frozenset({"labels", "logits"})
_MACRO = "the usual definition; as scikit-learn's {} with average='macro' and zero_division=0"
_COUNTED = Tolerance(run=0.015, tied=2)
"""Of accuracies. 0.015 is 1.5 standard errors of an accuracy of 0.9 over 1,000 images."""
_COUNTED_BY_CLASS = Tolerance(run=0.015, tied=4)
"""An image that changes sides moves the scores of two classes, or of two bins."""
_SHARES, _FITS = Tolerance(run=0.15, tied=5), Tolerance(weights=0.02, run=0.25)
"""Of measures of a whole set: mixtures, k-means and probes are fitted in many steps, samples are
drawn, and neighbours are counted, so that rounding on another processor goes a long way. Between
two machines, whose trainings differed by up to 0.8 % in MSE, shares of `quick` moved by up to 0.10,
other measures by up to 12 %."""
_UNTRAINED = Tolerance(weights=0.02, run=1.0)
"""Of distances of about 1e-4 in the features of an untrained network: they moved by up to 51 %."""
_PROBES, _DAMAGED = Tolerance(run=0.025, tied=5), Tolerance(run=0.03)
"""Of probes, which moved by up to 0.012, and of scores of damaged images: up to 1.3 %."""
_FEW_BITS = Tolerance(run=0.05)
"""Of codes of 4 and 2 bits per number, whose ranges are quantiles: up to 2.1 %."""


def _tolerance(metric: Metric) -> Tolerance:
    """That of a measure of a further task."""
    if metric.per_image:
        probed = metric.id.startswith("probe_accuracy")
        damaged = metric.id.startswith("psnr_") and metric.task == "robustness"
        return _PROBES if probed else _DAMAGED if damaged else metric.tolerance
    if metric.bounds == (0.0, 1.0):
        return _SHARES
    return _UNTRAINED if metric.id.startswith("untrained_fcd") else _FITS


_WANG = "Wang, Bovik, Sheikh, Simoncelli 2004; as scikit-image's structural_similarity"

_ROWS: Mapping[str, Metric] = MappingProxyType(
    {
        "mse": Metric(
            id="mse",
            title="Mean squared error",
            task="reconstruction",
            higher_is_better=False,
            revision=1,
            unit="",
            decimals=5,
            bounds=(0.0, 1.0),
            transform="log",
            formula="mean (x - x_hat)^2",
            source="the usual definition; as numpy's mean over the image",
            needs=_IMAGES,
            score=Lazy("bench.metrics.reconstruction", "mse"),
        ),
        "mae": Metric(
            id="mae",
            title="Mean absolute error",
            task="reconstruction",
            higher_is_better=False,
            revision=1,
            unit="",
            decimals=4,
            bounds=(0.0, 1.0),
            transform="log",
            formula="mean |x - x_hat|",
            source="the usual definition; as numpy's mean over the image",
            needs=_IMAGES,
            score=Lazy("bench.metrics.reconstruction", "mae"),
        ),
        "psnr": Metric(
            id="psnr",
            title="Peak signal-to-noise ratio",
            task="reconstruction",
            higher_is_better=True,
            revision=1,
            unit="dB",
            decimals=2,
            bounds=(0.0, PSNR_CAP),
            transform="identity",
            formula="10 log10(1 / MSE of the image), at most 100 dB",
            source="as scikit-image's peak_signal_noise_ratio at data_range=1, mean over images",
            needs=_IMAGES,
            score=Lazy("bench.metrics.reconstruction", "psnr"),
        ),
        "ssim": Metric(
            id="ssim",
            title="SSIM, uniform window",
            task="reconstruction",
            higher_is_better=True,
            revision=1,
            unit="",
            decimals=4,
            bounds=(-1.0, 1.0),
            transform="log_one_minus",
            formula="mean SSIM, uniform 7x7 window, sample covariance (settings: evaluation.ssim)",
            source=_WANG,
            needs=_IMAGES,
            score=Lazy("bench.metrics.ssim", "ssim_uniform"),
        ),
        "ssim_gaussian": Metric(
            id="ssim_gaussian",
            title="SSIM, Gaussian window",
            task="reconstruction",
            higher_is_better=True,
            revision=1,
            unit="",
            decimals=4,
            bounds=(-1.0, 1.0),
            transform="log_one_minus",
            formula="mean SSIM, Gaussian 11x11 window of sigma 1.5 "
            "(settings: evaluation.ssim_gaussian)",
            source=_WANG,
            needs=_IMAGES,
            score=Lazy("bench.metrics.ssim", "ssim_gaussian"),
        ),
        "accuracy": Metric(
            id="accuracy",
            title="Accuracy",
            task="classification",
            higher_is_better=True,
            revision=1,
            unit="",
            decimals=4,
            bounds=(0.0, 1.0),
            transform="log_one_minus",
            formula="1 where the largest logit is that of the label, else 0",
            source="the usual definition; as scikit-learn's accuracy_score",
            needs=_CLASSES,
            score=Lazy("bench.metrics.classification", "accuracy"),
            tolerance=_COUNTED,
        ),
        "cross_entropy": Metric(
            id="cross_entropy",
            title="Cross-entropy",
            task="classification",
            higher_is_better=False,
            revision=1,
            unit="nats",
            decimals=4,
            bounds=(0.0, math.inf),
            transform="log",
            formula="-log softmax(logits)[label]",
            source="the usual definition; as scikit-learn's log_loss",
            needs=_CLASSES,
            score=Lazy("bench.metrics.classification", "cross_entropy"),
        ),
        "macro_precision": Metric(
            id="macro_precision",
            title="Macro precision",
            task="classification",
            higher_is_better=True,
            revision=1,
            unit="",
            decimals=4,
            bounds=(0.0, 1.0),
            transform="log_one_minus",
            formula="mean over classes of hits / predictions, 0/0 = 0",
            source=_MACRO.format("precision_score"),
            needs=_CLASSES,
            score=Lazy("bench.metrics.classification", "macro_precision"),
            per_image=False,
            tolerance=_COUNTED_BY_CLASS,
        ),
        "macro_recall": Metric(
            id="macro_recall",
            title="Macro recall",
            task="classification",
            higher_is_better=True,
            revision=1,
            unit="",
            decimals=4,
            bounds=(0.0, 1.0),
            transform="log_one_minus",
            formula="mean over classes of hits / images, 0/0 = 0",
            source=_MACRO.format("recall_score"),
            needs=_CLASSES,
            score=Lazy("bench.metrics.classification", "macro_recall"),
            per_image=False,
            tolerance=_COUNTED_BY_CLASS,
        ),
        "macro_f1": Metric(
            id="macro_f1",
            title="Macro F1",
            task="classification",
            higher_is_better=True,
            revision=1,
            unit="",
            decimals=4,
            bounds=(0.0, 1.0),
            transform="log_one_minus",
            formula="mean over classes of 2 hits / (images + predictions)",
            source=_MACRO.format("f1_score"),
            needs=_CLASSES,
            score=Lazy("bench.metrics.classification", "macro_f1"),
            per_image=False,
            tolerance=_COUNTED_BY_CLASS,
        ),
        "calibration_error": Metric(
            id="calibration_error",
            title="Expected calibration error",
            task="classification",
            higher_is_better=False,
            revision=1,
            unit="",
            decimals=4,
            bounds=(0.0, 1.0),
            transform="log",
            formula="sum over 15 equal bins of share x |accuracy - mean confidence|",
            source="Guo, Pleiss, Sun, Weinberger 2017, equation 3",
            needs=_CLASSES,
            score=Lazy("bench.metrics.classification", "calibration_error"),
            per_image=False,
            tolerance=_COUNTED_BY_CLASS,
        ),
        **{
            metric.id: dataclasses.replace(metric, tolerance=_tolerance(metric))
            for metric in (*REPRESENTATION, *GENERATION, *INTERPOLATION, *ROBUSTNESS, *COST)
        },
    }
)
METRICS = Table(with_few_bits(_ROWS, _FEW_BITS), "bench.metrics", Metric)
"""The metrics of bench, and those of installed packages."""


def short_title(metric: str) -> str:
    """`MSE`, `PSNR (dB)`, `SSIM Gaussian`: a metric's name as a column header, where "test" may
    stand before it; of further tasks its title."""
    if metric in METRICS and METRICS[metric].further:
        row = METRICS[metric]
        # A number of bytes is shown with its own unit: kB or MB.
        return within(row.title) + (f" ({row.unit})" if row.unit not in ("", BYTES) else "")
    coarse = _BITS.fullmatch(metric)
    name, bits = coarse.groups() if coarse else (metric, "")
    words = [_WRITTEN.get(word, word) for word in name.split("_")]
    unit = METRICS[metric].unit if metric in METRICS else ""
    at = f" at {bits} bits" if bits else ""
    return " ".join(words) + at + (f" ({unit})" if unit else "")


BYTES = "bytes"
_BITS = re.compile(r"(.+)_(\d+)bit")
_INITIALS = ("mse", "mae", "psnr", "ssim", "knn", "auc", "fcd", "lpips", "f1")
_WRITTEN = {word: word.upper() for word in _INITIALS} | {"gaussian": "Gaussian"}
"""How a word of a metric's name is written, unless it is small."""


def within(name: str) -> str:
    """`linear probe accuracy`, `SSIM, uniform window`: a title as it stands within a sentence."""
    return name[:1].lower() + name[1:] if name[1:2].islower() else name


def metrics_of(task: str) -> dict[str, Metric]:
    """The rows of METRICS of a task or further task."""
    return {metric.id: metric for metric in METRICS.usable() if metric.task == task}


def metrics_for(task: str) -> dict[str, Metric]:
    """The rows of METRICS for the models that `task` judges, those of further tasks included."""
    judged = TASKS[task].judges
    return {metric.id: metric for metric in METRICS.usable() if metric.judges == judged}


def chosen_metrics(config: EvaluationConfig) -> tuple[str, ...]:
    """The metrics of a protocol: those that it lists, then all others of its further tasks."""
    further = (name for task in config.tasks for name in metrics_of(task))
    return tuple(dict.fromkeys((*config.metrics, *further)))


def headlines() -> tuple[str, ...]:
    """The metrics with one value per image that order the boards of further tasks."""
    found = (task.headline for task in FURTHER_TASKS.values())
    return tuple(name for name in found if name in METRICS and METRICS[name].per_image)


def per_image(
    metric_ids: Iterable[str], seen: Seen, config: EvaluationConfig
) -> "dict[str, Tensor]":
    """Score what a model made of some images, image by image.

    Returns one float32 tensor (N,) per metric, in the order given. Left out are metrics of a whole
    set, and those of further tasks, which read a whole part (`of_part`). Raises BadInput for a
    metric that is not in METRICS, ValueError if `seen` lacks what one needs or shapes do not match.
    """
    chosen = [metric for metric in _rows(metric_ids) if metric.per_image and not metric.further]
    return {metric.id: metric.compute(seen, config) for metric in chosen}


def of_part(metric_ids: Iterable[str], seen: Seen, config: EvaluationConfig) -> "dict[str, Tensor]":
    """The metrics in `metric_ids` that `per_image` leaves out, of a whole part of the data.

    One float32 tensor (N,), or one float64 number, per metric; errors as of `per_image`. A metric
    of a further task that is not defined here (NaN) is left out.
    """
    chosen = [metric for metric in _rows(metric_ids) if metric.further or not metric.per_image]
    found = {metric.id: metric.compute(seen, config) for metric in chosen}
    undefined = {row.id for row in chosen if row.further and found[row.id].isnan().any()}
    return {name: value for name, value in found.items() if name not in undefined}


def whole_set(metric_ids: Iterable[str], seen: Seen, config: EvaluationConfig) -> dict[str, float]:
    """The metrics in `metric_ids` that score all images at once; otherwise as `per_image`."""
    chosen = [metric for metric in _rows(metric_ids) if not metric.per_image]
    return {metric.id: metric.compute(seen, config).item() for metric in chosen}


def why_absent(metric: Metric) -> str:
    """Why no row of a board has a metric, for people."""
    missing = [MISSING[need] for need in MISSING if need in metric.needs]
    return missing[0] if missing else "needs more images"


def _rows(metric_ids: Iterable[str]) -> list[Metric]:
    ids = tuple(metric_ids)
    for name in ids:
        if name not in METRICS:
            raise METRICS.missing(name)
    return [METRICS[name] for name in ids]
