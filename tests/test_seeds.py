"""Adaptive seeds: which seeds a cell gets, what they depend on, and which of them are ranked."""

import dataclasses
import functools
import json
import math
from collections.abc import Generator, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from invented import invent, specs_of
from seeds_support import Inventing, Score, far, first_off, near
from tiny import TINY
from typer.testing import CliRunner

from bench.benchmark.catalogue import describe_protocols
from bench.benchmark.plan import Plan, Request, plan
from bench.benchmark.running import Added, PlanResult, execute_plan, run_plan
from bench.cli import app
from bench.core.errors import CheckFailed, Stopped
from bench.core.protocol import NAME_ONLY, Protocol, load_protocol
from bench.core.seeds import AdaptiveSeeds, Seeds, parse_rule, rule_text
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.data import load_set
from bench.execution import Finished, places
from bench.leaderboard.competitions import why_unranked
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.ledger import (
    LedgerRow,
    decode_ledger,
    encode_ledger,
    ledger_columns,
    ledger_of,
    row_of,
)
from bench.leaderboard.seeds import half_width, is_wide
from bench.records.files import iter_records
from bench.tracking.contract import NullTracker

RULE = AdaptiveSeeds(least=3, most=7, until=0.02)


class Listening(NullTracker):
    """A tracker that notes the seeds of every complete cell that it is told of."""

    def __init__(self) -> None:
        self.cells: list[list[int]] = []

    def cell_finished(self, records: Sequence[RunRecord], /) -> None:
        self.cells.append([record.spec.seed for record in records])


@pytest.fixture
def adaptive(tiny_protocol: str) -> Protocol:
    return dataclasses.replace(load_protocol(tiny_protocol), models=("fc_ae",), seeds=RULE)


load = functools.cache(load_set)


def planned(protocol: Protocol, store: Store, **asked: Any) -> Plan:
    return plan(Request(protocol, **asked), store, load)


def ran(
    made: Plan, store: Store, executor: Inventing, tracker: NullTracker | None = None
) -> tuple[list[object], PlanResult]:
    """Run a plan to its end: what was told, and the outcome."""
    steps = run_plan(made, store, executor if made.missing else None, tracker or NullTracker())
    return _to_the_end(steps)


def _to_the_end(steps: Generator[object, None, PlanResult]) -> tuple[list[object], PlanResult]:
    told = []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


def seeds_of(made: Plan, model: str = "fc_ae") -> list[int]:
    return [spec.seed for spec in made.specs if spec.model == model]


# The width.


@pytest.mark.parametrize(
    ("metric", "unit"),
    [("mse", np.log), ("ssim", lambda s: np.log(1 - s)), ("psnr", lambda s: s)],
)
@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_width_is_that_of_students_interval(metric, unit, count):
    scores = np.random.default_rng(count).uniform(0.1, 0.4, count)
    values = unit(scores)
    low, high = scipy.stats.t.interval(
        0.95, count - 1, loc=values.mean(), scale=scipy.stats.sem(values)
    )
    assert half_width(metric, scores.tolist()) == pytest.approx((high - low) / 2)


def test_one_seed_has_no_width() -> None:
    assert half_width("mse", [0.03]) == half_width("mse", []) == math.inf
    assert half_width("mse", [0.03] * 2) == 0
    assert half_width("mse", [0.0, 0.0]) == 0


# Which seeds are run.


@pytest.mark.parametrize(
    ("score", "seeds"), [(near, 3), (first_off, 6), (far, 7)], ids=["near", "first_off", "far"]
)
def test_seeds_follow_while_the_mean_is_wide_and_no_further(adaptive, store, score, seeds):
    made = planned(adaptive, store)
    assert (seeds_of(made), made.in_words) == ([0, 1, 2], "3 to 7")
    executor, tracker = Inventing(store, score), Listening()
    told, outcome = ran(made, store, executor, tracker)
    assert executor.trained == [("fc_ae", seed) for seed in range(seeds)]
    assert [spec.seed for spec in outcome.specs] == list(range(seeds))
    assert len(outcome.records) == outcome.trained == seeds
    assert [event.spec.seed for event in told if isinstance(event, Added)] == list(range(3, seeds))
    assert tracker.cells == [list(range(seeds))], "its model is logged once all seeds are there"
    after = planned(adaptive, store)
    assert (seeds_of(after), after.missing, after.later) == (list(range(seeds)), [], ())


def test_what_was_added_says_how_wide_the_mean_was(adaptive, store):
    told, _ = ran(planned(adaptive, store), store, Inventing(store, first_off))
    added = [event for event in told if isinstance(event, Added)]
    logs = np.log([0.03 * 1.045, 0.03, 0.03])
    assert added[0].half_width == pytest.approx(
        scipy.stats.t.ppf(0.975, 2) * logs.std(ddof=1) / math.sqrt(3), rel=1e-6
    )
    assert all(event.half_width > RULE.until for event in added)


