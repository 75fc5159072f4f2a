"""Commands in processes of their own on one store train every run once, whatever ends them."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sweep_support import Scripted

from bench.benchmark.plan import Request, plan
from bench.benchmark.sharing import SharedQueue
from bench.core.protocol import load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.records.files import iter_records

ROOT = Path(__file__).parent.parent
SEEDS = tuple(range(6))
WORK = """
import json, sys, time
from pathlib import Path
from bench.benchmark.plan import Request, plan
from bench.benchmark.sharing import SharedQueue
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs


class InThisProcess:
    slots = 1

    def __init__(self):
        self.given = []

    def submit(self, spec):
        self.given.append(spec)


protocol, home, seconds = sys.argv[1:]
store = Store(Path(home))
specs = plan(Request(load_protocol(protocol), ("fc_ae",), seeds=tuple(range(6))), store).missing
executor, trained, taken = InThisProcess(), [], []
print("ready", flush=True)
sys.stdin.readline()
with SharedQueue(specs, store, executor) as queue:
    while len(trained) + len(taken) < len(specs):
        taken += [spec.run_key for spec, _ in queue.hand_out()]
        if not executor.given:
            time.sleep(0.02)
            continue
        spec = executor.given.pop(0)
        print("begins", flush=True)
        time.sleep(float(seconds))
        execute(spec, store, ignore_epochs)
        trained.append(spec.run_key)
        queue.release(spec.run_key)
print(json.dumps({"trained": trained, "taken": taken}), flush=True)
"""


class Holding(Scripted):
    """An executor that keeps what it was given."""

    def __init__(self, slots: int = 2) -> None:
        super().__init__(slots)
        self.given: list[RunSpec] = []

    def submit(self, spec: RunSpec) -> None:
        self.given.append(spec)


@pytest.fixture
def specs(tiny_protocol: str, store: Store) -> list[RunSpec]:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 1"))
    request = Request(load_protocol(tiny_protocol), ("fc_ae",), seeds=SEEDS)
    return list(plan(request, store).specs)


def _start(protocol: str, store: Store, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORK, protocol, str(store.root), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def _says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_an_executor_is_given_no_more_than_it_has_room_for(
    store: Store, specs: list[RunSpec]
) -> None:
    """What one command does not train soon is left to the others."""
    mine = Holding(slots=1)
    with SharedQueue(specs, store, mine) as queue:
        for _ in range(3):
            assert not list(queue.hand_out())
        assert mine.given == specs[:2]
        queue.release(specs[0].run_key)
        assert not list(queue.hand_out())
        assert mine.given == specs[:3]


def test_a_record_is_taken_and_its_lock_given_back(store: Store, specs: list[RunSpec]) -> None:
    record = execute(specs[0], store, ignore_epochs)
    mine, other = Holding(), Holding()
    with SharedQueue(specs[:1], store, mine) as queue:
        assert list(queue.hand_out()) == [(specs[0], record)]
        assert not list(queue.hand_out()), "it is told once"
        with SharedQueue(specs[:1], store, other) as beside:
            assert list(beside.hand_out()) == [(specs[0], record)]
    assert not mine.given + other.given


def test_a_record_of_another_evaluation_is_no_answer(store: Store, specs: list[RunSpec]) -> None:
    execute(specs[0], store, ignore_epochs)
    evaluation = dataclasses.replace(specs[0].evaluation, metrics=("mse", "mae"))
    spec = dataclasses.replace(
        specs[0], evaluation=evaluation, metric_revisions={"mse": 1, "mae": 1}
    )
    assert spec.run_key == specs[0].run_key
    mine = Holding()
    with SharedQueue([spec], store, mine) as queue:
        assert not list(queue.hand_out())
    assert mine.given == [spec]


def test_two_processes_never_train_one_run_twice(
    tiny_protocol: str, store: Store, specs: list[RunSpec]
) -> None:
    processes = [_start(tiny_protocol, store, 0.1) for _ in range(2)]
    try:
        assert [_says(process) for process in processes] == ["ready", "ready"]
        for process in processes:
            _go(process)
        said = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0]
    answers = [json.loads(text.splitlines()[-1]) for text in said]
    keys = {spec.run_key for spec in specs}
    assert Counter(key for answer in answers for key in answer["trained"]) == Counter(keys)
    for answer in answers:
        assert set(answer["trained"]) | set(answer["taken"]) == keys, "each has every record"
    assert {record.run_key for record in iter_records(store.records)} == keys
    assert not list((store.mlruns / "locks").glob("*.lock"))


def test_runs_of_a_killed_command_are_free(
    tiny_protocol: str, store: Store, specs: list[RunSpec]
) -> None:
    """It holds as many as its executor is given ahead; they are another one's once it is dead."""
    process = _start(tiny_protocol, store, 1000)
    mine = Holding()
    try:
        assert _says(process) == "ready"
        _go(process)
        assert _says(process) == "begins"
        with SharedQueue(specs, store, mine) as queue:
            assert not list(queue.hand_out())
            assert mine.given == specs[2:], "the first two are the other's"
    finally:
        process.kill()
        process.communicate()
    assert len(list((store.mlruns / "locks").glob("*.lock"))) == 2, "it could not remove them"
    mine.given.clear()
    with SharedQueue(specs, store, mine) as queue:
        assert not list(queue.hand_out())
        assert mine.given == specs[:4]
