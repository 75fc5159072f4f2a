"""What tuning gained: one row per study, from the runs with fresh seeds only."""

import math
from collections.abc import Sequence
from typing import Any

from bench.metrics import METRICS
from bench.sweep.running import StudyOutcome, command, repeat_winner


def report(outcomes: Sequence[StudyOutcome]) -> list[dict[str, Any]]:
    """Plain values for a table or for JSON; unknown numbers are None.

    `rank_before` and `rank_after` order the variants of one code size by the mean validation
    score of their default recipes, and of the better of their two recipes. They do not consider
    significance; the leaderboard does.
    """
    return [
        {
            **_row(outcome),
            "rank_before": _rank(outcome, outcomes, tuned=False),
            "rank_after": _rank(outcome, outcomes, tuned=True),
        }
        for outcome in outcomes
    ]


def _row(outcome: StudyOutcome) -> dict[str, Any]:
    counts, spec = outcome.counts, outcome.plan.base
    winner = outcome.winner
    return {
        "study": outcome.study,
        "model": spec.model,
        "latent_dim": spec.latent_dim,
        "recipe": outcome.recipe if winner is None or not outcome.is_default else "default",
        "metric": spec.selection_metric,
        "trials": counts.finished,
        "complete": counts.complete,
        "pruned": counts.pruned,
        "diverged": counts.diverged,
        "put_back": counts.put_back,
        "given_up": counts.given_up,
        "epochs_share": _known(outcome.epochs_share),
        "winner_trial": None if winner is None else winner.number,
        "winner_settings": None if winner is None else dict(winner.settings),
        "changed": dict(outcome.changed),
        "best_of_search": _known(outcome.value),
        "default_mean": _known(outcome.mean(tuned=False)),
        "tuned_mean": _known(outcome.mean(tuned=True)),
        "gain_percent": _known(outcome.gain_percent),
        "importance": dict(outcome.importance),
        "repeat": command(outcome.plan),
        "repeat_winner": repeat_winner(outcome),
        "confirmed_by": outcome.closer or "this command",
        "mlflow": outcome.link,
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rank(outcome: StudyOutcome, outcomes: Sequence[StudyOutcome], *, tuned: bool) -> int | None:
    """1 + the variants of the same code size with a better mean; None if there are no others."""

    def score(other: StudyOutcome) -> float:
        """Lower is better, whatever the metric."""
        higher = METRICS[other.plan.base.selection_metric].higher_is_better
        means = [other.mean(tuned=False), *([other.mean(tuned=True)] if tuned else [])]
        finite = [-mean if higher else mean for mean in means if math.isfinite(mean)]
        return min(finite, default=math.inf)

    mine = score(outcome)
    if math.isinf(mine):
        return None
    size = outcome.plan.base.latent_dim
    same = [other for other in outcomes if other.plan.base.latent_dim == size]
    return 1 + sum(score(other) < mine for other in same) if len(same) > 1 else None
