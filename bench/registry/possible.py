"""Which numbers a row of the ledger can have: by itself, and by the run that its protocol plans."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from bench.core.spec import RunSpec
from bench.core.tasks import TASKS
from bench.data import DATASETS
from bench.data.split import planned_sizes
from bench.leaderboard.ledger import FACTS, LedgerRow
from bench.leaderboard.merging import PARTS
from bench.metrics import METRICS, chosen_metrics
from bench.metrics.seen import SENT, SHORT, Need

_ROUNDED = 1e-6
"""Relative: of numbers with nine digits, and of float32."""
_SHARE = (0.0, 1.0)


def impossible(row: LedgerRow) -> str:
    """A score or a fact that no run has, or ""."""
    for column, value in row.scores.items():
        metric = METRICS.get(column.partition("_")[2])
        low, high = metric.bounds if metric else (-math.inf, math.inf)
        if not low <= value <= high:
            return f"{column} is {value:g}, outside of {low:g} to {high:g}"
    ranges = _ranges(row)
    for name, value in row.facts.items():
        low, high = ranges.get(name, (-math.inf, math.inf))
        if not low <= value <= high:
            bounds = f"below {low:g}" if value < low else f"outside of {low:g} to {high:g}"
            return f"{name} is {value:g}, {bounds}"
    if row.status == "finished" and row.selected("test") is None:
        return f"a finished run without a test {row.selection_metric}"
    if row.finished > datetime.now(UTC) + timedelta(days=1):
        return f"finished is {row.finished:%Y-%m-%d}, after tomorrow by the clock of this machine"
    return _other_errors(row) or _other_active_units(row)


def _ranges(row: LedgerRow) -> dict[str, tuple[float, float]]:
    """The lowest and the highest value of facts."""
    positive = math.ulp(0.0), math.inf
    numbers = math.inf if row.code_size is None else float(row.code_size)
    return {
        "parameters": (1, math.inf),
        "multiply_adds": (0, math.inf),
        "compression_ratio": positive,
        "train_images": (1, math.inf),
        "train_seconds": positive,
        "images_per_second": positive,
        "best_epoch": (0, math.inf),
        "active_units": (0, numbers),
        "output_std": (0, 0.5),  # half of the images black, half of them white
        "train_accuracy": _SHARE,
        "best_val_accuracy": _SHARE,
        "active_fraction": _SHARE,
        "dead_codes": (0, math.inf),
        "code_bits": (0, math.inf),
        "predicted_classes": (1, row.track.size if row.track.classifies else math.inf),
    }


def _other_errors(row: LedgerRow) -> str:
    """Means of errors on [0, 1] that contradict each other, whatever the images are."""
    for part in PARTS:
        for bits in ("", "_8bit"):
            mse, mae, psnr = (row.scores.get(f"{part}_{m}{bits}") for m in ("mse", "mae", "psnr"))
            if not mse:
                continue
            low, high = mse * (1 - _ROUNDED), math.sqrt(mse) * (1 + _ROUNDED)
            if mae is not None and not low <= mae <= high:
                return (
                    f"{part}_mae{bits} is {mae:g}, with this MSE it is in {low:.3g} to {high:.3g}"
                )
            least = -10 * math.log10(mse) - 1e-4
            if psnr is not None and psnr < least:
                return f"{part}_psnr{bits} is {psnr:g}, with this MSE it is at least {least:.4g}"
    return ""


def _other_active_units(row: LedgerRow) -> str:
    """The fact is the score on the part that ranks."""
    fact = row.facts.get("active_units")
    score = next((s for p in PARTS if (s := row.scores.get(f"{p}_active_units")) is not None), fact)
    return f"active_units is {fact}, its scores say {score:g}" if score != fact else ""


def unplanned(row: LedgerRow, spec: RunSpec) -> str:
    """What a finished row lacks, or says otherwise than the run of the shipped protocol `spec`."""
    if row.status != "finished":
        return ""
    wanted = [name for name in FACTS if name not in _OF_CODES or row.code_size]
    if TASKS[spec.task].has_code:
        wanted.append("output_std")
    else:
        wanted.append("predicted_classes")
    for name in wanted:
        if name not in row.facts:
            return f"{name} is missing"
    if row.facts["multiply_adds"] == 0 and row.code_size != 0:
        return "multiply_adds is 0"
    if row.dataset in DATASETS:
        images = planned_sizes(DATASETS[row.dataset].counts, spec.split)["train"]
        if row.facts["train_images"] != images:
            return f"train_images is {row.facts['train_images']:g}, its split has {images}"
    return _other_training(row, spec) or next(_missing_scores(row, spec), "")


_OF_CODES = frozenset({"compression_ratio", "active_units", "output_std"})
"""Facts of autoencoders, all but the last of those with a code."""


def _other_training(row: LedgerRow, spec: RunSpec) -> str:
    """Other epochs, or a speed at which other images were seen, than the recipe has."""
    if row.recipe != "default":
        return ""
    images, best = int(row.facts["train_images"]), row.facts["best_epoch"]
    recipe = spec.train
    epochs = 0 if row.closed_form else recipe.epochs
    first = 1 if epochs and spec.split.validation else 0
    if not first <= best <= epochs:
        return f"best_epoch is {best:g}, the recipe has {epochs} epochs"
    an_epoch = images - images % recipe.batch_size + recipe.last_batch(images)
    least = most = an_epoch * epochs
    if row.closed_form:
        least = most = images
    elif recipe.patience is not None:
        least = an_epoch * max(1, int(best))
    seen = row.facts["train_seconds"] * row.facts["images_per_second"]
    if not least * (1 - _ROUNDED) <= seen <= most * (1 + _ROUNDED):
        return (
            f"train_seconds is {row.facts['train_seconds']:g}, at its images_per_second these are "
            f"{seen:.6g} images, the recipe has {most}"
        )
    return ""


def _missing_scores(row: LedgerRow, spec: RunSpec) -> Iterator[str]:
    """Metrics that its evaluation names and it could have, but has not."""
    parts = PARTS if spec.split.validation else ("test",)
    for part in parts:
        offered = _offers(row, part, spec)
        for name in chosen_metrics(spec.evaluation):
            metric = METRICS[name]
            needed = metric.needs if metric.further else metric.needs & {"codes", *SENT}
            if needed <= offered and f"{part}_{name}" not in row.scores:
                yield f"{part}_{name} is missing, its protocol asks for it"


def _offers(row: LedgerRow, part: str, spec: RunSpec) -> set[Need]:
    """What metrics can read of a row's model and data (`evaluate`), as far as the row says.

    Not whether a code is variational. Of data that bench does not know, and of few images, metrics
    of further tasks may be undefined: nothing is offered to them.
    """
    found: set[Need] = set()
    real = bool(row.code_size) and row.track.kind != "bits" and "dead_codes" not in row.facts
    if row.code_size:
        found |= {"codes"}
    if real:
        found |= {*SENT}
    if row.dataset not in DATASETS or row.facts["train_images"] < _ENOUGH:
        return found
    found |= {"images", "reconstructions", "reconstruct", "labels", "train", "validation", "pairs"}
    found |= {"mean_image", "counterpart"}
    if row.code_size:
        found |= {"decode"}
    if real:
        found |= {"vectors"}
        if (row.code_size or 0) <= SHORT:
            found |= {"short_vectors"}
    if part == "test":
        found |= {"model"}
    if DATASETS[row.dataset].foreign:
        found |= {"others"}
    if spec.metric_revisions.keys() - METRICS.keys():  # that of the feature network
        found |= {"features", "untrained_features", "network", "untrained_network", "confidence"}
    return found


_ENOUGH = 1000
"""Training images with which every metric is defined."""
