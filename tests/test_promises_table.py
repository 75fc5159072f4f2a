"""The validation images decide everything in a table, whatever the test images say; what cannot be
ranked never stands above what can; and every warning of a row is worn."""

import dataclasses
import json
import math
import random
import shutil

import pytest
from invented import (
    EVERYTHING,
    decision,
    disagreeing,
    invent,
    invent_row,
    ranks,
    record_of,
    specs_of,
    table,
    write,
)
from registry_store import D8, tiny_protocol

from bench.core.protocol import Protocol
from bench.core.seeds import AdaptiveSeeds
from bench.core.store import Store
from bench.core.track import Track
from bench.leaderboard.competitions import why_unranked
from bench.leaderboard.ledger import ledger_of, row_of
from bench.leaderboard.render import Board, full_table, short_table
from bench.leaderboard.significance import Significance
from bench.leaderboard.spread import seed_spread
from bench.leaderboard.wording import active, notes, settings
from bench.records.files import iter_records, record_folder
from bench.records.selection import median_record, shown_record
from bench.registry import champions as folders
from bench.registry import pages, publishing
from bench.registry.promotion import promote
from bench.registry.results import Results, Scope, read_results

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")


@pytest.fixture
def small(store: Store) -> Protocol:
    return tiny_protocol(store.root)


@pytest.fixture
def by_psnr(small: Protocol) -> Protocol:
    """The same protocol, ranked by a metric of which more is better."""
    return dataclasses.replace(small, selection_metric="psnr")


# Validation decides.


def test_ranks_and_the_order_of_rows_follow_validation(store, small):
    disagreeing(store, small)
    done = write(store)
    assert ranks(store) == [("fc_ae", (1, 1)), ("vae", (2, 2)), ("deep_ae", (3, 3))]
    assert [cell.ranks for cell in done.boards[0].cells] == [(1, 1), (2, 2), (3, 3)]
    page = (store.registry / "README.md").read_text()
    assert page.index("| 1 | fc_ae |") < page.index("| 2 | vae |") < page.index("| 3 | deep_ae |")
    cell = table(store)["fc_ae"]
    assert cell["low"] < 0.030 < cell["high"] < 0.034
    assert 0.034 < cell["test_low"] < 0.038 < cell["test_high"]


def test_where_more_is_better_validation_decides_as_well(store, by_psnr):
    invent_row(store, by_psnr, "deep_ae", val=16.0, test=20.0)
    invent_row(store, by_psnr, "fc_ae", val=20.0, test=16.0)
    write(store)
    assert ranks(store) == [("fc_ae", (1, 1)), ("deep_ae", (2, 2))]
    assert decision(store)[:2] == ("first", "fc_ae")


@pytest.mark.parametrize("metric", ["mse", "psnr"])
def test_among_rows_that_tie_the_better_on_validation_stands_first(store, small, metric):
    """Seeds lie far apart, so that nothing is significant."""
    protocol = dataclasses.replace(small, selection_metric=metric)
    up, down = [(step, step) for step in (-300, 300, 0)], [(step, step) for step in (300, -300, 0)]
    invent_row(store, protocol, "deep_ae", val=1.0, test=1.1, steps=up)
    invent_row(store, protocol, "vae", val=1.1, test=1.0, steps=down)
    write(store)
    expected = ["deep_ae", "vae"] if metric == "mse" else ["vae", "deep_ae"]
    assert ranks(store) == [(name, (1, 2)) for name in expected]
    assert decision(store) == ("first", *expected)


def test_the_champion_is_best_on_validation_and_its_seed_the_median_there(
    store, small, mlflow_told
):
    fc_ae = disagreeing(store, small)
    write(store)
    assert decision(store) == ("first", "fc_ae", "vae")
    card = folders.champion(store.registry, D8)
    assert card.run_key == fc_ae[2].run_key
    assert card.spec.seed == 2
    assert (card.summary.ranks, card.challenger.ranks) == ((1, 1), (2, 2))
    kept = store.registry / card.folder / "weights.safetensors"
    own = record_folder(store.records, fc_ae[2].run_key) / "weights.safetensors"
    assert kept.read_bytes() == own.read_bytes()
    assert mlflow_told.alias(D8, "champion") == fc_ae[2].run_key
    assert mlflow_told.alias(D8, "challenger") == specs_of(store, small, "vae")[2].run_key


def test_a_row_that_is_better_on_test_alone_replaces_nobody(store, small):
    invent_row(store, small, "fc_ae", val=0.030, test=0.038)
    write(store)
    promote(store, EVERYTHING)
    invent_row(store, small, "deep_ae", val=0.038, test=0.030)
    write(store)
    assert decision(store) == ("keep", "fc_ae", "deep_ae")


