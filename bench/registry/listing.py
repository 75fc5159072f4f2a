"""Descriptions of the champions for `bench registry list`."""

from typing import Any

from bench.leaderboard.wording import shown_score, short_title
from bench.registry.champions import champions, previous
from bench.core.store import Store


def describe_champions(store: Store) -> list[dict[str, Any]]:
    """One row per track: champion, its mean test score, challenger, previous champion."""
    rows = []
    for track, card in champions(store.registry).items():
        metric = card.spec.selection_metric
        older = previous(store.registry, card)
        test = card.summary.means[f"test_{metric}"]
        rows.append(
            {
                "track": track,
                "champion": card.summary.row,
                "metric": metric,
                "test_mean": test,
                "test": f"{short_title(metric)} {shown_score(test, metric)}",
                "over_pca": card.summary.over_pca,
                "challenger": card.challenger.row if card.challenger else None,
                "previous": older.summary.row if older else None,
                "run_key": card.run_key,
                "folder": f"registry/{card.folder}",
            }
        )
    return rows
