"""`bench verify` computes scores again from the weights: a thousandth off is found and ends it with
exit code 3, whichever score it is; rounding is not."""

import dataclasses
import json
import shutil

import pytest
from registry_store import D8
from typer.testing import CliRunner

from bench.cli import app
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.leaderboard.ledger import encode_ledger
from bench.metrics import METRICS
from bench.records.files import iter_records, record_folder
from bench.registry import champions as folders
from bench.registry import installation
from bench.registry.cards import Card, sealed
from bench.registry.networks import compare_networks
from bench.registry.results import read_results
from tests import rewritten

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")

EVERY_SCORE = [(part, metric) for part in ("val", "test") for metric in ("mse", "psnr")]


def bench_verify(*arguments: str) -> tuple[int, str]:
    """The command in this process; (exit code, stderr)."""
    result = CliRunner().invoke(app, ["verify", *arguments])
    return result.exit_code, result.stderr


def off(scores, part, metric, factor):
    """The scores with one of them changed by a factor."""
    return {**scores, part: {**scores[part], metric: scores[part][metric] * factor}}


def fc_ae(store: Store) -> RunRecord:
    return next(r for r in iter_records(store.records) if r.spec.model == "fc_ae")


def write(store: Store, record: RunRecord) -> None:
    rewritten.rewrite(store.records, record)


def rewrite(store: Store, **changes) -> Card:
    """The champion's card with something else in it, sound in itself."""
    card = folders.champion(store.registry, D8)
    card = sealed(dataclasses.replace(card, **changes))
    installation.write_card(store.registry / card.folder, card)
    return card


@pytest.mark.parametrize("factor", [1 - 1e-3, 1 + 1e-3])
@pytest.mark.parametrize(("part", "metric"), EVERY_SCORE)
def test_a_champion_whose_score_is_a_thousandth_off_fails(promoted, part, metric, factor):
    card = folders.champion(promoted.registry, D8)
    rewrite(promoted, scores=off(card.scores, part, metric, factor))
    code, err = bench_verify(D8)
    assert code == 3
    assert f"{D8}: {part} {metric} is " in err.splitlines()[-1]


@pytest.mark.parametrize("factor", [1 - 1e-3, 1 + 1e-3])
@pytest.mark.parametrize(("part", "metric"), EVERY_SCORE)
def test_a_local_record_whose_score_is_a_thousandth_off_fails(promoted, part, metric, factor):
    record = fc_ae(promoted)
    write(promoted, dataclasses.replace(record, scores=off(record.scores, part, metric, factor)))
    code, err = bench_verify(record.run_key)
    assert code == 3
    assert f"{record.run_key}: {part} {metric} is " in err.splitlines()[-1]


def test_rounding_is_no_drift(promoted):
    """Another processor's last digits."""
    record, card = fc_ae(promoted), folders.champion(promoted.registry, D8)
    write(promoted, dataclasses.replace(record, scores=off(record.scores, "val", "mse", 1 + 3e-5)))
    rewrite(promoted, scores=off(card.scores, "test", "mse", 1 - 3e-5))
    assert bench_verify(D8, record.run_key)[0] == 0


def test_a_score_that_the_weights_do_not_give_at_all_fails(promoted):
    record = fc_ae(promoted)
    scores = {**record.scores, "test": {**record.scores["test"], "beauty": 1.0}}
    write(promoted, dataclasses.replace(record, scores=scores))
    code, err = bench_verify(record.run_key)
    assert code == 3
    assert "test beauty is nan" in err


@pytest.mark.parametrize("column", ["val_mse", "test_mse"])
def test_a_champion_is_held_against_its_row_of_the_ledger(promoted, column):
    card = folders.champion(promoted.registry, D8)
    path = promoted.registry / "results.csv"
    ledger = read_results(promoted.registry).ledger
    rows = [
        dataclasses.replace(row, scores={**row.scores, column: row.scores[column] * 1.002})
        if row.run_key == card.run_key
        else row
        for row in ledger
    ]
    path.write_bytes(encode_ledger(rows))
    code, err = bench_verify(D8)
    assert code == 3
    assert f"{D8}: results.csv: " in err.splitlines()[-1]


