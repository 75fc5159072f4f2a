"""The ledger holds a run once and as it was; what is compared is complete, corrected and of the
same settings; five per cent is five per cent."""

import dataclasses

import pytest
from invented import disagreeing, pair_row, record_of, specs_of, write
from registry_store import tiny_protocol

from bench.core.errors import CheckFailed
from bench.core.protocol import Protocol
from bench.core.store import Store
from bench.core.track import Track
from bench.leaderboard.competitions import competitions
from bench.leaderboard.csv_rows import encode
from bench.leaderboard.ledger import current, decode_ledger, encode_ledger, ledger_of, row_of
from bench.leaderboard.merging import merge
from bench.leaderboard.significance import PairRow, Significance
from bench.registry import publishing
from bench.registry.results import read_results, scores_reader
from bench.registry.scores import Kept

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")


@pytest.fixture
def small(store: Store) -> Protocol:
    return tiny_protocol(store.root)


def pair(difference, p, p_holm=1.0):
    return pair_row("a", "b", difference, p, p_holm)


def test_a_pair_names_the_better_and_the_worse_row():
    assert (pair(-1, 0.01, 0.049).better, pair(-1, 0.01, 0.049).worse) == ("a", "b")
    assert (pair(1, 0.01, 0.049).better, pair(1, 0.01, 0.049).worse) == ("b", "a")
    assert (pair(-1, 0.01, 0.051).better, pair(-1, 0.01, 0.051).worse) == ("", "")


def test_five_percent_exactly_is_a_tie():
    assert pair(-1, 0.05, 0.05).better == ""
    assert pair(-1, 0.05, 0.0499).better == "a"


def test_a_run_stands_in_the_ledger_once(store, small):
    disagreeing(store, small)
    write(store)
    ledger = read_results(store.registry).ledger
    again = dataclasses.replace(ledger[0], environment={"threads": "99"})
    with pytest.raises(CheckFailed, match=f"{ledger[0].run_key}.*is in it twice"):
        decode_ledger(encode_ledger([*ledger, again]), "registry/results.csv")


def test_what_drifted_does_not_enter_the_ledger(store, small):
    disagreeing(store, small)
    write(store)
    ledger = read_results(store.registry).ledger
    row = ledger[0]
    worse = dataclasses.replace(row, scores={**row.scores, "val_mse": 0.9})
    kept = merge(ledger, [worse])
    assert kept.ledger == ledger
    assert [drift.row.run_key for drift in kept.drifted] == [row.run_key]
    refreshed = merge(ledger, [worse], refresh=True).ledger
    assert worse in refreshed
    assert row not in refreshed


def test_comparisons_of_rows_that_are_gone_are_found(store, small):
    disagreeing(store, small)
    write(store)
    path = store.registry / "comparisons.csv"
    known = read_results(store.registry).known.pairs
    stray = dataclasses.replace(known[0], rows_digest="f" * 16)
    path.write_bytes(encode([*known, stray], PairRow.required()))
    with pytest.raises(CheckFailed, match=r"comparisons\.csv line 5 belongs to no track"):
        publishing.check(store)


def test_comparisons_that_lack_a_pair_or_an_interval_hold_for_nothing(store, small):
    disagreeing(store, small)
    write(store)
    results = read_results(store.registry)
    (competition,) = competitions(current(results.ledger))
    cells, pairs = results.known.cells, results.known.pairs
    assert results.known.holds_for(competition)
    assert not Significance(cells, pairs[1:]).holds_for(competition)
    assert not Significance(cells[1:], pairs).holds_for(competition)


def test_a_recipe_found_again_with_more_trials_says_so_and_never_fewer(store, small):
    specs = specs_of(store, small, "fc_ae", [0, 1])
    scores = {"val": {"mse": 0.03}, "test": {"mse": 0.03}}

    def rows(trials):
        said = (dataclasses.replace(spec, recipe=f"tuned ({trials} trials)") for spec in specs)
        return [row_of(record_of(spec, scores)) for spec in said]

    ledger = ledger_of(rows(20))
    more = merge(ledger, rows(30)[:1])
    assert {row.recipe for row in more.ledger} == {"tuned (30 trials)"}
    assert (more.renamed, more.added) == (2, [])
    fewer = merge(ledger, rows(10)[:1])
    assert {row.recipe for row in fewer.ledger} == {"tuned (20 trials)"}
    assert fewer.renamed == 0


def test_tables_come_by_code_size_then_bits_then_the_over_complete():
    names = ["d4", "d32", "d128", "b16", "b288", "overcomplete"]
    assert sorted(sorted(names), key=lambda name: Track.parse(name).order) == names


def test_per_image_scores_of_other_settings_compare_nothing(store, small):
    disagreeing(store, small)
    write(store)
    (competition,) = competitions(current(read_results(store.registry).ledger))
    row = competition.first
    scores_of = scores_reader(store, Kept(store.registry, ()))
    assert scores_of(row, "validation") is not None
    other = dataclasses.replace(row, evaluation_digest="f" * 16)
    assert scores_of(other, "validation") is None
