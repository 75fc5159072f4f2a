"""What a recipe is called: "default", or "tuned (30 trials)" by how many trials it was the best of.

The second study of the same name, begun with --new-study, says so: "tuned (30 trials, study 2)".
"""

import re
from collections.abc import Mapping

BEST_OF = "best_of_trials"
"""The fact of a run of the default recipe that a study of so many trials found nothing better."""

_LABEL = re.compile(r"tuned \((\d+) trials(?:, study \d+)?\)")


def tuned(trials: int, study: int = 1) -> str:
    """`tuned (30 trials)`, `tuned (30 trials, study 2)`."""
    return f"tuned ({trials} trials{f', study {study}' if study > 1 else ''})"


def budget(recipe: str) -> int:
    """The trials behind a recipe's name; 0 for one that no study chose."""
    found = _LABEL.fullmatch(recipe)
    return int(found[1]) if found else 0


def budget_of_row(row: Mapping[str, str]) -> int:
    """The trials behind a row of the ledger, also where the default recipe won."""
    return max(budget(row["recipe"]), int(float(row.get(BEST_OF) or 0)))
