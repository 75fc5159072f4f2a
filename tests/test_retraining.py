"""`bench verify --retrain`: drawn rows of the ledger are trained again; an error that no training
gives is found, however well it is signed."""

import dataclasses

import pytest
from registry_store import tiny_protocol
from typer.testing import CliRunner

from bench.cli import app
from bench.leaderboard.ledger import encode_ledger
from bench.registry.results import read_results

pytest_plugins = ("registry_fixtures",)


@pytest.fixture
def shipped(promoted, monkeypatch):
    """The tables, made by a protocol that is shipped and trains in no time."""
    protocol = tiny_protocol(promoted.root)
    monkeypatch.setattr("bench.benchmark.retraining.known_protocols", lambda: [protocol])
    monkeypatch.setattr("bench.benchmark.retraining._seconds", lambda *_: 1.0)
    return promoted


def retrain(*arguments: str) -> tuple[int, str]:
    """The command in this process; (exit code, stderr)."""
    result = CliRunner().invoke(app, ["verify", "--retrain", *arguments])
    return result.exit_code, result.stderr


def test_drawn_rows_agree_and_the_draw_is_said(shipped):
    code, err = retrain("2", "--draw", "3")
    assert code == 0, err
    assert "rows drawn with --draw 3" in err
    assert err.count("agrees with the ledger") == 2
    assert retrain("2", "--draw", "3")[1] == err


def test_an_error_that_no_training_gives_is_found(shipped):
    rows = [
        dataclasses.replace(row, scores={k: v * 0.985 for k, v in row.scores.items()})
        for row in read_results(shipped.registry).ledger
    ]
    (shipped.registry / "results.csv").write_bytes(encode_ledger(rows))
    code, err = retrain("1", "--draw", "3")
    assert code == 3
    assert "the ledger says" in err.splitlines()[-1]


def test_a_row_that_takes_too_long_is_not_drawn(shipped, monkeypatch):
    monkeypatch.setattr("bench.benchmark.retraining._seconds", lambda *_: 121.0)
    code, err = retrain("1")
    assert (code, "only 0 of 1 rows" in err) == (2, True)


@pytest.mark.parametrize("arguments", [("1", "--all"), ("1", "some-run")])
def test_it_draws_rows_itself(shipped, arguments):
    assert retrain(*arguments)[0] == 2


def test_a_draw_without_retraining_is_refused(shipped):
    assert CliRunner().invoke(app, ["verify", "--draw", "1"]).exit_code == 2