@pytest.mark.parametrize("metric", ["mse", "psnr"])
def test_a_row_that_is_better_on_validation_alone_replaces_the_champion(store, small, metric):
    protocol = dataclasses.replace(small, selection_metric=metric)
    better, worse = (0.030, 0.038) if metric == "mse" else (30.0, 20.0)
    invent_row(store, protocol, "deep_ae", val=worse, test=better)
    write(store)
    assert decision(store) == ("first", "deep_ae", None)
    invent_row(store, protocol, "fc_ae", val=better, test=worse)
    write(store)
    assert decision(store) == ("replace", "fc_ae", "deep_ae")
    card = folders.champion(store.registry, D8)
    assert folders.previous(store.registry, card).spec.model == "deep_ae"
    assert publishing.check(store)


def test_the_record_that_stands_for_a_row_is_the_median_on_validation(store, small):
    steps = [(2, 0), (0, 1), (1, 2), (-1, 3), (3, 4)]
    records = invent_row(store, small, "fc_ae", val=0.03, test=0.03, steps=steps)
    for order in (records, records[::-1], random.Random(1).sample(records, 5)):
        assert median_record(order).spec.seed == 2
        assert shown_record(order).spec.seed == 2
    # Of four the lower of the two in the middle.
    assert median_record(records[:4]).spec.seed == 1


def test_of_equal_scores_the_lower_seed_stands_for_the_row_and_no_failed_run(store, small):
    specs = specs_of(store, small, "fc_ae", range(4))
    scores = [{"val": {"mse": 0.03}}, {"val": {"mse": 0.03}}, {"val": {"mse": 0.03}}]
    equal = [record_of(spec, given) for spec, given in zip(specs, scores, strict=False)]
    assert [median_record(order).spec.seed for order in (equal, equal[::-1])] == [1, 1]
    assert median_record(equal[:2]).spec.seed == median_record(equal[1::-1]).spec.seed == 0
    failed = [
        record_of(specs[0], {"val": {"mse": 0.01}}, status="diverged"),
        record_of(specs[1], {"val": {"mse": 0.02}}, status="diverged"),
        record_of(specs[2], {"val": {"mse": math.nan}}),
        record_of(specs[3], {"val": {"mse": 0.05}}),
    ]
    assert median_record(failed).spec.seed == 3
    assert median_record(failed[:3]) is None


# What has no rank.


def test_a_row_of_too_few_seeds_has_no_rank_and_is_never_champion(store, small):
    invent_row(store, small, "fc_ae", val=0.030, test=0.030)
    invent_row(store, small, "vae", 0.010, 0.010, steps=[(-1, -1), (1, 1)])
    write(store)
    # Rows stand in the order of their means, with a rank or without.
    assert ranks(store) == [("vae", None), ("fc_ae", (1, 1))]
    assert table(store)["vae"]["why_unranked"] == "seeds 0, 1, 2 expected, 0, 1 found"
    assert decision(store) == ("first", "fc_ae", None)


def test_a_wide_row_needs_seeds_until_the_most_and_says_so(store, small):
    """Seeds 1 % apart are known to 2.5 % at three, seeds 10 % apart to 25 %."""
    rule = AdaptiveSeeds(least=3, most=4, until=0.03)
    adaptive = dataclasses.replace(small, seeds=rule)
    near, far = [(-10, 0), (10, 0), (0, 0)], [(-100, 0), (100, 0), (0, 0)]
    invent_row(store, adaptive, "fc_ae", 0.030, 0.030, steps=near)
    invent_row(store, adaptive, "vae", 0.020, 0.020, steps=far)
    invent_row(store, adaptive, "deep_ae", 0.020, 0.020, steps=[*far, (50, 0)])
    write(store)
    found = {name: rank is not None for name, rank in ranks(store)}
    assert found == {"vae": False, "deep_ae": True, "fc_ae": True}
    found = table(store)
    assert found["vae"]["why_unranked"] == "another seed needed: half width 0.25, more than 0.03"
    wide = {name: "width not reached" in row["badges"] for name, row in found.items()}
    assert wide == {"fc_ae": False, "vae": False, "deep_ae": True}


@pytest.mark.parametrize("named", [True, False])
def test_a_protocol_that_is_not_ranked_has_no_ranks_and_no_champion(store, small, named):
    """A file of a person, whether the command names it or not."""
    protocol = dataclasses.replace(small, name="mine", ranked=False)
    disagreeing(store, protocol)
    for spec in specs_of(store, protocol, "fc_ae", size=4):
        invent(store, spec, 0.04, 0.04, facts={"code_size": 4.0})
    scope = Scope(protocol) if named else EVERYTHING
    write(store, scope)
    assert {row.ranked for row in read_results(store.registry).ledger} == {False}
    assert {found for _, found in ranks(store, scope)} == {None}
    assert {found.action for found in promote(store, scope).decisions} == {"none"}
    assert not list(store.registry.rglob("card.json"))
    assert not list(store.registry.rglob("*.png"))


