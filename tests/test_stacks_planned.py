"""Which seeds of a plan train as one network, what is said of it, and how they are shared."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sweep_support import Scripted
from typer.testing import CliRunner

from bench.benchmark import forecast as forecasts
from bench.benchmark.forecast import Machine, known_forecast
from bench.benchmark.plan import Plan, Request, plan
from bench.benchmark.running import execute_plan
from bench.benchmark.sharing import SharedQueue
from bench.benchmark.stacks import LEAST_GAIN, chosen_stacks, may_stack
from bench.cli import app
from bench.core.protocol import load_protocol
from bench.core.spec import TOGETHER, RunSpec, Stack
from bench.core.store import Store
from bench.execution.places import Place, Workers
from bench.execution.runner import execute, ignore_epochs


@pytest.fixture
def long_protocol(tiny_protocol: str) -> str:
    """Epochs enough for a gain to count beside the start of workers."""
    path = Path(tiny_protocol)
    path.write_text(
        path.read_text()
        .replace("epochs = 3", "epochs = 3000")
        .replace('["mean_image", "pca", "fc_ae"]', '["pca", "fc_ae", "cnn_ae", "vae"]')
        .replace("seeds = [0, 1]", "seeds = [0, 1, 2]")
    )
    return str(path)


@pytest.fixture
def made(long_protocol: str, store: Store) -> Plan:
    return plan(Request(load_protocol(long_protocol)), store)


def _measured(made: Plan, store: Store, gain: float) -> None:
    """Speeds as if they had been measured: a stack is `gain` times as fast as one by one."""
    known = {}
    for spec in made.specs:
        signature = forecasts._signature(spec, made.sizes)
        known[signature] = (1e-4, 1e-5)
        known[signature + forecasts._TOGETHER] = (1e-4 * gain, 1e-4)
    store.costs.write_text(json.dumps(known))


def _cost(made: Plan, store: Store, workers: int) -> forecasts.Forecast:
    found = known_forecast(made.missing, made.sizes, store, workers)
    assert found is not None
    return found


def _models(stacks: Sequence[Stack]) -> list[tuple[str, int]]:
    return [(stack[0].model, len(stack)) for stack in stacks]


def test_only_dense_variants_with_several_seeds_may_stack(made: Plan) -> None:
    cells = may_stack(made.specs, made.sizes)
    assert [(cell[0].model, len(cell)) for cell in cells] == [("fc_ae", 3), ("vae", 3)]
    assert not may_stack([cell[0] for cell in cells], made.sizes)
    on_gpu = [dataclasses.replace(spec, device="cuda") for spec in made.specs]
    assert not may_stack(on_gpu, made.sizes)
    large = dataclasses.replace(made.sizes, image_shape=(3, 64, 64))
    assert not may_stack(made.specs, large), "a stack holds the weights of all of its members"
    odd = dataclasses.replace(made.sizes, image_shape=(1, 7, 9))
    assert not may_stack(made.specs, odd), "a sigmoid rounds the last of 63 pixels differently"


def test_one_worker_trains_every_cell_as_a_stack(
    made: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts, "available_cores", lambda: 1)
    _measured(made, store, 1.5)
    cost = _cost(made, store, 1)
    assert _models(cost.together) == [("fc_ae", 3), ("vae", 3)]
    _measured(made, store, 1.0)
    alone = _cost(made, store, 1)
    assert not alone.together
    saved = alone.total_seconds - cost.total_seconds
    trained = 6 * 3000 * made.sizes.train * 1e-4
    assert saved == pytest.approx(trained - trained / 1.5)


@pytest.mark.parametrize("gain", [LEAST_GAIN - 0.01, 0.8])
def test_a_stack_that_measured_slower_or_hardly_faster_is_not_used(
    made: Plan, store: Store, gain: float
) -> None:
    _measured(made, store, gain)
    cost = _cost(made, store, 1)
    assert not cost.together
    assert cost.stacks_in_words == ""


def test_a_stack_that_was_not_measured_is_not_used(made: Plan, store: Store) -> None:
    _measured(made, store, 1.5)
    known = json.loads(store.costs.read_text())
    kept = {key: speeds for key, speeds in known.items() if forecasts._TOGETHER not in key}
    store.costs.write_text(json.dumps(kept))
    assert not _cost(made, store, 1).together


def test_no_stack_leaves_a_worker_without_work(
    long_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seeds of one cell on three workers take a third of the time; a stack two thirds."""
    monkeypatch.setattr(forecasts, "available_cores", lambda: 8)
    made = plan(Request(load_protocol(long_protocol), ("fc_ae",)), store)
    _measured(made, store, 1.5)
    assert not _cost(made, store, 3).together
    more = plan(Request(load_protocol(long_protocol), ("fc_ae",), seeds=tuple(range(8))), store)
    assert _models(_cost(more, store, 2).together) == [("fc_ae", 4), ("fc_ae", 4)]


