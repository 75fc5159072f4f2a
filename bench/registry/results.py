"""The tables of `registry/`: read, update from local records, write, check.

Writing is idempotent: a file whose bytes would not change is not touched, so a clone that
reproduces its results stays clean.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BadInput, CheckFailed
from bench.core.paths import regular
from bench.core.protocol import Protocol
from bench.core.spec import RunRecord, RunSpec, board_of
from bench.core.store import Store, is_shipped, write_atomically
from bench.execution.software import running_software
from bench.leaderboard.calibration import CalibrationRow
from bench.leaderboard.competitions import Competition, every_competition, why_unranked
from bench.leaderboard.csv_rows import decode, encode
from bench.leaderboard.ledger import (
    BENCH_DIGEST,
    UNCOMMITTED,
    Ledger,
    LedgerRow,
    current,
    decode_ledger,
    encode_ledger,
    ledger_of,
    row_of,
)
from bench.leaderboard.merging import Drift, Merge, disagreement, merge
from bench.leaderboard.significance import (
    IntervalRow,
    PairRow,
    Scores,
    ScoresOf,
    Significance,
    update,
)
from bench.records.files import Arrays, iter_records, read_arrays, read_record
from bench.registry.score_files import as_kept, kept_arrays
from bench.registry.scores import INDEX, Kept, ScoresRow, Source, is_kept

RESULTS, CELLS, PAIRS = "results.csv", "cells.csv", "comparisons.csv"
CALIBRATION = "calibration.csv"
"""Only where `bench simulate-ranks --write` was run."""
FILES = (RESULTS, CELLS, PAIRS, INDEX)
REFRESH = "bench leaderboard --write --refresh"
_EARLIER_CELLS = b"dataset,protocol,track,row,configuration,part,"
"""The first columns of the intervals of the rule before ranges of ranks."""


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
    """The four tables: the ledger, the two computed from it, and the index of the files with the
    scores per image that they are computed from (see `scores`)."""

    ledger: Ledger
    known: Significance
    calibration: Sequence[CalibrationRow] = ()
    scores: tuple[ScoresRow, ...] = ()

    def with_calibration(self, rows: Sequence[CalibrationRow]) -> "Results":
        """The same tables with the outcome of another simulation of the rule."""
        return dataclasses.replace(self, calibration=rows)

    def files(self) -> dict[str, bytes]:
        """The bytes of each file, by name."""
        simulated = {CALIBRATION: encode(self.calibration, CalibrationRow.required())}
        return {
            RESULTS: encode_ledger(self.ledger),
            CELLS: encode(self.known.cells, IntervalRow.required()),
            PAIRS: encode(self.known.pairs, PairRow.required()),
            INDEX: encode(self.scores, ScoresRow.required()),
            **(simulated if self.calibration else {}),
        }


def read_results(registry: Path) -> Results:
    """Read the committed files; missing ones are empty, and so are comparisons by the rule of an
    earlier version, which other columns show: they are computed again.

    Raises CheckFailed naming file and row for anything changed by hand.
    """
    return _decoded(*(_content(registry / name) for name in (*FILES, CALIBRATION)))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if regular(path).exists() else None


# One command asks for the same tables many times, and most of its time would go into their rows.
@functools.lru_cache(maxsize=4)
def _decoded(
    results: bytes | None,
    cells: bytes | None,
    pairs: bytes | None,
    index: bytes | None,
    simulated: bytes | None,
) -> Results:
    ledger, known = ledger_of([]), Significance()
    if results is not None:
        ledger = decode_ledger(results, f"registry/{RESULTS}")
    if cells is not None and pairs is not None and not cells.startswith(_EARLIER_CELLS):
        known = Significance(
            decode(cells, f"registry/{CELLS}", IntervalRow),
            decode(pairs, f"registry/{PAIRS}", PairRow),
        )

    scores = () if index is None else decode(index, f"registry/{INDEX}", ScoresRow)
    simulation: tuple[CalibrationRow, ...] = ()
    if simulated is not None:
        simulation = decode(simulated, f"registry/{CALIBRATION}", CalibrationRow)
    return Results(ledger, known, simulation, scores)


def merge_local(store: Store, results: Results, scope: Scope, refresh: bool) -> Merge:
    """Merge the local records within `scope` into the ledger."""
    kept = Kept(store.registry, results.scores)
    return merge(
        results.ledger,
        local_rows(store, scope),
        refresh,
        lacks_scores=lambda row: is_kept(row) and not kept.holds(row),
    )


def local_rows(store: Store, scope: Scope) -> list[LedgerRow]:
    """The local records within `scope` as rows of the ledger.

    For the tables committed with bench, rows are marked as UNCOMMITTED if nobody can get the code
    that made them: it was changed since its commit, and is not what is committed now either. Other
    workspaces rank whatever was made in them. Records from before the digest are not marked.
    Those of own models are never among them: they have tables of their own (`registry.own`).
    """
    rows = (
        row_of(record)
        for record in iter_records(store.records)
        if record.status != "stopped" and not record.spec.source
    )
    held = [row for row in rows if scope.holds(row)]
    return [_marked(row) for row in held] if is_shipped(store) else held


def _marked(row: LedgerRow) -> LedgerRow:
    made = row.environment.get(BENCH_DIGEST, "")
    if not made or not row.environment.get("git_commit", "").endswith("+"):
        return row
    here = running_software()
    if made == here.digest and not here.uncommitted:
        return row
    return dataclasses.replace(row, facts={**row.facts, UNCOMMITTED: 1.0})


def uncommitted_changes(store: Store) -> str:
    """What to say before training where changes of bench/ cost rows their rank; or nothing."""
    if not (is_shipped(store) and running_software().uncommitted):
        return ""
    return (
        "bench/ has uncommitted changes: rows made now have no rank in the committed tables until "
        "exactly these changes are committed"
    )


def scores_reader(store: Store, kept: Kept) -> ScoresOf:
    """A function that returns the per-image selection scores of a ledger row: those that are
    committed, else those of its local record as they would be committed."""
    source = local_source(store)

    def scores_of(row: LedgerRow, part: str, metric: str = "") -> Scores | None:
        if kept.holds(row):
            return kept.scores_of(row, part, metric)
        found = source(row)
        if found is None or disagreement(row, row_of(found[0])):
            return None
        scores = found[1].get(f"{part}/{metric or row.selection_metric}")
        return None if scores is None else as_kept(scores)

    return scores_of


def local_source(store: Store) -> Source:
    """A function that returns the local record of a ledger row's run with the arrays that the
    registry keeps; None if it is not here, or was scored in another way."""
    read: dict[tuple[str, ...], tuple[RunRecord, Arrays] | None] = {}

    def source(row: LedgerRow) -> tuple[RunRecord, Arrays] | None:
        if row.key not in read:
            record = record_of_row(store, row)
            read[row.key] = None
            if record is not None and record.evaluation_digest == row.evaluation_digest:
                arrays = read_arrays(store.records, record)
                read[row.key] = record, {key: arrays[key] for key in kept_arrays(row, arrays)}
        return read[row.key]

    return source


def record_of_row(store: Store, row: LedgerRow) -> RunRecord | None:
    """The local record of a ledger row, as it is on the row's board; None if it is not here."""
    board = board_of(row.protocol, row.protocol_fingerprint, row.dataset)
    return read_record(store.records, row.run_key, board)


