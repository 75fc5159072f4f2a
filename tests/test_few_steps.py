"""A row whose training was too short says "few steps", and commands say what to give."""

import dataclasses
from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.protocol import load_protocol
from bench.core.recipes import FEW_STEPS
from bench.core.spec import EpochValues, RunRecord
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.ledger import decode_ledger, encode_ledger, ledger_of, row_of
from bench.leaderboard.steps import advice, few_steps


@pytest.fixture
def trained(tiny_protocol: str, store: Store) -> RunRecord:
    """fc_ae, 45 steps by one_cycle."""
    (spec,) = plan(Request(load_protocol(tiny_protocol), ("fc_ae",), seeds=(0,)), store).specs
    return execute(spec, store, ignore_epochs)


def _with(
    record: RunRecord, errors: Sequence[float], steps: int, schedule: str, key: str = "val/mse"
) -> RunRecord:
    """The record with another history, of so many steps in all."""
    history = tuple(
        EpochValues(epoch, steps * epoch // len(errors), 0, {"train/loss": 1.0, key: error})
        for epoch, error in enumerate(errors, start=1)
    )
    train = dataclasses.replace(record.spec.train, schedule=schedule)
    spec = dataclasses.replace(record.spec, train=train)
    return dataclasses.replace(record, spec=spec, history=history)


LEVEL = [1.0, 0.5, *[0.2] * 18]
FALLING = [*LEVEL[:18], 0.19, 0.1959]


@pytest.mark.parametrize(
    ("errors", "steps", "schedule", "is_short"),
    [
        (LEVEL, 499, "one_cycle", True),
        (LEVEL, 500, "one_cycle", False),
        (LEVEL, 500, "constant", False),
        (FALLING, 2000, "constant", True),
        (FALLING, 2000, "one_cycle", False),
        ([*LEVEL[:18], 0.1961, 0.3], 2000, "constant", False),
        ([*LEVEL[:16], 0.1, 0.1, 0.1, 0.1], 2000, "constant", False),
        ([1.0, 0.9], 2000, "constant", True),
        ([1.0], 2000, "constant", False),
    ],
)
@pytest.mark.parametrize("key", ["val/mse", "val/cross_entropy"])
def test_a_training_is_short_by_its_steps_or_by_its_last_tenth_at_a_constant_rate(
    trained: RunRecord, errors: list[float], steps: int, schedule: str, is_short: bool, key: str
) -> None:
    found = few_steps(_with(trained, errors, steps, schedule, key))
    assert found == ({FEW_STEPS: float(steps)} if is_short else {})


def test_solved_diverged_and_published_runs_are_not_judged(trained: RunRecord) -> None:
    assert few_steps(trained) == {FEW_STEPS: 45.0}
    assert not few_steps(dataclasses.replace(trained, history=()))
    assert not few_steps(dataclasses.replace(trained, status="diverged"))
    unranked = dataclasses.replace(trained.spec, ranked=False)
    assert not few_steps(dataclasses.replace(trained, spec=unranked))


def test_the_ledger_keeps_the_steps_of_short_trainings_and_is_as_before_without_any(
    trained: RunRecord,
) -> None:
    row = row_of(trained)
    content = encode_ledger(ledger_of([row]))
    assert decode_ledger(content, "here") == (row,) and row.facts[FEW_STEPS] == 45
    enough = row_of(_with(trained, LEVEL, 2000, "one_cycle"))
    assert FEW_STEPS.encode() not in encode_ledger(ledger_of([enough]))


def test_a_short_training_is_said_when_it_is_planned_run_and_shown(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    command = ["run", "-p", tiny_protocol, "--model", "fc_ae", "--seed", "0", "--workers", "1"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    assert "45 steps a run are few to compare networks by; train longer: --protocol own" in (
        ran.stderr
    )
    assert "1 row has few steps (the fewest: 45); train longer: --protocol own" in ran.stderr
    table = CliRunner().invoke(app, ["leaderboard", "-p", tiny_protocol, "--wide"])
    (row,) = (line for line in table.stdout.splitlines() if " fc_ae " in line)
    assert "few steps" in row and "train longer" in table.stderr
    (line,) = (line for line in table.stdout.splitlines() if " pca " in line)
    assert "few steps" not in line


def test_own_has_enough_steps_for_few_images(tiny_protocol: str, store: Store) -> None:
    made = plan(Request(load_protocol("own"), dataset="mnist_mini"), store)
    assert not any("steps" in note for note in made.notes)
    assert advice([float("nan"), 0.0]) == []