def test_a_stack_has_at_most_sixteen_seeds(long_protocol: str, store: Store) -> None:
    request = Request(load_protocol(long_protocol), ("fc_ae",), seeds=tuple(range(20)))
    specs = plan(request, store).specs
    machine = Machine(1)

    def seconds(stacks: Sequence[Stack]) -> float:
        return machine.seconds([20.0 - sum(map(len, stacks)) / 2], 1)

    found = chosen_stacks([specs], {spec.run_key: 2.0 for spec in specs}, 1, seconds)
    assert [len(stack) for stack in found] == [10, 10]
    assert {spec.seed for stack in found for spec in stack} == set(range(20))


def test_the_plan_says_what_trains_as_a_stack(
    made: Plan, long_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts, "available_cores", lambda: 1)
    _measured(made, store, 1.5)
    command = ["run", "-p", long_protocol, "--workers", "1", "--dry-run"]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.stderr
    line = next(line for line in said.stderr.splitlines() if "stacks" in line)
    assert line == (
        "6 runs train as 2 stacks of seeds (fc_ae, vae): measured here, 1.50 times as fast as one "
        "by one"
    )
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    keys = [[run["run_key"] for run in told["runs"] if run["model"] == m] for m in ("fc_ae", "vae")]
    assert told["together"] == keys
    _measured(made, store, 0.9)
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    assert "stack" not in again.stderr


class _Counting:
    """Workers that note what is submitted together."""

    def __init__(self, workers: Workers) -> None:
        self.given: list[int] = []
        pool = workers.pool()
        submit = pool.submit

        def noted(*specs: RunSpec) -> None:
            self.given.append(len(specs))
            submit(*specs)

        pool.submit = noted  # type: ignore[method-assign]


@pytest.fixture
def workers(store: Store) -> Iterator[Workers]:
    with Workers(1, store, Place()) as found:
        yield found


def test_a_plan_trains_what_it_said(
    tiny_protocol: str, store: Store, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    monkeypatch.setattr(forecasts, "available_cores", lambda: 1)
    made = plan(Request(load_protocol(tiny_protocol), seeds=(0, 1, 2)), store)
    _measured(made, store, 1e3)
    known = json.loads(store.costs.read_text())
    slow = {key: (1.0, 0.0) for key in known if forecasts._TOGETHER not in key}
    store.costs.write_text(json.dumps(known | slow))
    assert _models(_cost(made, store, 1).together) == [("fc_ae", 3)]
    counting = _Counting(workers)
    result = execute_plan(made, workers)
    assert sorted(counting.given) == [1, 1, 3]
    assert not result.failures
    trained = [r for r in result.records.values() if r.spec.model == "fc_ae"]
    assert [record.facts[TOGETHER] for record in trained] == [3.0, 3.0, 3.0]


class _Holding(Scripted):
    """An executor that keeps what it was given."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.given: list[Stack] = []

    def submit(self, *specs: RunSpec) -> None:
        self.given.append(specs)


def test_a_stack_is_shared_between_commands_run_by_run(tiny_protocol: str, store: Store) -> None:
    """What another command trains or has trained leaves the stack; the others stay together."""
    request = Request(load_protocol(tiny_protocol), ("fc_ae",), seeds=tuple(range(8)))
    specs = plan(request, store).specs
    first, second = _Holding(slots=1), _Holding(slots=1)
    record = execute(specs[2], store, ignore_epochs)
    with (
        SharedQueue(specs[:1], store, first) as one,
        SharedQueue(specs, store, second, [specs[:4], specs[4:6]]) as other,
    ):
        assert not list(one.hand_out())
        assert list(other.hand_out()) == [(specs[2], record)]
        assert second.given == [(specs[1], specs[3]), specs[4:6]], "two stacks for one slot"
        other.release(specs[1].run_key)
        assert not list(other.hand_out())
        assert len(second.given) == 2, "a stack ends with its last member"
        other.release(specs[3].run_key)
        list(other.hand_out())
        assert second.given[2:] == [(specs[6],)]
        one.release(specs[0].run_key)
        for spec in specs[4:7]:
            other.release(spec.run_key)
        list(other.hand_out())
        assert second.given[3:] == [(specs[7],), (specs[0],)]


def test_a_run_that_is_asked_for_twice_is_counted_once(made: Plan, store: Store) -> None:
    """The default of a search can be a run of the table as well."""
    _measured(made, store, 1.5)
    once = known_forecast(made.missing, made.sizes, store, 1)
    twice = known_forecast([*made.missing, *made.missing[:2]], made.sizes, store, 1)
    assert once is not None and twice is not None
    assert (twice.by_run, twice.together) == (once.by_run, once.together)