def computed(
    store: Store, results: Results, ledger: Ledger, new: Mapping[str, bytes] = {}
) -> Results:
    """The results for another ledger: changed tracks are compared again, from committed scores
    and from local records.

    `new`: files of scores that are about to be written, by path within `registry/`; comparisons
    from other scores of the same runs are computed again. Raises BadInput naming the runs that have
    no scores in either place, CheckFailed for a damaged file.
    """
    kept = Kept(store.registry, results.scores, new)
    known = _without_new(results.known, ledger, kept)
    known = update(known, ledger, scores_reader(store, kept))
    return dataclasses.replace(results, ledger=ledger, known=known)


def _without_new(known: Significance, ledger: Ledger, kept: Kept) -> Significance:
    """The comparisons without those of tracks whose scores are all kept, some of them newly."""
    stale = {
        competition.digest
        for competition in every_competition(current(ledger))
        if any(map(kept.is_new, competition.rows)) and all_kept(competition, kept)
    }
    return Significance(
        [row for row in known.cells if row.rows_digest not in stale],
        [row for row in known.pairs if row.rows_digest not in stale],
    )


def all_kept(competition: Competition, kept: Kept) -> bool:
    """Whether all scores that a track is compared by are committed."""
    compared = [rows for rows in competition.cells.values() if not why_unranked(rows)]
    return all(kept.holds(row) for rows in compared for row in rows if row.status == "finished")


def as_far_as_known(store: Store, results: Results, ledger: Ledger) -> tuple[Results, str]:
    """Like `computed`; if scores are missing, keeps the old comparisons and returns why."""
    try:
        return computed(store, results, ledger), ""
    except BadInput as error:
        return dataclasses.replace(results, ledger=ledger), str(error)


def in_ledger(store: Store, specs: Iterable[RunSpec]) -> frozenset[str]:
    """The run keys of those specs whose results are committed: a row on the spec's board, scored in
    the same way, and the scores per image that comparisons need."""
    results = read_results(store.registry)
    kept = Kept(store.registry, results.scores)
    whole = {row.key for row in results.ledger if not is_kept(row) or kept.holds(row)}
    return frozenset(
        spec.run_key
        for spec in specs
        if (
            *(spec.run_key, spec.evaluation_digest, spec.dataset_label),
            *(spec.protocol, spec.protocol_fingerprint),
        )
        in whole
    )


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
        if not regular(path).exists() or path.read_bytes() != content:
            write_atomically(path, content)
            changed.append(name)
    return changed