def test_the_width_alone_decides_not_how_good_a_row_is(adaptive, store, tmp_path):
    trained = []
    for number, factor in enumerate((1.0, 20.0)):
        other = Store(tmp_path / str(number)).prepare()
        executor = Inventing(other, lambda spec, f=factor: f * first_off(spec))
        ran(planned(adaptive, other), other, executor)
        trained.append(executor.trained)
    assert trained[0] == trained[1]


def test_diverged_seeds_count_as_seeds_but_not_for_the_width(adaptive, store):
    """Two seeds 0.4 % apart are known to 2.5 %, three to 0.5 %."""

    def score(spec: RunSpec) -> float | None:
        return {0: 0.03, 1: None, 2: 0.03 * 1.004, 3: 0.03 * 1.002}[spec.seed]

    executor = Inventing(store, score)
    ran(planned(adaptive, store), store, executor)
    assert [seed for _, seed in executor.trained] == [0, 1, 2, 3]


def test_where_all_diverge_the_most_is_the_end(adaptive, store):
    executor = Inventing(store, lambda spec: None)
    told, _ = ran(planned(adaptive, store), store, executor)
    assert [seed for _, seed in executor.trained] == list(range(7))
    assert next(event for event in told if isinstance(event, Added)).half_width == math.inf


def test_a_seed_that_failed_is_waited_for(adaptive, store):
    """Without it nobody knows whether another one is needed."""
    executor = Inventing(store, lambda spec: math.nan if spec.seed == 1 else far(spec))
    _, outcome = ran(planned(adaptive, store), store, executor)
    assert [seed for _, seed in executor.trained] == [0, 1, 2]
    assert len(outcome.failures) == 1
    again = planned(adaptive, store)
    assert ([spec.seed for spec in again.missing], again.in_words) == ([1], "3 to 7")


def test_what_was_stopped_goes_on_with_the_seeds_that_it_had(adaptive, store):
    steps = run_plan(planned(adaptive, store), store, Inventing(store, far), NullTracker())
    seen = 0
    while seen < 4:
        seen += isinstance(next(steps), Finished)
    steps.close()
    made = planned(adaptive, store)
    assert (seeds_of(made), made.in_words) == ([0, 1, 2, 3, 4], "5 to 7")
    executor = Inventing(store, far)
    _, outcome = ran(made, store, executor)
    assert [seed for _, seed in executor.trained] == [4, 5, 6]
    assert len(outcome.records) == 7


@pytest.mark.parametrize("score", [first_off, far])
def test_two_commands_agree_on_the_seeds_and_train_each_once(adaptive, store, score):
    executors = Inventing(store, score), Inventing(store, score)
    trackers = Listening(), Listening()
    waiting = [
        run_plan(planned(adaptive, store), store, executor, tracker)
        for executor, tracker in zip(executors, trackers, strict=True)
    ]
    outcomes = []
    for _ in range(1000):
        for steps in list(waiting):
            try:
                next(steps)
            except StopIteration as end:
                outcomes.append(end.value)
                waiting.remove(steps)
    first, second = outcomes
    assert first.records.keys() == second.records.keys()
    trained = [seed for executor in executors for _, seed in executor.trained]
    wanted = list(range(len(first.records)))
    assert sorted(trained) == wanted
    assert all(executor.trained for executor in executors)
    assert trackers[0].cells == trackers[1].cells == [wanted]


def test_a_cell_gets_all_its_seeds_before_the_cells_that_wait(adaptive, store):
    """Its seeds follow one after the other: begun late, they would hold up the end."""
    executor = Inventing(store, far)
    ran(planned(adaptive, store, models=("fc_ae", "deep_ae", "vae")), store, executor)
    assert len(executor.trained) == 21
    assert executor.trained.index(("fc_ae", 6)) < executor.trained.index(("vae", 0))


def test_closed_forms_run_once_and_chosen_seeds_are_a_list(adaptive, store):
    closed = planned(adaptive, store, models=("pca",))
    assert (seeds_of(closed, "pca"), closed.later) == ([0], ())
    assert not any("seeds" in note for note in closed.notes)
    chosen = planned(adaptive, store, seeds=(5, 1))
    executor = Inventing(store, far)
    ran(chosen, store, executor)
    assert executor.trained == [("fc_ae", 5), ("fc_ae", 1)]
    along = planned(adaptive, store, baselines=True)
    assert [spec.seed for spec in along.specs if spec.model == "pca"] == [0]


def test_seeds_that_are_recorded_already_are_used_when_their_turn_comes(adaptive, store):
    ran(planned(adaptive, store, seeds=(3, 5)), store, Inventing(store, far))
    made = planned(adaptive, store)
    assert seeds_of(made) == [0, 1, 2]
    executor = Inventing(store, far)
    ran(made, store, executor)
    assert [seed for _, seed in executor.trained] == [0, 1, 2, 4, 6]


