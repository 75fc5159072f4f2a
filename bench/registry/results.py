"""The tables of `registry/`: read, update from local records, write, check.

Writing is idempotent: a file whose bytes would not change is not touched, so a clone that
reproduces its results stays clean.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import Protocol
from bench.core.spec import RunRecord, board_of
from bench.core.store import Store, write_atomically
from bench.leaderboard.csv_rows import decode, encode
from bench.leaderboard.ledger import (
    Ledger,
    LedgerRow,
    current,
    decode_ledger,
    encode_ledger,
    ledger_of,
    row_of,
)
from bench.leaderboard.merging import Drift, Merge, merge
from bench.leaderboard.significance import (
    IntervalRow,
    PairRow,
    ScoresOf,
    Significance,
    competitions,
    update,
)
from bench.records.files import iter_records, read_arrays, read_record

RESULTS, CELLS, PAIRS = "results.csv", "cells.csv", "comparisons.csv"
FILES = (RESULTS, CELLS, PAIRS)
REFRESH = "bench leaderboard --write --refresh"


@dataclass(frozen=True)
class Scope:
    """Selects records and rows: those of a protocol, of a data set (its label), or all."""

    protocol: Protocol | None = None
    dataset: str = ""

    def holds(self, row: LedgerRow) -> bool:
        """Whether a ledger row is in scope."""
        wanted = self.protocol
        return self.dataset in ("", row.dataset) and (
            wanted is None
            or (wanted.name, wanted.fingerprint) == (row.protocol, row.protocol_fingerprint)
        )


@dataclass(frozen=True)
class Results:
    """The three files: the ledger, and the two computed from it."""

    ledger: Ledger
    known: Significance

    def files(self) -> dict[str, bytes]:
        """The bytes of each file, by name."""
        return {
            RESULTS: encode_ledger(self.ledger),
            CELLS: encode(self.known.cells, IntervalRow.required()),
            PAIRS: encode(self.known.pairs, PairRow.required()),
        }


def read_results(registry: Path) -> Results:
    """Read the committed files; missing ones are empty.

    Raises CheckFailed naming file and row for anything changed by hand.
    """
    content = {name: registry / name for name in FILES}
    ledger, known = ledger_of([]), Significance()
    if content[RESULTS].exists():
        ledger = decode_ledger(content[RESULTS].read_bytes(), f"registry/{RESULTS}")
    if content[CELLS].exists():
        cells = decode(content[CELLS].read_bytes(), f"registry/{CELLS}", IntervalRow)
        known = dataclasses.replace(known, cells=cells)
    if content[PAIRS].exists():
        pairs = decode(content[PAIRS].read_bytes(), f"registry/{PAIRS}", PairRow)
        known = dataclasses.replace(known, pairs=pairs)
    return Results(ledger, known)


def merge_local(store: Store, results: Results, scope: Scope, refresh: bool) -> Merge:
    """Merge the local records within `scope` into the ledger."""
    return merge(results.ledger, local_rows(store, scope), refresh)


def local_rows(store: Store, scope: Scope) -> list[LedgerRow]:
    """The local records within `scope` as rows of the ledger."""
    rows = (row_of(record) for record in iter_records(store.records) if record.status != "stopped")
    return [row for row in rows if scope.holds(row)]


def scores_reader(store: Store) -> ScoresOf:
    """A function that returns the per-image selection scores of a ledger row's local record."""
    read: dict[tuple[str, ...], dict[str, NDArray[np.float32]]] = {}

    def scores_of(row: LedgerRow, part: str) -> NDArray[np.float32] | None:
        key = (row.run_key, row.evaluation_digest, row.selection_metric)
        if key not in read:
            record = record_of_row(store, row)
            if record is None or record.evaluation_digest != row.evaluation_digest:
                return None
            arrays = read_arrays(store.records, record)
            names = (f"{part}/{row.selection_metric}" for part in ("validation", "test"))
            read[key] = {name: arrays[name] for name in names if name in arrays}
        return read[key].get(f"{part}/{row.selection_metric}")

    return scores_of


def record_of_row(store: Store, row: LedgerRow) -> RunRecord | None:
    """The local record of a ledger row, as it is on the row's board; None if it is not here."""
    board = board_of(row.protocol, row.protocol_fingerprint, row.dataset)
    return read_record(store.records, row.run_key, board)


def computed(store: Store, results: Results, ledger: Ledger) -> Results:
    """The results for another ledger: changed tracks are compared again from local records.

    Raises BadInput naming the runs whose records are missing.
    """
    return Results(ledger, update(results.known, ledger, scores_reader(store)))


def as_far_as_known(store: Store, results: Results, ledger: Ledger) -> tuple[Results, str]:
    """Like `computed`; if records are missing, keeps the old comparisons and returns why."""
    try:
        return computed(store, results, ledger), ""
    except BadInput as error:
        return Results(ledger, results.known), str(error)


def refuse_drift(drifted: Sequence[Drift]) -> None:
    """Raise CheckFailed listing what disagrees with the ledger."""
    if drifted:
        listed = "; ".join(map(str, drifted[:5]))
        more = f"; and {len(drifted) - 5} more" if len(drifted) > 5 else ""
        raise CheckFailed(
            f"{len(drifted)} local results do not agree with the ledger: {listed}{more}; nothing "
            f"was written. If the new values are right: {REFRESH}"
        )


def reproduction(merged: Merge, ledger: Ledger) -> list[str]:
    """`reproduced 24 of 24 rows of quick on fashion_mnist_mini`, one line per board; then what
    is better than the committed run, and what is new."""

    def board(row: LedgerRow) -> tuple[str, str, str]:
        return row.dataset, row.protocol, row.protocol_fingerprint

    committed = [board(row) for row in current(ledger)]
    again = [board(row) for row in merged.reproduced]
    lines = [
        f"reproduced {again.count(key)} of {committed.count(key)} rows of {key[1]} on {key[0]}"
        for key in dict.fromkeys(again)
        if committed.count(key)
    ]
    lines += [f"better than the committed run: {item}" for item in merged.better]
    if merged.added:
        lines.append(f"{len(merged.added)} rows are new")
    return lines


def write_changed(root: Path, files: dict[str, bytes]) -> list[str]:
    """Write the files (by path relative to `root`) whose bytes differ; returns their paths."""
    changed = []
    for name, content in files.items():
        path = root / name
        if not path.exists() or path.read_bytes() != content:
            write_atomically(path, content)
            changed.append(name)
    return changed


def check_results(registry: Path) -> Results:
    """Check the three files against each other; CheckFailed names the file and the problem."""
    results = read_results(registry)
    written = dataclasses.replace(results, ledger=ledger_of(results.ledger))
    for name, rendered in written.files().items():
        path = registry / name
        if not path.exists():
            raise CheckFailed(f"registry/{name} is missing; write it: bench leaderboard --write")
        if path.read_bytes() != rendered:
            raise CheckFailed(
                f"registry/{name} is not in the order or the form in which it is written; "
                "fix it with: bench leaderboard --write"
            )
    comparable = list(competitions(current(results.ledger)))
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
    return results
