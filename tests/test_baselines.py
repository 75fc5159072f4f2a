"""The committed ledger is what today's code would plan: no identity has moved since it was written.

A failure here means that a change to the code altered what a run is called. Results on other
machines would then be trained again, and committed rows would have no run behind them.
"""

import csv
from pathlib import Path

import pytest

from bench.core.protocol import Protocol, known_protocols
from bench.core.spec import RunSpec
from bench.leaderboard.csv_rows import CsvRow, decode, encode
from bench.leaderboard.ledger import configuration_of, decode_ledger, encode_ledger, ledger_of
from bench.leaderboard.significance import IntervalRow, PairRow
from bench.metrics import METRICS
from bench.models.zoo import MODELS, checked_hyperparameters

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
        metric_revisions={name: METRICS[name].revision for name in protocol.evaluation.metrics},
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
