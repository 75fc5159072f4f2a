"""How what was written down of a run is compared with what its weights give.

Every score has its metric's own tolerance (`Metric.tolerance`), scores per image and facts those
below. What nobody can compute again is in NOT_COMPARED, by name.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from bench.core.protocol import NAME_ONLY
from bench.core.recipes import BEST_OF
from bench.core.spec import COPIED, TOGETHER, RunRecord
from bench.metrics import METRICS, Tolerance
from bench.metrics.base import LEAST
from bench.models.zoo import MODELS, checked_hyperparameters

NOT_COMPARED = {
    "train_seconds": "the time of one training on one machine",
    "images_per_second": "the speed of one machine",
    "best_epoch": "of the training, which only `--retrain` repeats",
    "epochs_run": "of the training, which only `--retrain` repeats",
    TOGETHER: "of the training: how many seeds it took along",
    BEST_OF: "of a study, whose trials are in registry/studies/",
}
"""The facts that do not follow from weights and images, each with what it is. Any other fact is
computed again."""
_OF_IMAGES = 2e-3
"""The largest distance of a score per image, relative to the largest one: the registry keeps 11
binary digits of each, and other processors round differently."""
LARGEST_APART = 2e-4
"""The largest distance, on [0, 1], of a closed form's reconstructions when it is solved again. An
error can hide what this shows: PCA of 70,000 instead of 50,000 images has the same to 0.03 %."""
_OF_FACTS, RETRAINED = 1e-3, 1e-2
"""Relative, from the same weights and of the same run trained again: between two machines the
deviation of outputs moved by up to 0.14 %. Counts of a network are exact; signs of codes are sums
over images."""

Scores = Mapping[str, Mapping[str, float]]


def tolerance_of(name: str) -> Tolerance:
    """The tolerance of a metric; a whole training loss is none and has the usual one."""
    return METRICS[name].tolerance if name in METRICS else Tolerance()


def other_score(
    written: Scores, again: Scores, tolerance: Callable[[str, str, float], float]
) -> str:
    """The first score that was not reproduced; `tolerance` is given a metric, a part, a value."""
    for part, scores in written.items():
        for name, value in scores.items():
            if name in METRICS and not METRICS[name].compared:
                continue
            new = again.get(part, {}).get(name, math.nan)
            if not abs(new - value) <= tolerance(name, part, value):
                return f"{part} {name} is {new:.6g} from the weights, written down as {value:.6g}"
    for part, scores in again.items():
        if missing := scores.keys() - written.get(part, {}).keys():
            return f"{part} {min(missing)} is not written down"
    return ""


def other_fact(
    written: Mapping[str, float], again: Mapping[str, float], share: float = _OF_FACTS
) -> str:
    """The first fact that the network, its codes or its images do not give; `share`: how far one
    that is no count may be off, relative to it."""
    for name in sorted((written.keys() | again.keys()) - NOT_COMPARED.keys()):
        old, new = written.get(name, math.nan), again.get(name, math.nan)
        if name in again and name not in written and name not in _ALWAYS:
            continue  # older records lack later facts
        exact = old.is_integer() and new.is_integer() and name not in _COUNTED_CODES
        if not abs(new - old) <= (0.0 if exact else max(share * abs(old), LEAST)):
            return f"{name} is {new:.6g}, written down as {old:.6g}"
    return ""


_ALWAYS = frozenset({"output_std", "active_units", "code_bits", COPIED})
"""What a row wears a note for, or competes by: it may not be left out."""
_COUNTED_CODES = frozenset({"active_units", "active_fraction", "dead_codes"})
"""Counts of codes, which a last digit may put on the other side of a threshold."""


def other_images(
    metric: str,
    written: Mapping[str, NDArray[np.generic]],
    again: Mapping[str, NDArray[np.generic]],
) -> str:
    """The first part whose scores per image are not those of the weights; both by part."""
    tied = tolerance_of(metric).tied
    for part, scores in written.items():
        new = again.get(part)
        if new is None or new.shape != scores.shape:
            return f"{part} {metric} has {len(scores)} scores per image where the weights give none"
        ours, theirs = new.astype(np.float64), scores.astype(np.float64)
        away = np.abs(theirs - ours)
        if tied:
            if not np.count_nonzero(away) <= tied:
                return f"{part} {metric} per image is not what the weights give"
        elif not away.max() <= _OF_IMAGES * max(np.abs(ours).max(), LEAST):
            worst = int(np.nanargmax(away)) if np.isfinite(away).any() else 0
            return (
                f"{part} {metric} of image {worst} is {ours[worst]:.6g} from the weights, written "
                f"down as {theirs[worst]:.6g}"
            )
    return ""


def other_protocol(record: RunRecord) -> str:
    """What a record says otherwise than the protocol and the variant that it names."""
    spec, protocol, known = record.spec, record.spec.definition, MODELS.get(record.spec.model)
    if known is not None and record.closed_form != known.closed_form:
        return f"closed_form is {record.closed_form}, of {spec.model} it is {known.closed_form}"
    if protocol is None or protocol.description == NAME_ONLY:
        return ""
    pairs: dict[str, tuple[object, object]] = {
        "protocol_fingerprint": (spec.protocol_fingerprint, protocol.fingerprint),
        "split": (spec.split, protocol.split),
        "evaluation": (spec.evaluation, protocol.evaluation),
        "selection_metric": (spec.selection_metric, protocol.selection_metric),
        "ranked": (spec.ranked, protocol.ranked),
    }
    if spec.recipe == "default":
        images = int(record.facts.get("train_images", 0))
        pairs["train"] = (spec.train, protocol.train.for_images(images))
    if spec.recipe == "default" and known is not None and known.revision == spec.model_revision:
        given = protocol.hyperparameters.get(spec.model, {})
        planned = checked_hyperparameters(spec.model, given)
        pairs["hyperparameters"] = (dict(spec.hyperparameters), dict(planned))
    wrong = [name for name, (says, gives) in pairs.items() if says != gives]
    return f"{wrong[0]} is not that of its protocol" if wrong else ""