def write_ledger(store: Store, records: Iterable[RunRecord]) -> None:
    store.registry.mkdir()
    rows = ledger_of(map(row_of, records))
    (store.registry / "results.csv").write_bytes(encode_ledger(rows))


@pytest.mark.parametrize(("score", "seeds"), [(first_off, 6), (far, 7)])
def test_a_clone_repeats_the_seeds_of_the_ledger_and_no_more(
    adaptive, store, tmp_path, score, seeds
):
    ran(planned(adaptive, store), store, Inventing(store, score))
    clone = Store(tmp_path / "clone").prepare()
    write_ledger(clone, iter_records(store.records))
    made = planned(adaptive, clone)
    assert (seeds_of(made), made.later) == (list(range(seeds)), ())
    assert "1 row gets the seeds that the ledger has" in made.notes
    executor = Inventing(clone, far if score is first_off else near)
    ran(made, clone, executor)
    assert len(executor.trained) == seeds


def test_an_unfinished_cell_of_the_ledger_is_no_plan(adaptive, store):
    specs = specs_of(store, adaptive, "fc_ae", range(4), 4)
    write_ledger(store, [invent(store, spec, far(spec), far(spec)) for spec in specs])
    made = planned(adaptive, store)
    assert (seeds_of(made), made.in_words) == ([0, 1, 2, 3, 4], "5 to 7")


# What is ranked.


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> LedgerRow:
    """The row of a run whose protocol has RULE."""
    root = tmp_path_factory.mktemp("row")
    (root / "tiny.toml").write_text(TINY)
    protocol = dataclasses.replace(load_protocol(str(root / "tiny.toml")), seeds=RULE)
    store = Store(root).prepare()
    (spec,) = specs_of(store, protocol, "fc_ae", [0], 4)
    return row_of(invent(store, spec, near(spec), 0.03))


def like(row: LedgerRow, seeds: Sequence[int], score: Score, planned: Seeds) -> list[LedgerRow]:
    """The rows of a cell with other seeds; those without a score diverged."""
    found = []
    for seed in seeds:
        one = dataclasses.replace(row, seed=seed, seed_rule=rule_text(planned))
        value = score(one)
        status = "diverged" if value is None else "finished"
        scores = {} if value is None else {"val_mse": rounded(value)}
        found.append(dataclasses.replace(one, status=status, scores=scores))
    return found


@pytest.mark.parametrize(
    ("seeds", "score", "why"),
    [
        (range(3), near, ""),
        (range(5), near, ""),
        (range(6), first_off, ""),
        (range(7), far, ""),
        (range(5), first_off, "another seed needed: half width 0.024, more than 0.02"),
        (range(3), far, "another seed needed: half width 0.58, more than 0.02"),
        (range(2), near, "fewer than 3 seeds"),
        (range(8), near, "more than 7 seeds"),
        ((0, 1, 3), near, "seeds 0, 1, 2 and so on expected, 0, 1, 3 found"),
        ((1, 2, 3, 4), near, "seeds 0, 1, 2 and so on expected, 1 to 4 found"),
        ((0, 1, 2, 9), near, "seeds 0, 1, 2 and so on expected, 0, 1, 2, 9 found"),
    ],
)
def test_only_complete_prefixes_of_adaptive_seeds_are_ranked(row, seeds, score, why):
    rows = like(row, seeds, score, RULE)
    assert why_unranked(rows) == why
    assert why_unranked(rows[::-1]) == why
    assert is_wide(rows) == (len(rows) == 7)


@pytest.mark.parametrize(
    ("seeds", "why"),
    [
        ((0, 4, 2), ""),
        ((0, 2), "seeds 0, 2, 4 expected, 0, 2 found"),
        ((0, 2, 3, 4), "seeds 0, 2, 4 expected, 0, 2, 3, 4 found"),
        ((0, 1, 2), "seeds 0, 2, 4 expected, 0, 1, 2 found"),
    ],
)
def test_a_list_is_ranked_when_exactly_its_seeds_are_there(row, seeds, why):
    rows = like(row, seeds, far, (4, 0, 2))
    assert why_unranked(rows) == why
    assert not is_wide(rows)


def test_a_list_of_two_seeds_has_them_and_is_too_short(row):
    assert why_unranked(like(row, (0, 1), near, (0, 1))) == "fewer than 3 seeds"


def test_a_diverged_seed_is_no_gap(row):
    """One of ten: few enough to be ranked."""

    def score(one: LedgerRow) -> float | None:
        return None if one.seed == 4 else near(one)

    assert why_unranked(like(row, range(10), score, AdaptiveSeeds(3, 10, 0.02))) == ""


