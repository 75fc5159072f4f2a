"""What a study and its winner are: whose trials, by which budget, under which name."""

import dataclasses
import shlex
from pathlib import Path

import pytest
from sweep_support import Scripted, make_plan, open_book, search

from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.recipes import BEST_OF, budget, tuned
from bench.core.spec import FloatRange
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.ledger import ledger_of, row_of
from bench.leaderboard.merging import merge
from bench.leaderboard.ranking import rank_table
from bench.leaderboard.significance import Significance
from bench.models.zoo import MODELS
from bench.records.files import read_record
from bench.sweep.events import TrialDone
from bench.sweep.opening import Before, look_up
from bench.sweep.plan import SweepRequest, plan_studies
from bench.sweep.results import iter_trials
from bench.sweep.running import command
from bench.sweep.winner import best_of


def test_a_folder_keeps_the_trials_of_one_study(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=2)
    search(plan, store, Scripted())
    elsewhere = dataclasses.replace(plan.request, storage=f"sqlite:///{store.root}/other.db")
    with pytest.raises(BadInput, match=r"holds the trials of another study tiny\.fc_ae\.d4"):
        open_book(dataclasses.replace(plan, request=elsewhere), store)
    fresh = dataclasses.replace(elsewhere, new_study=True)
    assert open_book(dataclasses.replace(plan, request=fresh), store).name == "tiny.fc_ae.d4.2"


def test_a_new_study_draws_other_points_and_is_named_in_tables(
    tiny_protocol: str, store: Store
) -> None:
    plan = make_plan(tiny_protocol, store, trials=6, sampler="random")
    search(plan, store, Scripted())
    fresh = dataclasses.replace(plan, request=dataclasses.replace(plan.request, new_study=True))
    book = open_book(fresh, store)
    drawn = {ticket.key for _ in range(6) if (ticket := book.ask()) and not ticket.source}
    before = {record.spec.run_key for record in iter_trials(store, plan.name)}
    assert len(drawn) == 4
    assert not drawn & before
    assert tuned(30, book.generation) == "tuned (30 trials, study 2)"
    assert budget(tuned(30, 2)) == budget(tuned(30)) == 30


def test_studies_are_looked_up_before_anything_is_trained(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store, trials=2)
    assert look_up([plan], store) == [Before(plan.name)]
    assert not (store.mlruns / "optuna.db").exists()
    search(plan, store, Scripted())
    assert look_up([plan], store) == [Before(plan.name, 2)]
    moved = {**plan.space, "lr": FloatRange(1e-4, 5e-2, log=True)}
    with pytest.raises(BadInput, match="range of lr"):
        look_up([dataclasses.replace(plan, space=moved)], store)


def test_what_an_origin_did_must_not_change_within_a_study(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tiny_protocol, store, trials=2)
    search(plan, store, Scripted())
    row = MODELS["fc_ae"]
    other = dataclasses.replace(row, origin_recipe={**row.origin_recipe, "lr": 0.015})
    monkeypatch.setitem(MODELS, "fc_ae", other)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="origin recipe is"):
        open_book(make_plan(tiny_protocol, store, trials=3), store)


def test_a_pruned_trial_is_worth_what_it_was_at_its_verdict(
    tiny_protocol: str, store: Store
) -> None:
    Path(tiny_protocol).write_text(
        Path(tiny_protocol).read_text().replace("epochs = 3", "epochs = 12")
    )
    plan = make_plan(tiny_protocol, store, trials=20, sampler="random")
    done = [e.record for e in search(plan, store, Scripted()) if isinstance(e, TrialDone)]
    told = {trial.number: trial for trial in open_book(plan, store).trials.finished()}
    pruned = [record for record in done if record.outcome == "pruned"]
    assert pruned
    for record in pruned:
        judged = max(told[record.number].intermediate_values)
        assert record.value == told[record.number].intermediate_values[judged]
        assert record.message == f"pruned after {judged} of 12 epochs"


def test_the_command_of_a_study_is_one_that_a_shell_takes(tiny_protocol: str, store: Store) -> None:
    request = SweepRequest(
        load_protocol(tiny_protocol),
        ("cnn_ae",),
        native=True,
        protocol_reference="/a b/tiny.toml",
        storage="postgresql://me:secret@db/optuna",
    )
    (plan,) = plan_studies(request, store)
    words = shlex.split(command(plan))
    assert words[:4] == ["bench", "sweep", "--protocol", "/a b/tiny.toml"]
    assert "--native" in words
    assert "postgresql://me:***@db/optuna" in words
    assert "secret" not in command(plan)


def test_runs_of_a_default_recipe_that_won_say_so(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    record = execute(plan.defaults.specs[0], store, ignore_epochs)
    marked = best_of(record, 30, store)
    assert best_of(marked, 20, store) == marked
    row = row_of(marked)
    assert row.facts[BEST_OF] == 30
    assert read_record(store.records, record.run_key) == marked
    # The committed row was written before the study: it is the same run and says so from now on.
    before = row_of(record)
    merged = merge(ledger_of([before]), [row])
    assert (len(merged.reproduced), merged.renamed) == (1, 1)
    assert merged.ledger[0].facts[BEST_OF] == 30
    (cell,) = rank_table(merged.ledger, Significance(), {"mse": False}, ())
    assert "best of 30 trials" in cell.badges


def test_the_ledger_says_the_largest_budget_of_a_recipe(tiny_protocol: str, store: Store) -> None:
    plan = make_plan(tiny_protocol, store)
    settings = {**plan.known["default"], "lr": 2e-3}
    found = plan.with_recipe(settings, tuned(3), store)
    records = [execute(s, store, ignore_epochs) for s in found.specs if s.recipe == tuned(3)]
    assert len(records) == 2
    rows = [row_of(record) for record in records]
    again = dataclasses.replace(
        records[0], spec=dataclasses.replace(records[0].spec, recipe=tuned(30))
    )
    local = [row_of(again)]
    merged = merge(ledger_of(rows), local)
    assert merged.renamed == 2
    assert {row.recipe for row in merged.ledger} == {tuned(30)}
    assert merge(merged.ledger, rows).renamed == 0
