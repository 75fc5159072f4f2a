"""`bench leaderboard --confirm`: which rows came out again on a machine, once a day."""

import dataclasses
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.core.store import Store
from bench.execution.software import Software
from bench.leaderboard.ledger import encode_ledger
from bench.registry import publishing
from bench.registry.confirmations import ConfirmationRow, encode_confirmations, read_confirmations
from bench.registry.results import Scope, read_results

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")


def leaderboard(*arguments: str) -> tuple[int, str]:
    """The command in this process; (exit code, stderr)."""
    result = CliRunner().invoke(app, ["leaderboard", *arguments])
    return result.exit_code, result.stderr


@pytest.fixture
def code(monkeypatch):
    """The code of a clean clone."""

    def at(commit: str) -> None:
        monkeypatch.setattr(
            "bench.registry.confirmations.running_software", lambda: Software("d" * 16, commit)
        )

    at("0123456789ab")
    return at


@pytest.fixture
def elsewhere(promoted: Store) -> Store:
    """The ledger was made on another machine, a day before; the cards follow."""
    path = promoted.registry / "results.csv"
    rows = [
        dataclasses.replace(row, finished=row.finished - timedelta(days=1))
        for row in read_results(promoted.registry).ledger
    ]
    path.write_bytes(encode_ledger(rows))
    publishing.write(promoted, Scope(), refresh=False)
    return promoted


def test_a_machine_confirms_a_board_once_a_day_and_commit(elsewhere, code):
    result, err = leaderboard("--confirm")
    assert result == 0, err
    (row,) = read_confirmations(elsewhere.registry)
    ledger = read_results(elsewhere.registry).ledger
    assert (row.reproduced, row.rows, row.commit) == (len(ledger), len(ledger), "0123456789ab")
    assert f"confirmed {len(ledger)} of {len(ledger)} rows of quick" in err
    assert "not a proof" in err
    page = (elsewhere.registry / "README.md").read_text()
    assert "Confirmed by 1 run " in page
    result, err = leaderboard("--confirm")
    assert (result, "already" in err) == (2, True)
    code("ba9876543210")
    assert leaderboard("--confirm")[0] == 0
    assert "Confirmed by 2 runs " in (elsewhere.registry / "README.md").read_text()


def test_the_records_that_made_the_ledger_confirm_nothing(promoted, code):
    result, err = leaderboard("--confirm")
    assert (result, "nothing was reproduced here" in err) == (2, True)
    assert not (promoted.registry / "confirmations.csv").exists()


@pytest.mark.parametrize(("commit", "why"), [("0123456789ab+", "uncommitted"), ("", "no clone")])
def test_a_confirmation_names_a_commit(elsewhere, code, commit, why):
    code(commit)
    result, err = leaderboard("--confirm")
    assert (result, why in err) == (2, True)


def test_it_stands_alone():
    assert leaderboard("--confirm", "--write")[0] == 2


@pytest.mark.parametrize(
    "edit",
    [
        lambda row: [row, row],
        lambda row: [dataclasses.replace(row, reproduced=row.rows + 1)],
        lambda row: [dataclasses.replace(row, processor="<b>host</b>")],
        lambda row: [dataclasses.replace(row, protocol="classifier")],
    ],
    ids=["twice", "more than there are", "markup", "no such board"],
)
def test_written_by_hand_they_are_found(promoted, edit):
    row = ConfirmationRow(
        *("2026-11-27", "0123456789ab", "d" * 16, "AVX2"),
        *read_results(promoted.registry).ledger[0].board[:3],
        reproduced=3,
        rows=10,
    )
    (promoted.registry / "confirmations.csv").write_bytes(encode_confirmations(edit(row)))
    result, err = leaderboard("--check")
    assert (result, "confirmations.csv" in err) == (3, True)
