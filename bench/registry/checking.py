"""Checks the tables of `registry/` against each other and against the scores per image."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from bench.core.errors import CheckFailed
from bench.leaderboard.csv_rows import CsvRow
from bench.leaderboard.ledger import current, ledger_of
from bench.leaderboard.significance import (
    Competition,
    IntervalRow,
    PairRow,
    Significance,
    compute,
    every_competition,
)
from bench.registry.results import CELLS, PAIRS, RESULTS, Results, all_kept, read_results
from bench.registry.scores import FOLDER, INDEX, Kept, check_scores

_ABSOLUTE = {"best_share": 0.002}
"""A share of draws changes by steps, where a last digit turns a draw round."""


def check_results(registry: Path) -> tuple[Results, int]:
    """Check the four tables against each other and against the scores per image.

    Returns the tables, and how many ranked runs have no committed scores: comparisons with these
    cannot be computed again here. Raises CheckFailed naming the file and the problem.
    """
    results = read_results(registry)
    written = dataclasses.replace(results, ledger=ledger_of(results.ledger))
    for name, rendered in written.files().items():
        path = registry / name
        if not path.exists():
            if name == INDEX:  # of a registry without scores
                continue
            raise CheckFailed(f"registry/{name} is missing; write it: bench leaderboard --write")
        if path.read_bytes() != rendered:
            raise CheckFailed(
                f"registry/{name} is not in the order or the form in which it is written; "
                "fix it with: bench leaderboard --write"
            )
    comparable = list(every_competition(current(results.ledger)))
    for competition in comparable:
        if not results.known.holds_for(competition):
            raise CheckFailed(
                f"track {competition.title}: registry/{CELLS} and registry/{PAIRS} were computed "
                f"from other rows than those in registry/{RESULTS}; fix it with: "
                "bench leaderboard --write"
            )
    known_digests = {competition.digest for competition in comparable}
    computed_rows: dict[str, Sequence[IntervalRow | PairRow]] = {
        CELLS: results.known.cells,
        PAIRS: results.known.pairs,
    }
    for name, rows in computed_rows.items():
        for line, row in enumerate(rows, start=2):
            if row.rows_digest not in known_digests:
                raise CheckFailed(
                    f"registry/{name} line {line} belongs to no track of registry/{RESULTS}; "
                    "fix it with: bench leaderboard --write"
                )
    without = check_scores(registry, results.scores, results.ledger)
    kept = Kept(registry, results.scores)
    for competition in comparable:
        _check_comparisons(competition, results.known.of(competition), kept)
    return results, without


def _check_comparisons(competition: Competition, known: Significance, kept: Kept) -> None:
    """Compute a track again if all of its scores are committed; CheckFailed if it differs.

    Another processor's last digits are no difference.
    """
    if not all_kept(competition, kept):
        return
    cells, pairs = compute(competition, kept.scores_of)
    found: dict[str, tuple[Sequence[CsvRow], Sequence[CsvRow]]] = {
        CELLS: (known.cells, cells),
        PAIRS: (known.pairs, pairs),
    }
    for name, (committed, again) in found.items():
        if not all(_is_close(a, b) for a, b in zip(committed, again, strict=True)):
            raise CheckFailed(
                f"track {competition.title}: registry/{name} is not what registry/{FOLDER}/ gives; "
                "delete it and write it again: bench leaderboard --write"
            )


def _is_close(one: CsvRow, other: CsvRow) -> bool:
    ours, theirs = one.values(), other.values()
    return all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=_ABSOLUTE.get(name, 1e-9))
        if isinstance(a := ours[name], float) and isinstance(b := theirs[name], float)
        else ours[name] == theirs[name]
        for name in ours
    )
