"""Checks the cards of champions against the ledger and the table: whatever a card says of its run
stands in a row, and whatever it says of its place follows from the table."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.core.errors import CheckFailed
from bench.leaderboard.cells import TableCell
from bench.leaderboard.competitions import Competition, competitions
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.ledger import OF_NETWORK, Ledger, LedgerRow, configuration_of, current
from bench.leaderboard.merging import disagreement
from bench.registry.cards import Card, summary_of
from bench.registry.champions import PREVIOUS, champions, fits, previous
from bench.registry.results import Results

_FIRST_SCHEMA = 1
"""Cards of the first schema had a rank, by another rule than today's table."""
_FIX = "fix it with: bench promote, where its run is, or restore the committed file"


def check_cards(registry: Path, results: Results, table: Sequence[TableCell]) -> list[str]:
    """Check every champion against the row of its run, against its cell and against the table.

    Returns the tracks whose card says another place than the champion has now: other rows may have
    come since. Raises CheckFailed naming the card and what it says otherwise.
    """
    moved = []
    rows = {row.key: row for row in results.ledger}
    shown = {found.title: found for found in competitions(current(results.ledger))}
    for card in champions(registry).values():
        where = f"registry/{card.folder}/card.json"
        if _check_cell(card, shown.get(card.track), table, where):
            moved.append(card.track)
        _check_run(card, rows, where)
        older = previous(registry, card)
        if older is not None:
            _check_previous(older, card, rows, f"registry/{card.folder}/{PREVIOUS}/card.json")
    return moved


def row_of_card(card: Card, rows: Mapping[tuple[str, ...], LedgerRow]) -> LedgerRow | None:
    """The ledger's row of a champion's run; None: it has none."""
    spec = card.spec
    board = spec.dataset_label, spec.protocol, spec.protocol_fingerprint
    return rows.get((card.run_key, card.evaluation_digest, *board))


def why_other(card: Card, ledger: Ledger) -> str:
    """What a champion's card says of its run that the row of its run does not, or ""."""
    try:
        _check_run(card, {row.key: row for row in ledger}, "its card")
    except CheckFailed as error:
        return str(error).removesuffix(f"; {_FIX}")
    return ""


def _check_run(card: Card, rows: Mapping[tuple[str, ...], LedgerRow], where: str) -> None:
    row = row_of_card(card, rows)
    if row is None:
        raise CheckFailed(f"{where}: no row of results.csv is of its run {card.run_key}; {_FIX}")
    for what, (says, gives) in _pairs(card, row).items():
        if says != gives:
            raise CheckFailed(
                f"{where}: {what} is {says}, its row in results.csv gives {gives}; {_FIX}"
            )
    # The row may be of the same run on another machine.
    scores = {f"{part}_{name}": v for part, of in card.scores.items() for name, v in of.items()}
    why = disagreement(row, dataclasses.replace(row, scores=scores))
    if why or scores.keys() != row.scores.keys():
        raise CheckFailed(f"{where}: {why or 'it has other scores than results.csv'}; {_FIX}")
    if not card.weights.committed and fits(card.weights.bytes):
        raise CheckFailed(
            f"{where}: weights of {card.weights.bytes:,} bytes are not too large to be committed; "
            f"{_FIX}"
        )


def _pairs(card: Card, row: LedgerRow) -> dict[str, tuple[object, object]]:
    """What a card and a row of the ledger both say of a run."""
    spec = card.spec
    return {
        "run_key": (spec.run_key, row.run_key),
        "evaluation_digest": (spec.evaluation_digest, row.evaluation_digest),
        "the selection metric": (spec.selection_metric, row.selection_metric),
        "the seed": (spec.seed, row.seed),
        "the configuration": (configuration_of(spec), row.configuration),
        "the recipe": (spec.recipe, row.recipe),
        "the data digest": (spec.data_digest, row.data_digest),
        "the split digest": (card.split_digest, row.split_digest),
        "the track": (card.track_name, str(row.track)),
        "the name": (card.track, f"{row.dataset}.{row.protocol}.{row.track}"),
        **{
            name: (rounded(card.facts[name]) if name in card.facts else None, row.facts.get(name))
            for name in OF_NETWORK
        },
    }


def _check_cell(
    card: Card, competition: Competition | None, table: Sequence[TableCell], where: str
) -> bool:
    """The rows of its cell, its choice among them, and their means; returns whether its place in
    the table is another one now."""
    rows = competition.cells.get(card.summary.configuration) if competition else None
    if rows is None or competition is None:
        return False  # superseded: the next promotion replaces it
    if tuple(row.row_digest for row in rows) != card.rows:
        raise CheckFailed(
            f"{where} was written from other rows of results.csv than there are now for "
            f"{card.summary.row} in {card.track}; fix it with: bench promote"
        )
    chosen = median_row(rows)
    if chosen is None or chosen.run_key != card.run_key:
        raise CheckFailed(
            f"{where}: seed {card.spec.seed} is not the one with the median validation score "
            f"(seed {chosen.seed if chosen else 'none'}); {_FIX}"
        )
    cells = {
        cell.configuration: summary_of(cell)
        for cell in table
        if (cell.board, cell.track) == (rows[0].board, rows[0].track)
    }
    now = cells[card.summary.configuration]
    for name in ("row", "seeds", "runs", "means", "deviations"):
        if (says := getattr(card.summary, name)) != (gives := getattr(now, name)):
            raise CheckFailed(
                f"{where}: {name} of {now.row} is {says}, the table gives {gives}; "
                "fix it with: bench promote"
            )
    if card.schema_version <= _FIRST_SCHEMA:
        return False
    other = card.challenger
    return now != card.summary or (other and cells.get(other.configuration)) != other


def median_row(rows: Sequence[LedgerRow]) -> LedgerRow | None:
    """The row whose run represents a cell, as `records.selection.median_record` chooses it."""
    scored = [
        (score, row.seed, row)
        for row in rows
        if row.status == "finished" and (score := row.selected("val")) is not None
    ]
    scored.sort(key=lambda each: each[:2])
    return scored[(len(scored) - 1) // 2][2] if scored else None


def _check_previous(
    older: Card, card: Card, rows: Mapping[tuple[str, ...], LedgerRow], where: str
) -> None:
    """A champion that `bench registry rollback` may bring back has a row, too.

    The row may be refreshed since, so only its identity is compared.
    """
    if older.track != card.track:
        raise CheckFailed(f"{where} is the card of {older.track}; restore the committed file")
    if row_of_card(older, rows) is None:
        raise CheckFailed(
            f"{where}: no row of results.csv is of its run {older.run_key}; remove the folder"
        )