def test_a_record_says_that_it_is_not_ranked_and_nothing_where_it_is(store, small):
    """So that older records and cards stay as they are, byte for byte."""
    protocol = dataclasses.replace(small, ranked=False)
    (usual,), (unranked,) = (specs_of(store, p, "fc_ae", [0]) for p in (small, protocol))
    assert usual.run_key == unranked.run_key
    assert "ranked" not in json.loads(record_of(usual, {}).to_json())["spec"]
    invent(store, unranked, 0.03, 0.03)
    (found,) = iter_records(store.records)
    assert found.spec == unranked


def test_codes_as_large_as_the_image_are_badged_and_never_champion(store, small):
    full = {"code_size": 784.0, "active_units": 784.0}
    invent_row(store, small, "fc_ae", val=0.030, test=0.030, facts=full)
    write(store)
    (cell,) = table(store).values()
    assert (cell["track"], cell["rank_low"], cell["badges"]) == ("overcomplete", 1, "over-complete")
    assert decision(store) == ("none", None, None)


def test_one_failure_in_ten_keeps_the_rank_and_is_badged_two_cost_it(store, small):
    ten = dataclasses.replace(small, seeds=tuple(range(10)))
    *good, last = specs_of(store, ten, "fc_ae", range(10))
    for spec in good:
        invent(store, spec, 0.03 * (1 + spec.seed / 1000), 0.03)
    invent(store, last, 0.0, 0.0, status="diverged")
    write(store)
    (cell,) = table(store).values()
    assert (cell["rank_low"], cell["badges"]) == (1, "1 of 10 diverged")
    assert (cell["started"], cell["finished"], cell["diverged"]) == (10, 9, 1)
    rows = read_results(store.registry).ledger
    assert why_unranked([*rows[:8], rows[9], rows[9]]) == "more than 10 % of its runs failed"


def test_what_was_not_compared_has_no_rank(store, small):
    disagreeing(store, small)
    write(store)
    invent_row(store, small, "sparse_ae", val=0.02, test=0.02)
    # Another machine has the ledger without its scores, and one record less than is needed.
    shutil.rmtree(store.registry / "scores")
    (store.registry / "scores.csv").unlink()
    lost = specs_of(store, small, "vae")[0].run_key
    record_folder(store.records, lost).rename(store.root / "lost")
    found = publishing.look(store, EVERYTHING)
    assert {cell.ranks for cell in found.boards[0].cells} == {None}
    assert {cell.why_unranked for cell in found.boards[0].cells} == {"not compared yet"}
    assert found.boards[0].cells[0].row == "sparse_ae"


def test_a_stopped_run_is_no_row(store, small):
    disagreeing(store, small)
    (spec,) = specs_of(store, small, "fc_ae", [7])
    invent(store, spec, 0.0, 0.0, status="stopped")
    write(store)
    assert len(read_results(store.registry).ledger) == 9
    assert table(store)["fc_ae"]["started"] == 3


# Margins and badges.


def test_the_margin_over_pca_is_of_the_test_error_and_positive_where_that_is_lower(store, small):
    (pca,) = specs_of(store, small, "pca", [0])
    invent(store, pca, val=0.020, test=0.040)
    invent_row(store, small, "fc_ae", val=0.010, test=0.050)
    invent_row(store, small, "vae", val=0.030, test=0.030)
    write(store)
    found = table(store)
    assert found["fc_ae"]["margin"] == pytest.approx(-25, rel=1e-3)
    assert found["vae"]["margin"] == pytest.approx(25, rel=1e-3)
    assert [found[name]["badges"] for name in ("pca", "fc_ae", "vae")] == ["", "worse than PCA", ""]
    page = (store.registry / "README.md").read_text()
    assert "−25.0 %" in page
    assert "+25.0 %" in page


def ranked_cells(records):
    """The cells of a table of these records, which nothing compared."""
    ledger = ledger_of(row_of(record) for record in records)
    return pages.ranked(ledger, Results(ledger, Significance()))


@pytest.mark.parametrize(
    ("facts", "badges"),
    [
        ({"active_units": 1.0}, ""),
        ({"active_units": 0.0}, "collapsed latent"),
        ({"output_std": 0.0021}, ""),
        ({"output_std": 0.0019}, "constant output"),
        ({"dead_codes": 3.0}, "3 codes never used"),
        ({"dead_codes": 0.0}, ""),
        ({"best_of_trials": 30.0}, "best of 30 trials"),
        (
            {"active_units": 0.0, "output_std": 0.0, "dead_codes": 2.5},
            "collapsed latent; constant output; 2.5 codes never used",
        ),
    ],
)
def test_every_sick_row_wears_its_badge(store, small, facts, badges):
    scores = {"val": {"mse": 0.03}, "test": {"mse": 0.03}}
    healthy, sick = (specs_of(store, small, model)[0] for model in ("fc_ae", "vae"))
    records = [record_of(healthy, scores), record_of(sick, scores, facts=facts)]
    cells = ranked_cells(records)
    # The outputs of the healthy row vary by 0.2.
    assert {cell.row: cell.badge_text for cell in cells} == {"fc_ae": "", "vae": badges}


