"""Simulated tables: drawn as they should be, judged as a slow loop judges, shown with the rules."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from invented import invent_row, write
from registry_store import tiny_protocol
from typer.testing import CliRunner

from bench.cli import app
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.leaderboard.calibration import missed_aims
from bench.leaderboard.competitions import competitions
from bench.leaderboard.ledger import current
from bench.leaderboard.pair_tests import SHIPPED, TESTS, Evidence
from bench.leaderboard.simulation import (
    PLANS,
    TRUTHS,
    _Judge,
    draw,
    simulate,
)
from bench.registry import publishing
from bench.registry.results import read_results

pytest_plugins = ("registry_fixtures",)

ADAPTIVE = PLANS[-1]
REGISTRY = Path(__file__).parent.parent / "registry"


@pytest.fixture(scope="module")
def found() -> Evidence:
    spreads = np.array([0.004, 0.013, 0.02, 0.05, 0.06, 0.0])
    levels = np.log([0.0150, 0.0155, 0.0160, 0.0190, 0.0210, 0.0260])
    images = 4e-4 * (0.95 + 0.05 * np.eye(6))
    return Evidence(levels, spreads, np.array([3, 3, 3, 3, 3, 1]), images)


def test_truths(found):
    equal = TRUTHS["all trained rows equal"](found)
    assert len(set(equal[:5])) == 1
    assert equal[5] == found.levels[5]
    tied = TRUTHS["neighbours tied"](found)
    assert tied.tolist() == found.levels[[0, 0, 2, 2, 4, 4]].tolist()
    assert TRUTHS["as measured"](found).tolist() == found.levels.tolist()


def test_drawn_tables_vary_as_the_evidence_says(found):
    generator = np.random.default_rng(1)
    tables = [draw(found, found.levels, PLANS[1], generator) for _ in range(4000)]
    levels = np.stack([table.levels for table in tables])
    assert levels.mean(axis=0) == pytest.approx(found.levels, abs=0.003)
    expected = found.images + np.diag(found.spreads**2 / 5)
    assert np.cov(levels.T) == pytest.approx(expected, rel=0.12)
    variances = np.mean([table.spreads**2 for table in tables], axis=0)
    assert variances == pytest.approx(found.spreads**2, rel=0.08)
    assert tables[0].seeds.tolist() == [5, 5, 5, 5, 5, 1]


def test_a_row_gets_seeds_until_its_interval_is_narrow(found):
    for seed in range(30):
        table = draw(found, found.levels, ADAPTIVE, np.random.default_rng(seed))
        by_seed = np.random.default_rng(seed).standard_normal((6, 10)) * found.spreads[:, None]
        for row in range(5):
            count = 3
            while count < 10:
                width = scipy.stats.t.ppf(0.975, count - 1) * scipy.stats.sem(by_seed[row, :count])
                if width <= 0.02:
                    break
                count += 1
            assert table.seeds[row] == count
            assert table.spreads[row] == pytest.approx(by_seed[row, :count].std(ddof=1))


def pairs(*chosen):
    differs = np.zeros((4, 4), dtype=bool)
    for i, j in chosen:
        differs[i, j] = differs[j, i] = True
    return differs


def test_claims_are_judged_as_by_hand():
    judge = _Judge(np.log([1.00, 1.00, 1.10, 2.00]))
    # Near are rows 0 and 2, and 1 and 2: one of these pairs is claimed, and nothing wrong.
    judge.hear(np.log([1.00, 1.01, 1.10, 2.00]), pairs((0, 2), (1, 3), (2, 3)))
    assert (judge.wrong, judge.seen, judge.near, judge.inverted) == (0, 1, 2, 0)
    # Rows 0 and 1 are equal: to call one better is wrong. Row 1 is then significantly worse than
    # one row, rows 2 and 3, of worse means, than none: two inversions.
    judge.hear(np.log([1.00, 1.01, 1.10, 2.00]), pairs((0, 1)))
    assert (judge.wrong, judge.seen, judge.near, judge.inverted) == (1, 1, 4, 2)
    # A claim in the wrong direction is wrong and sees nothing; two in a table count once.
    judge.hear(np.log([1.20, 1.00, 1.10, 2.00]), pairs((0, 2), (0, 1)))
    assert (judge.wrong, judge.seen, judge.near) == (2, 1, 6)


def test_the_same_seed_gives_the_same_outcome_and_tests_share_their_tables(found):
    first = list(simulate(found, "as measured", ADAPTIVE, 20, seed=4))
    assert [outcome.test for outcome in first] == list(TESTS)
    assert first == list(simulate(found, "as measured", ADAPTIVE, 20, seed=4))
    assert len({outcome.seeds for outcome in first}) == 1
    assert first != list(simulate(found, "as measured", ADAPTIVE, 20, seed=5))


def test_equal_rows_have_no_power_to_speak_of(found):
    for outcome in simulate(found, "all trained rows equal", PLANS[0], 30):
        assert math.isnan(outcome.power)
        assert outcome.false_claims <= 0.3


@pytest.mark.usefixtures("mlflow_told")
def test_the_command_stores_its_result_and_a_changed_ledger_makes_it_stale(
    store: Store, monkeypatch
):
    monkeypatch.chdir(store.root)
    tiny_protocol(store.root)
    protocol = load_protocol("tiny.toml")
    for name, level in (("fc_ae", 0.030), ("vae", 0.031), ("deep_ae", 0.04), ("cnn_ae", 0.05)):
        invent_row(store, protocol, name, val=level, test=level)
    command = ["simulate-ranks", "--protocol", "tiny.toml", "--tables", "5"]
    assert CliRunner().invoke(app, command).exit_code != 0
    write(store)
    shown = CliRunner().invoke(app, [*command, "--json"])
    rows = json.loads(shown.stdout)
    assert len(rows) == len(TRUTHS) * len(PLANS) * len(TESTS)
    assert {row["tables"] for row in rows} == {5}
    assert not (store.registry / "calibration.csv").exists()
    assert CliRunner().invoke(app, [*command, "--write"]).exit_code == 0
    page = (store.registry / "README.md").read_text()
    assert "## How often the rule is wrong" in page
    assert f"**{SHIPPED}**" in page
    assert "Stale" not in page
    assert publishing.check(store)
    invent_row(store, protocol, "sparse_ae", val=0.06, test=0.06)
    write(store)
    assert "**Stale**" in (store.registry / "README.md").read_text()
    assert publishing.check(store)


def test_the_committed_calibration_reaches_its_aims_with_the_test_that_ranks():
    results = read_results(REGISTRY)
    rows, ledger = results.calibration, current(results.ledger)
    if {row.rows_digest for row in rows} - {each.digest for each in competitions(ledger)}:
        pytest.skip("the ledger changed since: make calibration")
    missed = {test: missed_aims(rows, test) for test in TESTS}
    assert missed == {
        "behrens_fisher": ["power"],
        "moderated_t": ["power", "inversions"],
        SHIPPED: [],
    }
    page = " ".join((REGISTRY / "README.md").read_text().split())
    assert f"`{SHIPPED}` reaches every aim" in page
    assert "`moderated_t` misses power and inversions" in page


def test_a_test_with_too_many_false_claims_at_any_number_of_seeds_misses_its_aim():
    (first, *rest) = read_results(REGISTRY).calibration
    wrong = dataclasses.replace(first, false_claims=0.07)
    assert missed_aims([wrong, *rest], first.test) == ["false claims", "power"]
    assert missed_aims([first, *rest], first.test) == ["power"]
