"""The committed ledger is what today's code would plan: no identity has moved since it was written.

A failure here means that a change to the code altered what a run is called. Results on other
machines would then be trained again, and committed rows would have no run behind them.
"""

import csv
import io
import re
from pathlib import Path

import pytest

from bench.core.errors import CheckFailed
from bench.core.identity import digest
from bench.core.protocol import Protocol, known_protocols
from bench.core.spec import RunSpec
from bench.core.store import shipped
from bench.leaderboard.csv_rows import DIGEST, CsvRow, decode, encode
from bench.leaderboard.ledger import configuration_of, decode_ledger, encode_ledger, ledger_of
from bench.leaderboard.significance import IntervalRow, PairRow
from bench.models.zoo import MODELS, checked_hyperparameters
from bench.registry.features import metric_revisions

LEDGER = Path(__file__).parent.parent / "registry" / "results.csv"
with LEDGER.open(newline="", encoding="utf-8") as stream:
    ROWS = list(csv.DictReader(stream))
PROTOCOLS = {protocol.name: protocol for protocol in known_protocols()}

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row["run_key"])


def _spec(row: dict[str, str], protocol: Protocol) -> RunSpec:
    """The run of a row as today's protocol and tables describe it; the data are the row's own."""
    given = protocol.hyperparameters.get(row["model"], {})
    return RunSpec(
        protocol=protocol.name,
        protocol_fingerprint=protocol.fingerprint,
        task=protocol.task,
        dataset=protocol.dataset,
        dataset_label=row["dataset"],
        data_digest=row["data_digest"],
        split=protocol.split,
        model=row["model"],
        model_revision=MODELS[row["model"]].revision,
        latent_dim=int(row["latent_dim"]) if row["latent_dim"].isdigit() else None,
        hyperparameters=checked_hyperparameters(row["model"], given),
        train=protocol.train,
        evaluation=protocol.evaluation,
        metric_revisions=metric_revisions(protocol.evaluation, shipped(), row["dataset"]),
        selection_metric=protocol.selection_metric,
        seed=int(row["seed"]),
    )


def test_the_ledger_has_all_its_rows() -> None:
    assert len(ROWS) >= 156
    assert {row["recipe"] for row in ROWS} == {"default"}, "a tuned row's settings are not here"


def test_reading_and_writing_the_ledger_is_the_identity() -> None:
    content = LEDGER.read_bytes()
    ledger = decode_ledger(content, "registry/results.csv")
    assert encode_ledger(ledger_of(reversed(ledger))) == content
    assert [row.row_digest for row in ledger] == [row["row_digest"] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "kind"), [("cells.csv", IntervalRow), ("comparisons.csv", PairRow)]
)
def test_reading_and_writing_comparisons_is_the_identity(name: str, kind: type[CsvRow]) -> None:
    content = (LEDGER.parent / name).read_bytes()
    assert encode(decode(content, name, kind), kind.required()) == content


@pytest.mark.parametrize(
    ("column", "text", "says"),
    [
        ("val_mse", "0.010", "val_mse says '0.010' where this version of bench writes '0.01'"),
        ("seed", "zero", "seed cannot be read"),
        ("track", "d08", "track cannot be read"),
        ("status", "lost", "status cannot be read"),
        ("ranked", "true", "ranked says 'true' where this version of bench writes 'yes'"),
        ("latent_dim", "-", "latent_dim says '-' where this version of bench writes 'native'"),
        ("mood", "good", "mood says 'good' where this version of bench writes ''"),
    ],
)
def test_a_cell_in_another_spelling_is_refused_even_with_its_digest(
    column: str, text: str, says: str
) -> None:
    row = next(row for row in ROWS if row["code_size"])
    cells = {key: cell for key, cell in (row | {column: text}).items() if cell and key != DIGEST}
    table = {**dict.fromkeys(row, ""), **cells, DIGEST: digest(cells)}
    file = io.StringIO()
    csv.writer(file).writerows([table.keys(), table.values()])
    with pytest.raises(CheckFailed, match=f"results.csv line 2 .*: {re.escape(says)}"):
        decode_ledger(file.getvalue().encode(), "registry/results.csv")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read as a table"),
        (b"\xff", "cannot be read as a table"),
        (b"a,b\n1\n", "cannot be read as a table"),
        (b"a,b\n1,2\n", "has no column dataset"),
    ],
)
def test_what_is_no_ledger_is_refused_in_one_line(content: bytes, says: str) -> None:
    with pytest.raises(CheckFailed, match=f"^registry/results.csv {says}.*git checkout"):
        decode_ledger(content, "registry/results.csv")


@every_row
def test_identities_of_a_committed_row(row: dict[str, str]) -> None:
    protocol = PROTOCOLS[row["protocol"]]
    spec = _spec(row, protocol)
    assert spec.protocol_fingerprint == row["protocol_fingerprint"]
    assert spec.run_key == row["run_key"]
    assert spec.evaluation_digest == row["evaluation_digest"]
    assert configuration_of(spec) == row["configuration"]
    assert str(spec.model_revision) == row["model_revision"]
    assert spec.size_name == row["latent_dim"]