def test_the_seeds_of_the_latest_run_count(row):
    """A protocol's list grows: its first rows still say the shorter one."""
    first = like(row, range(3), near, (0, 1, 2))
    (last,) = like(row, [3], near, (0, 1, 2, 3))
    last = dataclasses.replace(last, finished=last.finished + timedelta(seconds=1))
    assert why_unranked(first) == why_unranked([last, *first]) == ""
    assert why_unranked([last, *first[:2]]) == "seeds 0 to 3 expected, 0, 1, 3 found"


@pytest.mark.parametrize(
    ("seeds", "text"),
    [((0,), "0"), ((0, 1, 2), "0,1,2"), (AdaptiveSeeds(3, 10, 0.02), "3..10 until 0.02")],
)
def test_a_ledger_keeps_the_rule_of_seeds(row, seeds, text):
    rows = ledger_of(like(row, [0], near, seeds))
    assert rows[0].seed_rule == text
    assert parse_rule(text) == seeds
    assert decode_ledger(encode_ledger(rows), "here") == rows


@pytest.mark.parametrize(
    "text",
    ["0, 1", "-1", "a", "3..2 until 0.1", "2..3 until 0.1", "3..9 until nan", "3..9 until 1"],
)
def test_another_spelling_of_a_rule_is_refused(row, text):
    forged = encode_ledger([dataclasses.replace(row, seed_rule=text)])
    with pytest.raises(CheckFailed, match=r"here line 2 .*: seed_rule cannot be read"):
        decode_ledger(forged, "here")


def test_rows_of_earlier_versions_keep_their_digests_and_columns(row):
    earlier = dataclasses.replace(row, seed_rule="", seed=1, run_key="f" * 16)
    assert "seed_rule" not in ledger_columns([earlier])
    assert "seed_rule" not in earlier.cells
    mixed = decode_ledger(encode_ledger([row, earlier]), "here")
    assert [one.seed_rule for one in mixed] == ["3..7 until 0.02", ""]
    assert mixed[1].row_digest == earlier.row_digest


def test_a_protocol_of_which_only_the_name_is_known_tells_no_seeds(adaptive, store):
    named = dataclasses.replace(adaptive, description=NAME_ONLY)
    (spec,) = specs_of(store, named, "fc_ae", [0], 4)
    assert row_of(invent(store, spec, 0.03, 0.03)).seed_rule == ""


# What people read of it.


class Workers(places.Workers):
    """Those of one executor."""

    def __init__(self, store: Store, executor: Inventing) -> None:
        super().__init__(1, store)
        self.executor = executor

    def pool(self) -> Inventing:
        return self.executor


def test_ctrl_c_says_how_many_runs_there_may_be(adaptive, store, monkeypatch):
    monkeypatch.setenv("BENCH_TRACKING", "off")
    seen: list[object] = []

    def interrupted(event: object) -> None:
        if isinstance(event, Finished):
            seen.append(event)
            if len(seen) == 4:
                raise KeyboardInterrupt

    workers = Workers(store, Inventing(store, far))
    with pytest.raises(Stopped, match="stopped with 4 of 5 to 7 runs recorded; the same command"):
        execute_plan(planned(adaptive, store), workers, interrupted)


def test_a_list_of_protocols_says_both_ends(adaptive, store, tiny_protocol):
    write_rule(tiny_protocol)
    (found,) = describe_protocols([tiny_protocol], store, False)
    assert (found["seeds"], found["seeds_at_most"]) == (3, 10)
    assert (found["runs"], found["runs_at_most"]) == (5, 12)


def write_rule(path: str) -> None:
    text = Path(path).read_text()
    Path(path).write_text(text.replace("[0, 1]", "{ least = 3, most = 10, until = 0.02 }"))


def test_a_dry_run_says_both_ends(adaptive, store, tiny_protocol, monkeypatch):
    monkeypatch.setenv("BENCH_TRACKING", "off")
    write_rule(tiny_protocol)
    words = ["run", "-p", tiny_protocol, "--workers", "1", "--dry-run"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    assert "5 to 12 runs, 0 recorded, 5 to 12 to do, about " in shown.stderr
    assert (
        "trained rows get 3 to 10 seeds: another one while their mean MSE is known no better than "
        "± 2 %" in shown.stderr
    )
    told = CliRunner().invoke(app, [*words, "--json"])
    found = json.loads(told.stdout)
    assert [run["seed"] for run in found["later"]] == list(range(3, 10))
    assert [run["seed"] for run in found["runs"]] == [0, 0, 0, 1, 2]
    extra = sum(run["forecast_seconds"] for run in found["later"])
    longer = found["forecast_seconds_at_most"] - found["forecast_seconds"]
    assert 0.4 * extra < longer <= 1.01 * extra + 20
