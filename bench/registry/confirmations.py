"""`registry/confirmations.csv`: machines on which rows of the ledger came out again.

A courtesy of those who run the benchmark, not a proof: nobody can check that a run took place. The
proof of a row is to compute it again (`bench verify`). A row says when, by which code, on which
family of processors and how many rows of a board; no name of a machine or of a person.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bench.core.errors import BadInput, CheckFailed
from bench.core.identity import Name
from bench.core.paths import regular
from bench.core.store import Store
from bench.execution.software import running_software
from bench.leaderboard.csv_rows import CsvRow, decode, encode
from bench.leaderboard.ledger import Ledger, LedgerRow, current
from bench.leaderboard.merging import disagreement
from bench.registry.results import Scope, local_rows, read_results

CONFIRMATIONS = "confirmations.csv"
BoardName = tuple[str, str, str]
"""Data set, protocol, fingerprint."""


@dataclass(frozen=True)
class ConfirmationRow(CsvRow):
    """One machine's agreement with a board: `reproduced` of its `rows`, on the day `date` (UTC).

    `processor` is the family of instructions that torch uses there, such as `AVX2`.
    """

    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}$")]
    bench_digest: Name
    processor: Annotated[str, Field(pattern=r"^[A-Za-z0-9_. -]{1,40}$")]
    dataset: Name
    protocol: Name
    protocol_fingerprint: Name
    reproduced: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=1)]

    @property
    def board(self) -> BoardName:
        """The board that was confirmed."""
        return self.dataset, self.protocol, self.protocol_fingerprint

    @property
    def key(self) -> tuple[str, ...]:
        """What may be there once."""
        return self.date, self.commit, self.processor, *self.board


def read_confirmations(registry: Path) -> tuple[ConfirmationRow, ...]:
    """The rows of the file, none if it is missing; CheckFailed for one that was changed by hand, is
    there twice or confirms more rows than there were."""
    path = registry / CONFIRMATIONS
    if not regular(path).exists():
        return ()
    where = f"registry/{CONFIRMATIONS}"
    rows = decode(path.read_bytes(), where, ConfirmationRow)
    times = Counter(row.key for row in rows)
    for line, row in enumerate(rows, start=2):
        if times[row.key] > 1:
            raise CheckFailed(f"{where} line {line} is there twice; remove one")
        if row.reproduced > row.rows:
            raise CheckFailed(
                f"{where} line {line} confirms more rows than the board had; remove it"
            )
    return rows


def check_confirmations(registry: Path, ledger: Ledger) -> None:
    """Raise CheckFailed as `read_confirmations`, and for a board that the ledger never had."""
    boards = set(map(_board, ledger))
    for line, row in enumerate(read_confirmations(registry), start=2):
        if row.board not in boards:
            raise CheckFailed(
                f"registry/{CONFIRMATIONS} line {line} confirms a board that is not in "
                "registry/results.csv; remove it"
            )


def encode_confirmations(rows: Sequence[ConfirmationRow]) -> bytes:
    """The bytes of the file."""
    return encode(rows, ConfirmationRow.required())


def confirmed(rows: Sequence[ConfirmationRow]) -> Mapping[BoardName, int]:
    """How many runs confirmed each board."""
    return Counter(row.board for row in rows)


def agreement(store: Store, scope: Scope) -> list[ConfirmationRow]:
    """What this machine can confirm: a row for each board within `scope` that has reproduced rows.

    A record from which a row of the ledger was made does not confirm it. Raises BadInput where
    bench/ has uncommitted changes or no commit, and where nothing was reproduced.
    """
    software = running_software()
    if not software.commit or software.uncommitted:
        raise BadInput(
            "a confirmation names the commit of the code that ran, but bench/ "
            + ("has uncommitted changes; commit them" if software.commit else "is in no clone")
        )
    ledger = current(read_results(store.registry).ledger)
    again = Counter(_board(row) for row in _reproduced(ledger, local_rows(store, scope)))
    if not again:
        raise BadInput(
            "nothing was reproduced here: no local run is a row of the ledger that another machine "
            "made; run some in a clone without records: bench run"
        )
    of_board = Counter(map(_board, ledger))
    now = datetime.now(UTC)
    return [
        ConfirmationRow(
            f"{now:%Y-%m-%d}",
            software.commit,
            software.digest,
            _processor(),
            *board,
            reproduced=count,
            rows=of_board[board],
        )
        for board, count in sorted(again.items())
    ]


def _reproduced(ledger: Ledger, local: Sequence[LedgerRow]) -> list[LedgerRow]:
    known = {row.key: row for row in ledger}
    return [
        row
        for row in local
        if (committed := known.get(row.key)) is not None
        and committed.finished != row.finished
        and not disagreement(committed, row)
    ]


def _board(row: LedgerRow) -> BoardName:
    return row.dataset, row.protocol, row.protocol_fingerprint


def _processor() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())
