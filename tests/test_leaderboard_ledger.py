"""Rows of the ledger: what they hold, which can be compared, when two of them agree."""

import dataclasses
from datetime import UTC, datetime

import pytest
from registry_store import D8

from bench.leaderboard.competitions import cell_name, competitions, why_unranked
from bench.leaderboard.ledger import current, decode_ledger, encode_ledger, ledger_of, row_of
from bench.leaderboard.merging import disagreement, merge
from bench.records.files import iter_records

pytest_plugins = ("registry_fixtures",)


def records_of(ran):
    return list(iter_records(ran.records))


def test_a_ledger_row_says_what_the_record_says(ran):
    record = next(r for r in records_of(ran) if r.spec.model == "fc_ae")
    row = row_of(record)
    assert (row.run_key, row.track, row.seed) == (record.run_key, record.track, 0)
    assert row.scores["test_mse"] == pytest.approx(record.scores["test"]["mse"], rel=1e-8)
    changed = dataclasses.replace(row, scores={**row.scores, "test_mse": 0.1})
    assert changed.row_digest != row.row_digest


def test_a_new_column_leaves_the_digests_of_older_rows(ran):
    rows = [row_of(record) for record in records_of(ran)]
    newer = dataclasses.replace(
        rows[0], run_key="0" * 16, scores={**rows[0].scores, "test_newmetric": 1.0}
    )
    file = encode_ledger(ledger_of([*rows, newer]))
    kept = {row.run_key: row for row in decode_ledger(file, "results.csv")}
    assert kept["0" * 16] == newer
    for row in rows:
        assert kept[row.run_key].row_digest == row.row_digest


def test_older_rows_have_no_hyperparameters_and_keep_their_digests(ran):
    older = row_of(records_of(ran)[0])
    newer = dataclasses.replace(older, run_key="0" * 16, hyperparameters="beta=4, l2=0.1")
    assert older.hyperparameters == "" and "hyperparameters" not in older.cells
    assert b"hyperparameters" not in encode_ledger([older])
    kept = decode_ledger(encode_ledger(ledger_of([older, newer])), "results.csv")
    found = {row.run_key: row for row in kept}
    assert found == {older.run_key: older, newer.run_key: newer}
    assert found[older.run_key].row_digest == older.row_digest
    assert newer.row_digest != dataclasses.replace(newer, hyperparameters="").row_digest


def test_tolerances(ran):
    record = next(r for r in records_of(ran) if r.spec.model == "pca")
    solved = row_of(dataclasses.replace(record, closed_form=True))
    trained = row_of(dataclasses.replace(record, closed_form=False))

    def off(row, factor, part="val"):
        column = f"{part}_mse"
        changed = {**row.scores, column: row.scores[column] * factor}
        return dataclasses.replace(row, scores=changed)

    assert not disagreement(solved, off(solved, 1.0005))
    assert disagreement(solved, off(solved, 1.002))
    assert not disagreement(trained, off(trained, 1.0099))
    assert not disagreement(trained, off(trained, 0.9901))
    assert disagreement(trained, off(trained, 1.0101))
    assert disagreement(trained, off(trained, 0.9899))
    assert "test mse" in disagreement(trained, off(trained, 1.02, "test"))
    unscored = dataclasses.replace(trained, scores={})
    assert "validation mse is missing" in disagreement(trained, unscored)
    assert disagreement(unscored, trained)
    assert disagreement(trained, dataclasses.replace(trained, status="diverged"))
    diverged = dataclasses.replace(unscored, status="diverged")
    assert not disagreement(diverged, diverged)


