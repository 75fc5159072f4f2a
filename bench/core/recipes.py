"""Names of recipes: "default", or "tuned (30 trials)" for the best of 30 trials.

A second study of the same variant, begun with --new-study: "tuned (30 trials, study 2)".
"""

import re
from typing import Annotated

from pydantic import AfterValidator

BEST_OF = "best_of_trials"
"""Fact of a default run: how many trials of a study found nothing better."""
FEW_STEPS = "few_steps"
"""Fact of a run whose training was short: how many steps it made."""
LEAST_STEPS = 500
"""Trainings of fewer steps are short, whatever their schedule."""
TRAIN_LONGER = (
    "train longer: --protocol own, or more train.steps or train.epochs in a protocol of your own"
)

_LABEL = re.compile(r"tuned \((\d+) trials(?:, study \d+)?\)")


def tuned(trials: int, study: int = 1) -> str:
    """`tuned (30 trials)`, `tuned (30 trials, study 2)`."""
    return f"tuned ({trials} trials{f', study {study}' if study > 1 else ''})"


def budget(recipe: str) -> int:
    """The number of trials behind a recipe's name; 0 if no study chose it."""
    found = _LABEL.fullmatch(recipe)
    return int(found[1]) if found else 0


def _as_recipe(text: str) -> str:
    if text != "default" and not _LABEL.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no recipe; expected default or tuned (N trials)")
    return text


Recipe = Annotated[str, AfterValidator(_as_recipe)]
"""The name of a recipe in a file, checked where the file is parsed."""
