"""Tasks: every room knows every task, a task is added by entries alone, nothing else decides."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.benchmark.plan import Request, plan
from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.core.tasks import TASKS
from bench.evaluation.scoring import SCORED
from bench.execution.runner import execute, ignore_epochs
from bench.figures.style import SIZES, describe
from bench.leaderboard.ledger import CODE_SIZES
from bench.models.rows import OUTPUTS
from bench.models.zoo import MODELS
from bench.records.files import read_record
from bench.registry.card_text import TEXTS
from bench.registry.frames import table
from bench.tracking.models import ANSWERS

BENCH = Path(__file__).parent.parent / "bench"
TABLES: dict[str, Any] = {
    "models/rows.py": OUTPUTS,
    "evaluation/scoring.py": SCORED,
    "figures/style.py": SIZES,
    "leaderboard/ledger.py": CODE_SIZES,
    "tracking/models.py": ANSWERS,
    "registry/card_text.py": TEXTS,
}
"""The tables by task, and the modules that hold them."""


@pytest.mark.parametrize("module", TABLES)
def test_every_task_is_in_every_table(module: str) -> None:
    assert list(TABLES[module]) == list(TASKS)


def test_every_task_is_complete() -> None:
    for name, task in TASKS.items():
        assert name == task.id
        assert any(name in row.tasks for row in MODELS.values())
        assert not task.reference or name in MODELS[task.reference].tasks


@pytest.fixture
def another_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A second task for autoencoders: one entry in TASKS and one in each table."""
    entry = dataclasses.replace(TASKS["reconstruction"], id="representation")
    monkeypatch.setitem(TASKS, entry.id, entry)  # type: ignore[arg-type]
    for each in TABLES.values():
        monkeypatch.setitem(each, entry.id, each["reconstruction"])
    yield entry.id


def test_a_task_is_added_by_entries_alone(
    another_task: str, tiny_protocol: str, store: Store
) -> None:
    path = Path(tiny_protocol)
    path.write_text(f'task = "{another_task}"\n{path.read_text()}')
    protocol = load_protocol(str(path))
    assert MODELS["pca"].tasks == ("reconstruction", another_task)
    laid_out = plan(Request(protocol, ("pca", "fc_ae"), (4,), seeds=(0,)), store)
    for spec in laid_out.specs:
        record = execute(spec, store, ignore_epochs)
        assert read_record(store.records, spec.run_key) == record
        assert record.spec.task == another_task and str(record.track) == "d4"
        assert "code size 4" in describe(record)
    rows = table(str(path)).set_index("model")
    assert set(rows.index) == {"pca", "fc_ae"}
    assert rows["margin"].notna().all()


def test_a_task_that_nobody_knows_is_refused(another_task: str, tiny_protocol: str) -> None:
    path = Path(tiny_protocol)
    path.write_text(f'task = "regression"\n{path.read_text()}')
    with pytest.raises(BadInput, match=r"task: input should be 'reconstruction' or .*'represent"):
        load_protocol(str(path))


def test_a_variant_of_another_kind_is_refused(tiny_protocol: str, store: Store) -> None:
    request = Request(load_protocol(tiny_protocol), ("cnn_classifier",), (4,))
    with pytest.raises(BadInput, match=r"cnn_classifier is for classification, .* reconstruction"):
        plan(request, store)


def _decisions(tree: ast.AST) -> Iterator[int]:
    """Lines that compare or match a text that is the id of a task; negative: a table by task."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq() | ast.In() | ast.NotIn(), *_]):
                sides = [left, *node.comparators]
                found = {
                    inner.value
                    for side in sides
                    for inner in ast.walk(side)
                    if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                }
                if found & set(TASKS):
                    yield node.lineno
            case ast.MatchValue(value=ast.Constant(value=str() as text)) if text in TASKS:
                yield node.lineno
            case ast.Dict(keys=keys):
                texts = {key.value for key in keys if isinstance(key, ast.Constant)}
                if set(TASKS) <= texts:
                    yield -node.lineno


def test_the_search_finds_decisions() -> None:
    text = 'if spec.task != "reconstruction": pass\nx = {"reconstruction": 1, "classification": 2}'
    assert set(_decisions(ast.parse(text))) == {1, -2}


def test_nothing_else_decides_by_task() -> None:
    tables = []
    for path in sorted(BENCH.rglob("*.py")):
        for line in _decisions(ast.parse(path.read_text())):
            where = path.relative_to(BENCH).as_posix()
            assert line < 0, f"{where}:{line} decides by the id of a task; use a table"
            tables.append(where)
    assert sorted(tables) == sorted(TABLES)