@pytest.mark.parametrize("name", ["card.md", "reconstructions.png"])
def test_the_files_beside_a_champion_are_verified_with_it(promoted, name):
    path = promoted.registry / folders.champion(promoted.registry, D8).folder / name
    path.write_bytes(path.read_bytes() + b" ")
    code, err = bench_verify(D8)
    assert code == 3
    assert name in err.splitlines()[-1]


def test_one_that_fails_does_not_hide_behind_those_that_do_not(promoted):
    record = fc_ae(promoted)
    write(promoted, dataclasses.replace(record, scores=off(record.scores, "test", "mse", 1.001)))
    code, err = bench_verify("--all")
    assert code == 3
    assert "1 of 12 did not verify" in err


def test_weights_that_are_too_large_are_skipped_and_said(promoted, monkeypatch):
    monkeypatch.setattr("bench.registry.champions.MOST_BYTES", 1000)
    card = folders.champion(promoted.registry, D8)
    rewrite(promoted, weights=dataclasses.replace(card.weights, committed=False))
    assert "verified" in bench_verify(D8)[1]  # from the weights of its run, which is here
    shutil.rmtree(record_folder(promoted.records, card.run_key))
    result = CliRunner().invoke(app, ["verify", D8, "--json"])
    assert result.exit_code == 0
    assert "too large" in json.dumps(json.loads(result.stdout))


def test_a_run_that_diverged_has_nothing_to_verify(promoted):
    record = fc_ae(promoted)
    failed = dataclasses.replace(record, status="diverged", scores={})
    write(promoted, failed)
    code, err = bench_verify("--all")
    assert code == 0
    assert "[11/11]" in err
    assert bench_verify(record.run_key)[0] == 2


MOVED = {
    "density_gaussian": (0.4608, 0.517),
    "fcd_mixture": (6.773, 7.208),
    "untrained_fcd_gaussian": (1.033e-4, 1.563e-4),
    "recall_mixture": (0.196, 0.124),
    "kmeans_ari": (0.366, 0.408),
    "probe_accuracy_100": (0.729, 0.741),
    "mse_2bit": (0.04685, 0.04589),
    "psnr_salt_and_pepper_50": (10.912, 10.769),
    "mse": (0.00999, 0.00991),
}
"""Scores of `cnn_ae` of `quick`, of the same seeds trained on two machines."""


@pytest.mark.parametrize("name", MOVED)
def test_scores_of_another_machine_agree_and_others_do_not(name):
    first, second = MOVED[name]
    allowed = METRICS[name].tolerance.from_training(first)
    assert abs(second - first) <= allowed
    assert allowed <= 4 * abs(second - first)


@pytest.mark.parametrize("arguments", [(), ("--all",)])
def test_networks_of_all_rows_are_built_again(promoted, arguments):
    _, said = bench_verify(*arguments)
    assert "code sizes of 10 rows compared with 6 networks" in " ".join(said.split())

    ledger = read_results(promoted.registry).ledger
    rows = [
        dataclasses.replace(row, facts={**row.facts, "parameters": 7.0})
        if (row.model, row.latent_dim) == ("fc_ae", 4)
        else row
        for row in ledger
    ]
    (promoted.registry / "results.csv").write_bytes(encode_ledger(rows))
    code, err = bench_verify(*arguments)
    assert code == 3
    for row in rows:
        if row.facts["parameters"] == 7:
            assert f"{row.run_key}: results.csv: parameters is " in err.splitlines()[-1]


def test_rows_of_images_that_bench_does_not_know_are_left_out(promoted):
    ledger = read_results(promoted.registry).ledger
    rows = [dataclasses.replace(row, dataset="csv.mine-1a2b3c") for row in ledger]
    (promoted.registry / "results.csv").write_bytes(encode_ledger(rows))
    found = compare_networks(promoted)
    assert (found.rows, found.networks, found.left_out) == (0, 0, 10)
