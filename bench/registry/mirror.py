"""Champions in MLflow's Model Registry: model versions with aliases, from local records.

`registry/` is authoritative. MLflow can only register runs of this machine; the functions return
messages about everything else.
"""

from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.leaderboard.cells import TableCell
from bench.leaderboard.competitions import Competition
from bench.leaderboard.wording import ranks_text, share_text
from bench.records.files import read_record
from bench.records.selection import median_record
from bench.registry.card_text import card_text
from bench.registry.cards import Card, Summary
from bench.registry.champions import champions
from bench.registry.results import record_of_row
from bench.tracking import clear_alias, register_version


def tell_mlflow(store: Store, competition: Competition, challenger: TableCell | None) -> list[str]:
    """Point a track's aliases `champion` and `challenger` at their versions; returns messages."""
    card = champions(store.registry)[competition.title]
    lines = _tell_champion(store, card)
    if challenger is None:
        clear_alias(store, competition.title, "challenger")
        return lines
    rows = competition.cells[challenger.configuration]
    found = [record_of_row(store, row) for row in rows]
    record = median_record([known for known in found if known is not None])
    if record is None:
        clear_alias(store, competition.title, "challenger")
        return [*lines, _not_here(competition.title, "challenger", challenger.row)]
    register_version(
        store,
        record,
        registered_name=competition.title,
        alias="challenger",
        description=f"{challenger.row}: next to the champion {card.summary.row} in the track "
        f"{competition.title}, ranked on validation images.",
        tags=_headline(record) | _place(card.challenger),
    )
    return lines


def tell_rollback(store: Store, card: Card) -> list[str]:
    """Point `champion` at the restored champion."""
    return _tell_champion(store, card)


def tell_champions(store: Store) -> None:
    """Register every champion again, in a store of MLflow that lacks them. Challengers follow with
    the next promotion."""
    for card in champions(store.registry).values():
        _tell_champion(store, card)


def _tell_champion(store: Store, card: Card) -> list[str]:
    record = read_record(store.records, card.run_key, card.spec.board)
    if record is None:
        # Delete the alias: it would point at another model.
        clear_alias(store, card.track, "champion")
        return [_not_here(card.track, "champion", card.summary.row)]
    register_version(
        store,
        record,
        registered_name=card.track,
        alias="champion",
        description=card_text(card),
        tags=_headline(record) | _place(card.summary),
    )
    return []


def _headline(record: RunRecord) -> dict[str, str]:
    """The final scores as version tags: MLflow's page of a version shows no metrics."""
    return {
        f"{part}_{metric}": f"{value:.5g}"
        for part, scores in record.scores.items()
        for metric, value in scores.items()
    }


def _place(row: Summary | None) -> dict[str, str]:
    """Where the row stands in its table."""
    if row is None:
        return {"over_pca": ""}
    return {
        "over_pca": row.over_pca,
        "ranks": ranks_text(row.ranks),
        "best_in": share_text(row.best_share),
    }


def _not_here(track: str, alias: str, row: str) -> str:
    return (
        f"{track}: MLflow lacks the {alias} {row}, which did not run on this machine; to add "
        "it: `bench run`, then `bench promote`"
    )
