"""The house keeps its shape: imports point downwards and each library has one home."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bench"
FILES = sorted(PACKAGE.rglob("*.py"))

LIBRARIES = (
    *("typer", "rich", "mlflow", "torch", "torchvision", "skimage", "sklearn", "matplotlib"),
    *("seaborn", "pandas", "optuna", "sqlalchemy", "ray", "psutil", "pythae"),
)
"""Third-party libraries that have a home; numpy, pydantic and the like are everywhere."""
FORBIDDEN = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module or "", node.lineno
            if node.module == "bench":
                yield from ((f"bench.{alias.name}", node.lineno) for alias in node.names)


@dataclass(frozen=True)
class Row:
    """A row of the table of rooms in bench/README.md."""

    floor: int
    imports: set[str]
    libraries: set[str]


def _table() -> dict[str, Row]:
    lines = (PACKAGE / "README.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        row[1].strip("`"): Row(int(row[0]), set(row[3].split()), set(row[4].split()))
        for row in cells
        if len(row) == 5 and row[0].isdigit()
    }


TABLE = _table()
ENTRANCES = {"__init__", "__main__"}
"""The package's face and `python -m bench`: no rooms."""


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def test_the_table_names_every_room() -> None:
    assert len(FILES) > 100
    assert set(TABLE) == {_room(path) for path in FILES} - ENTRANCES
    assert len(TABLE) <= 20
    assert len({row.floor for row in TABLE.values()}) <= 12


@pytest.mark.parametrize("room", TABLE)
def test_imports_point_downwards(room: str) -> None:
    above = {other for other in TABLE[room].imports if TABLE[other].floor >= TABLE[room].floor}
    assert not above, f"{room} imports {above}"


@pytest.mark.parametrize("room", TABLE)
def test_the_table_says_what_a_room_imports(room: str) -> None:
    """Rooms and libraries, late imports and those for types included; no more and no less."""
    found = {name for path in FILES if _room(path) == room for name, _ in _imports(path)}
    rooms = {name.split(".")[1] for name in found if name.startswith("bench.")} & set(TABLE)
    assert rooms - {room} == TABLE[room].imports
    assert {name.split(".")[0] for name in found} & set(LIBRARIES) == TABLE[room].libraries


@every_file
def test_nothing_unpickles(path: Path) -> None:
    for module, line in _imports(path):
        assert module.split(".")[0] not in FORBIDDEN, f"{path}:{line}"


@every_file
def test_no_function_has_more_than_seven_parameters(path: Path) -> None:
    """Typer's commands aside: their options are their signature."""
    if _room(path) == "cli":
        return
    for function in _functions(path):
        given = function.args
        names = [item.arg for item in given.posonlyargs + given.args + given.kwonlyargs]
        own = names[:1] in (["self"], ["cls"])
        assert len(names) - own <= 7, f"{path}:{function.lineno} {function.name}"


@every_file
def test_only_the_command_prints(path: Path) -> None:
    if _room(path) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path}:{node.lineno}"


@every_file
def test_every_module_and_public_thing_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"
