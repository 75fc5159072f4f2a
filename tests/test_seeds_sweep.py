"""The winner of a search and the default recipe get adaptive seeds, each as many as it needs."""

from pathlib import Path
from statistics import fmean

import pytest
from seeds_support import Inventing, far, near
from sweep_support import Scripted, make_plan
from typer.testing import CliRunner

from bench.benchmark.running import run_plan
from bench.cli import app
from bench.core.spec import RunSpec, TrialSpec
from bench.core.store import Store
from bench.execution import Event, places
from bench.records.selection import selection_score
from bench.sweep.plan import StudyPlan
from bench.sweep.running import tune_study
from bench.tracking.contract import NullTracker


@pytest.fixture
def adaptive(tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a protocol with 3 to 5 seeds."""
    monkeypatch.setenv("BENCH_TRACKING", "off")
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("[0, 1]", "{ least = 3, most = 5, until = 0.02 }"))
    return tiny_protocol


def score(spec: RunSpec) -> float:
    """The default's seeds never agree, the winner's do."""
    return far(spec) if spec.recipe == "default" else near(spec)


class Both(Inventing):
    """Trials are scripted, runs are invented."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, score)
        self.trials = Scripted(1)

    def submit(self, spec: RunSpec) -> None:
        (self.trials if isinstance(spec, TrialSpec) else super()).submit(spec)

    def events(self, timeout: float) -> list[Event]:
        return self.trials.events(timeout) or super().events(timeout)


class Workers(places.Workers):
    """Those of one executor."""

    def __init__(self, store: Store, executor: Both) -> None:
        super().__init__(1, store)
        self.executor = executor

    def pool(self) -> Both:
        return self.executor


def runs(plan: object) -> list[tuple[str, int]]:
    found = [(spec.recipe, spec.seed) for spec in plan.specs if spec.model == "fc_ae"]  # type: ignore[attr-defined]
    return [(recipe.partition(" ")[0], seed) for recipe, seed in found]


def test_a_winner_begins_with_the_least_whatever_the_default_needed(adaptive, store):
    settings = {"lr": 0.01}

    def winner(plan: StudyPlan) -> object:
        return plan.with_recipe({**plan.known["default"], **settings}, "tuned (3 trials)", store)

    plan = make_plan(adaptive, store)
    first = [("default", seed) for seed in (0, 1, 2)]
    begun = [("tuned", seed) for seed in (0, 1, 2)]
    assert runs(winner(plan)) == [*begun, *first]
    assert runs(plan.with_recipe(plan.known["default"], "tuned (3 trials)", store)) == first
    executor = Inventing(store, score)
    list(run_plan(plan.defaults, store, executor, NullTracker()))
    later = make_plan(adaptive, store)
    assert later.defaults.missing == []
    default = [("default", seed) for seed in range(5)]
    found = winner(later)
    assert runs(found) == [*begun, *default]
    list(run_plan(found, store, executor, NullTracker()))
    assert runs(winner(make_plan(adaptive, store))) == [*begun, *default]


def test_what_a_winner_is_worth_is_the_mean_over_all_seeds(adaptive, store):
    path = Path(adaptive)
    path.write_text(path.read_text().replace("lr = 0.003", "lr = 0.0002"))  # others do better
    executor = Both(store)
    plan = make_plan(adaptive, store, trials=4)
    outcome = tune_study(plan, Workers(store, executor), lambda _: None)
    assert not outcome.is_default
    assert sorted(runs(outcome.confirmation)) == [
        *(("default", seed) for seed in range(5)),
        *(("tuned", seed) for seed in range(3)),
    ]
    by_recipe: dict[bool, list[float]] = {True: [], False: []}
    for record in outcome.records.values():
        by_recipe[record.spec.recipe != "default"].append(selection_score(record))
    assert len(by_recipe[True]) == 3
    assert len(by_recipe[False]) == 5
    for tuned, scores in by_recipe.items():
        assert outcome.mean(tuned=tuned) == pytest.approx(fmean(scores))


def test_a_trial_never_trains_with_a_seed_that_may_follow(adaptive, store):
    path = Path(adaptive)
    path.write_text(path.read_text().replace("most = 5", "most = 1000"))
    assert make_plan(adaptive, store).base.seed == 1000


def test_a_planned_search_says_how_many_runs_its_winner_gets(adaptive, store):
    words = ["sweep", "-p", adaptive, "-m", "fc_ae", "--trials", "4", "--workers", "1", "--dry-run"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    # Beside it: three to five runs of the default recipe, two closed forms.
    assert "then 3 to 5 runs of the winner and 5 to 7 to compare it with" in shown.stderr