def test_what_is_nowhere_worse_is_better_and_stays_out(ran):
    row = row_of(next(r for r in records_of(ran) if r.spec.model == "fc_ae"))

    def became(known, val, test, **changes):
        metric = known.selection_metric
        scores = {f"val_{metric}": val, f"test_{metric}": test}
        local = dataclasses.replace(known, scores={**known.scores, **scores}, **changes)
        merged = merge([known], [local])
        assert merged.ledger == (known,)
        assert merge([known], [local], refresh=True).ledger == (
            (known,) if merged.reproduced else (local,)
        )
        return ("same", "better", "drift")[
            [bool(merged.reproduced), bool(merged.better), bool(merged.drifted)].index(True)
        ]

    low = dataclasses.replace(row, scores={**row.scores, "val_mse": 0.02, "test_mse": 0.03})
    assert became(low, 0.0201, 0.0301) == "same"
    assert became(low, 0.0197, 0.0302) == "better"
    assert became(low, 0.0201, 0.0290) == "better"
    assert became(low, 0.0197, 0.0304) == "drift"
    assert became(low, 0.0203, 0.0290) == "drift"
    assert became(low, 0.0197, 0.0290, status="diverged") == "drift"
    high = dataclasses.replace(
        row,
        selection_metric="accuracy",
        scores={"val_accuracy": 0.9, "test_accuracy": 0.8},
    )
    assert became(high, 0.92, 0.8) == "better"
    assert became(high, 0.88, 0.8) == "drift"


def rows_like(ran, **changes):
    """The fc_ae rows of d8 with some cells changed."""
    rows = [row_of(r) for r in records_of(ran) if r.spec.model == "fc_ae" and str(r.track) == "d8"]
    return [dataclasses.replace(row, **changes) for row in rows]


def test_few_seeds_failures_and_origins_have_no_rank(ran):
    rows = rows_like(ran, seed_rule="")  # as written by earlier versions
    assert why_unranked(rows) == ""
    assert why_unranked(rows[:2]) == "fewer than 3 seeds"
    assert why_unranked(rows_like(ran, ranked=False)) == "a protocol that is not ranked"
    assert why_unranked(rows_like(ran, closed_form=True)[:1]) == ""
    diverged = dataclasses.replace(rows[0], status="diverged")
    assert why_unranked([*rows, diverged]) == "more than 10 % of its runs failed"
    assert why_unranked([*rows * 3, *rows[:1], diverged]) == ""
    assert why_unranked(rows_like(ran, scores={})) == "no validation images"


def test_rows_of_different_identity_never_share_a_track(ran):
    rows = rows_like(ran, finished=datetime(2026, 1, 1, tzinfo=UTC))
    for key in ("protocol_fingerprint", "data_digest", "evaluation_digest"):
        other = rows_like(ran, **{key: "f" * 16, "finished": datetime(2027, 1, 1, tzinfo=UTC)})
        ledger = ledger_of([*rows, *other])
        (competition,) = competitions(current(ledger))
        assert {getattr(row, key) for row in competition.rows} == {"f" * 16}
        assert len(competition.rows) == 3
    own = rows_like(ran, dataset="csv.mine")
    assert {t.title for t in competitions(current(ledger_of([*rows, *own])))} == {
        D8,
        "csv.mine.quick.d8",
    }


def test_a_raised_revision_retires_the_rows_before_it(ran):
    old = rows_like(ran, finished=datetime(2026, 1, 1, tzinfo=UTC))
    new = [
        dataclasses.replace(row, run_key=row.run_key[::-1])
        for row in rows_like(
            ran, configuration="e" * 16, model_revision=2, finished=datetime(2026, 2, 1, tzinfo=UTC)
        )
    ]
    ledger = ledger_of([*old, *new])
    assert len(ledger) == 6
    assert {row.model_revision for row in current(ledger)} == {2}


def test_a_tuned_recipe_is_a_row_of_its_own(ran):
    default = rows_like(ran)
    tuned = [
        dataclasses.replace(row, run_key=row.run_key[::-1])
        for row in rows_like(ran, recipe="tuned (30 trials)", configuration="d" * 16)
    ]
    (competition,) = competitions(current(ledger_of([*default, *tuned])))
    assert sorted(cell_name(rows[0]) for rows in competition.cells.values()) == [
        "fc_ae",
        "fc_ae, tuned (30 trials)",
    ]


def test_merging_does_not_depend_on_the_order_of_records(ran):
    rows = [row_of(record) for record in records_of(ran)]
    empty = ledger_of([])
    assert merge(empty, rows).ledger == merge(empty, rows[::-1]).ledger
