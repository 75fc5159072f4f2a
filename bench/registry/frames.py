"""Results as frames, for notebooks: every run, and the ranked tables."""

import pandas as pd

from bench.core.protocol import load_protocol
from bench.core.store import open_store
from bench.leaderboard.csv_rows import DIGEST
from bench.leaderboard.ledger import FACTS, LATER_FACTS, ledger_columns, score_columns
from bench.registry.changes import unchanged
from bench.registry.naming import label_of
from bench.registry.publishing import look
from bench.registry.results import Scope, merge_local, read_results


def results() -> pd.DataFrame:
    """One row per run: the committed ledger together with the records of this workspace.

    Columns are those of `registry/results.csv`; scores and facts are floats (NaN where a run has
    none), `seed` an integer, the rest text. Raises CheckFailed for damaged records or a ledger
    that was changed by hand.
    """
    store = open_store()
    with unchanged(store):
        known = read_results(store.registry)
    ledger = merge_local(store, known, Scope(), refresh=False).ledger
    rows = [
        {**row.cells, DIGEST: row.row_digest, **row.scores, **row.facts, "seed": row.seed}
        for row in ledger
    ]
    columns = ledger_columns(ledger)
    measured = {name for name in columns if name in (*FACTS, *LATER_FACTS, *score_columns(ledger))}
    frame = pd.DataFrame(rows, columns=pd.Index([*columns, DIGEST]), dtype=object)
    kinds = {"seed": int, **dict.fromkeys(measured, float)}
    return frame.fillna({name: "" for name in columns if name not in kinds}).astype(kinds)


def table(protocol: str = "", dataset: str = "") -> pd.DataFrame:
    """One row per cell with rank, means, intervals and margin over PCA, as `bench leaderboard`.

    `protocol` is a shipped name or a .toml file, `dataset` an id, a name in these tables, csv:PATH,
    npz:PATH or folder:PATH; empty: all. Where the workspace has no rows of these, they are the ones
    committed with bench. Raises as `results`, and BadInput for unknown names.
    """
    store = open_store()
    scope = Scope(
        load_protocol(protocol) if protocol else None, label_of(store, dataset) if dataset else ""
    )
    found = look(store, scope)
    boards = found.boards or found.committed
    return pd.DataFrame([cell.columns() for board in boards for cell in board.cells])
