"""The house keeps its shape: imports point downwards and each library has one home."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bench"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import rooms of lower floors, and its own.
FLOORS: dict[str, int] = {
    "core": 0,
    "records": 1,
    "data": 1,
    "models": 1,
    "metrics": 1,
    "evaluation": 2,
    "figures": 2,
    "leaderboard": 2,
    "training": 3,
    "tracking": 3,
    "execution": 4,
    "registry": 5,
    "benchmark": 6,
    "sweep": 7,
    "speed": 8,
    "cli": 9,
    "__main__": 10,
    "__init__": 0,
}
HOMES: dict[str, set[str]] = {
    "typer": {"cli"},
    "rich": {"cli"},
    "mlflow": {"tracking"},
    "torchvision": {"data", "speed"},
    "sklearn": {"metrics"},
    "skimage": {"metrics", "speed"},
    "matplotlib": {"figures", "tracking", "registry"},
    "seaborn": {"figures"},
    "pandas": {"leaderboard", "registry"},
    "optuna": {"sweep"},
    "ray": {"execution"},
    "psutil": {"core", "data", "benchmark"},
}
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


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def test_there_are_files() -> None:
    assert len(FILES) > 30
    assert not {_room(path) for path in FILES} - set(FLOORS), "give the new room a floor"


@every_file
def test_imports_point_downwards(path: Path) -> None:
    room = _room(path)
    for module, line in _imports(path):
        if module.startswith("bench."):
            other = module.split(".")[1]
            if other != room and other in FLOORS:
                assert FLOORS[other] < FLOORS[room], f"{path}:{line}: {room} imports {other}"


@every_file
def test_each_library_has_one_home(path: Path) -> None:
    for module, line in _imports(path):
        library = module.split(".", maxsplit=1)[0]
        assert library not in FORBIDDEN, f"{path}:{line}: nothing of ours unpickles"
        if library in HOMES:
            assert _room(path) in HOMES[library], f"{path}:{line}: {library} lives elsewhere"


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