def test_seeds_that_differ_by_more_than_three_percent_are_badged(store, small):
    """On validation: the highest seed is that much above the lowest."""
    invent_row(store, small, "fc_ae", val=0.03, test=0.03, steps=((-15, 0), (0, 0), (16, 0)))
    invent_row(store, small, "vae", val=0.04, test=0.04, steps=((-14, -90), (0, 0), (15, 90)))
    write(store)
    found = table(store)
    assert found["fc_ae"]["badges"] == "seeds differ by more than 3 %"
    assert found["vae"]["badges"] == ""
    assert found["vae"]["seed_spread"] == pytest.approx(1.015 / 0.986 - 1, rel=1e-5)
    assert "seeds differ by more than 3 % |" in (store.registry / "README.md").read_text()


@pytest.mark.parametrize(
    ("metric", "scores", "spread"),
    [
        ("mse", [0.02, 0.021, 0.0205], 0.05),
        ("cross_entropy", [0.4, 0.44], 0.1),
        ("ssim", [0.9, 0.88], 0.2),
        ("accuracy", [0.95, 0.96], 0.25),
        ("psnr", [20.0, 23.0103], 1.0),
        ("accuracy", [1.0, 0.99], math.inf),
        ("accuracy", [1.0, 1.0], 0.0),
        ("mse", [0.02], math.nan),
        ("forgotten", [1.0, 2.0], math.nan),
    ],
)
def test_the_spread_of_seeds_is_that_of_their_errors(metric, scores, spread):
    assert seed_spread(scores, metric) == pytest.approx(spread, rel=1e-5, nan_ok=True)


def test_a_row_says_how_many_numbers_of_its_code_are_active(store, small):
    scores = {"val": {"mse": 0.03}, "test": {"mse": 0.03}}
    given = {"vae": 2.0, "fc_ae": 17 / 3, "mean_image": math.nan}
    records = [
        record_of(specs_of(store, small, model, [0])[0], scores, facts={"active_units": units})
        for model, units in given.items()
    ]
    cells = ranked_cells(records)
    shown = {"vae": "2 of 8", "fc_ae": "5.7 of 8", "mean_image": "–"}
    assert {cell.model: active(cell) for cell in cells} == shown
    for found in (short_table(Board(cells, 0, (), {})), full_table(cells)):
        place = [column.title for column in found.columns].index("active")
        assert {row[place] for row in found.rows} == set(shown.values())
    vae = next(cell for cell in cells if cell.model == "vae")
    assert active(dataclasses.replace(vae, track=Track("bits", 64))) == "–"
    facts = {**vae.facts, "active_units": 1434.0}
    large = dataclasses.replace(vae, code_size=1568, track=Track("overcomplete"), facts=facts)
    assert active(large) == "1,434 of 1,568"


def test_a_row_says_what_belongs_to_its_variant_alone(store, small):
    mine = dataclasses.replace(small, hyperparameters={"rae": {"l2": 0.123456789}})
    scores = {"val": {"mse": 0.03}, "test": {"mse": 0.03}}
    records = [
        record_of(specs_of(store, mine, model)[0], scores)
        for model in ("fc_ae", "vae", "beta_vae", "denoising_ae", "rae")
    ]
    cells = {cell.model: cell for cell in ranked_cells(records)}
    assert {model: settings(cell) for model, cell in cells.items()} == {
        "fc_ae": "",
        "vae": "beta = 12.25",
        "beta_vae": "beta = 4",
        "denoising_ae": "corruption = gaussian, level = 0.1",
        "rae": "beta = 0.01, gradient_penalty = 0, l2 = 0.1235",
    }
    assert notes(cells["beta_vae"]).startswith("beta = 4; ")
    columns = cells["rae"].columns()
    assert columns["hyperparameters"] == "beta=0.01, gradient_penalty=0, l2=0.123456789"


def test_the_cost_of_training_is_that_of_the_median_seed(store, small):
    for spec, time in zip(specs_of(store, small, "fc_ae"), (2.0, 3.0, 100.0), strict=True):
        invent(store, spec, 0.03, 0.03, facts={"train_seconds": time, "parameters": 10 * time})
    write(store)
    (cell,) = table(store).values()
    assert (cell["train_seconds"], cell["parameters"]) == (3.0, pytest.approx(350))
