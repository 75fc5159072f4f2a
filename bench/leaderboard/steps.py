"""Which trainings were too short to compare networks by."""

from collections.abc import Iterable

from bench.core.recipes import FEW_STEPS, LEAST_STEPS, TRAIN_LONGER
from bench.core.spec import RunRecord

LAST_SHARE = 0.1
LARGEST_FALL = 0.02
_ERRORS = ("val/mse", "val/cross_entropy")
"""Errors on validation that are watched in training: of autoencoders, of classifiers."""


def few_steps(record: RunRecord) -> dict[str, float]:
    """The fact that a training was short: its number of steps. Empty if it was not.

    It is short if it made fewer than LEAST_STEPS steps, or if, at a constant rate, the lowest error
    on validation fell by more than LARGEST_FALL in the last tenth of its epochs (at least one).
    Published recipes, whose rows are not ranked, are not judged.
    """
    if not record.history or record.status != "finished" or not record.spec.ranked:
        return {}
    steps = record.history[-1].step
    constant = record.spec.train.schedule == "constant"
    is_short = steps < LEAST_STEPS or (constant and _fall_at_the_end(record) > LARGEST_FALL)
    return {FEW_STEPS: float(steps)} if is_short else {}


def _fall_at_the_end(record: RunRecord) -> float:
    """How much lower the lowest error is for the last epochs, as a share; 0: not, or unknown."""
    key = next((key for key in _ERRORS if key in record.history[-1].values), "")
    errors = [values.values[key] for values in record.history if key in values.values]
    last = max(1, round(LAST_SHARE * len(errors)))
    if len(errors) <= last or not (before := min(errors[:-last])) > 0:
        return 0.0
    return (before - min(errors)) / before


def advice(facts: Iterable[float]) -> list[str]:
    """One line on rows with few steps and what to give, from their fact (NaN: it has none)."""
    short = [steps for steps in facts if steps > 0]
    if not short:
        return []
    rows = "1 row has" if len(short) == 1 else f"{len(short)} rows have"
    return [f"{rows} few steps (the fewest: {min(short):,.0f}); {TRAIN_LONGER}"]
