"""Models that are not bench's own: a class in a file or module that a person typed, or an entry
point `bench.models` of an installed package.

Nothing else is ever imported: a record, a card or a ledger names such a model and its digest, never
a place. The class declares what a row of MODELS says (`declared_row`). The digest covers the
module and every module of the same folder (of the same package) that it imports, directly or not.
"""

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bench.core.errors import BadInput, unknown_name
from bench.core.identity import digest, sha256_of_file
from bench.core.paths import given_path
from bench.core.plugins import imported, installed
from bench.models.rows import Variant, declared_row

if TYPE_CHECKING:
    from bench.models.base import ImageModel

_DIGITS = 6
_OWN = re.compile(rf"[a-z0-9_]+(\.[a-z0-9_]+)+-[0-9a-f]{{{_DIGITS}}}")


@dataclass(frozen=True)
class Origin:
    """Where a model's class is: `attribute` of the module that is `module` below the folder `root`.

    `name` is the variant's name, `digest` that of its code (16 hexadecimal digits), `files` the
    code itself, by path below `root`. `by_path`: the module is a file, imported under a name of its
    own. `said` is what a person typed, for messages.
    """

    name: str
    root: Path
    module: str
    attribute: str
    digest: str
    files: tuple[str, ...]
    by_path: bool
    said: str

    @property
    def what(self) -> str:
        """How messages name it."""
        return f"model {self.said}"


@dataclass(frozen=True)
class Code:
    """The code of a model in transit to a machine that lacks its files: their content by path."""

    origin: Origin
    content: Mapping[str, bytes]

    def written_to(self, folder: Path) -> Origin:
        """Write the files below a folder; returns where the model is then."""
        for name, content in self.content.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return replace(self.origin, root=folder)


_known: dict[str, Origin] = {}
_rows: dict[str, Variant] = {}
_imported: dict[str, Path] = {}
"""Modules that stand beside a typed file, by name, with that file's folder."""


def is_reference(text: str) -> bool:
    """Whether a text names a class (`file.py:Class`, `package.module:Class`), not a variant."""
    return ":" in text


def is_own_name(text: str) -> bool:
    """Whether a text has the form of an own model's name, as tables and records have it."""
    return _OWN.fullmatch(text) is not None


def named(text: str) -> str:
    """The name of a model: of a class that a person typed, which is imported, or as it is.

    Raises BadInput for a file or class that is missing, cannot be imported or is no model.
    """
    if not is_reference(text):
        return text
    origin = _typed(text)
    adopt(origin)
    row(origin.name)
    return origin.name


def adopt(origin: Origin) -> None:
    """In a worker: take where the head's model is. Its class is imported when it is first used."""
    if _known.get(origin.name) != origin:
        _rows.pop(origin.name, None)
    _known[origin.name] = origin


def origin_of(name: str) -> Origin | None:
    """Where a model that was typed in this process is; None for any other."""
    return _known.get(name)


def code_of(name: str) -> Code | None:
    """The code of a model that was typed in this process or is installed; None for any other.

    BadInput if it has changed since the command began.
    """
    origin = _known.get(name) or _of_package(name)
    if origin is None:
        return None
    content = {file: (origin.root / file).read_bytes() for file in origin.files}
    found = {file: hashlib.sha256(each).hexdigest() for file, each in content.items()}
    if digest(found) != origin.digest:
        raise _changed(origin)
    return Code(origin, content)


def row(name: str) -> Variant | None:
    """The row of a model that was typed or is installed; None for any other name.

    Raises BadInput if its class cannot be imported, is no model, or has changed meanwhile.
    """
    if name not in _rows:
        origin = _known.get(name) or _of_package(name)
        if origin is None:
            return None
        _rows[name] = declared_row(_class_of(origin), origin.what, origin.digest)
    return _rows[name]


def unknown(name: str, shipped: Mapping[str, Variant]) -> BadInput:
    """What to say of a model that is neither bench's own, nor typed, nor installed."""
    if _OWN.fullmatch(name):
        return BadInput(
            f"model {name} is your own, and its code is only imported where you name it; give it "
            "with: --model path/to/file.py:Class"
        )
    return unknown_name("model", name, [*shipped, *installed("bench.models")])


def _typed(text: str) -> Origin:
    place, _, attribute = text.rpartition(":")
    if not place or not all(part.isidentifier() for part in attribute.split(".")):
        raise BadInput(f"model {text[:80]}: expected path/to/file.py:Class or package.module:Class")
    if place.endswith(".py") or "/" in place or "\\" in place or place.startswith("~"):
        return _in_file(text, place, attribute)
    if not all(part.isidentifier() for part in place.split(".")):
        raise BadInput(f"model {text[:80]}: '{place[:60]}' is neither a .py file nor a module")
    root = _root_of(place, f"model {text}")
    return _origin(root, place, attribute, by_path=False, said=text)


def _in_file(text: str, place: str, attribute: str) -> Origin:
    path = given_path(place, "model").resolve()
    if not path.is_file() or path.suffix != ".py":
        what = "is no .py file" if path.exists() else "does not exist"
        raise BadInput(f"model {text[:200]}: {path} {what}; give path/to/file.py:Class")
    return _origin(path.parent, path.stem, attribute, by_path=True, said=f"{path}:{attribute}")


def _origin(root: Path, module: str, attribute: str, *, by_path: bool, said: str) -> Origin:
    what = f"model {said}"
    within = "" if by_path else module.partition(".")[0]
    files = tuple(sorted(_files(root, module, within, what)))
    code = digest({name: sha256_of_file(root / name) for name in files})
    words = [re.sub(r"[^a-z0-9_]+", "_", word.lower()) for word in (module, attribute)]
    words = [word.strip("_")[:24] or "model" for word in words]
    name = f"{'.'.join(words)}-{code[:_DIGITS]}"
    return Origin(name, root, module, attribute, code, files, by_path, said)


def _of_package(name: str) -> Origin | None:
    """Where the class of an entry point is; None if no package has one of this name."""
    plugin = installed("bench.models").get(name)
    if plugin is None:
        return None
    if plugin.problem:
        raise BadInput(plugin.problem)
    said = f"{name} of the installed package {plugin.origin}"
    root = _root_of(plugin.module, f"model {said}")
    top = plugin.module.partition(".")[0]
    files = tuple(sorted(_files(root, plugin.module, top, f"model {said}")))
    code = digest({file: sha256_of_file(root / file) for file in files})
    return Origin(name, root, plugin.module, plugin.attribute, code, files, False, said)


def _root_of(module: str, what: str) -> Path:
    """The folder that holds the top-level package (or module) of an importable module; the current
    folder is looked at last."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    top = module.partition(".")[0]
    found = imported(lambda: importlib.util.find_spec(top), what)
    if found is None:
        raise BadInput(f"{what}: there is no module {top}; install it, or give path/to/file.py")
    if found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations))).resolve().parent
    return Path(found.origin or ".").resolve().parent


def _files(root: Path, module: str, within: str, what: str) -> set[str]:
    """The files of a module and of what it imports from `root`, by path below it.

    `within`: only this top-level package. Imports inside of functions count as well; bench itself
    does not, whose version is recorded.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        for path in _paths(root, name):
            relative = path.relative_to(root).as_posix()
            if relative not in found:
                found.add(relative)
                waiting += _imports(path, name, what)
        tops = ((each, each.partition(".")[0]) for each in waiting)
        waiting = [each for each, top in tops if (top == within if within else top != "bench")]
    return found


def _paths(root: Path, module: str) -> Iterator[Path]:
    """The source files of a module and of the packages that it is in."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:end])
        if (package := place / "__init__.py").is_file():
            yield package
        elif end == len(parts) and (file := place.with_name(f"{place.name}.py")).is_file():
            yield file


def _imports(path: Path, module: str, what: str) -> Iterator[str]:
    """The absolute names of what a file imports; of `from a import b`, `a` and `a.b`."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error) or "nested too deep"
        raise BadInput(f"{what}: {path}{line} is no Python ({said}); repair it") from None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*filter(None, above), *([node.module] if node.module else [])])
            yield from filter(None, [base])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _class_of(origin: Origin) -> "type[ImageModel]":
    """The class, imported; BadInput if it is not there, no model, or not the code that was named
    first."""
    found = digest({file: _sha256(origin.root / file) for file in origin.files})
    if found != origin.digest:
        raise _changed(origin)
    module = imported(lambda: _module_of(origin), origin.what)
    value: Any = module
    for name in origin.attribute.split("."):
        value = getattr(value, name, None)
    if value is None:
        raise BadInput(f"{origin.what}: the file has no class {origin.attribute}")
    return value  # type: ignore[no-any-return]  # `declared_row` checks it


def _changed(origin: Origin) -> BadInput:
    return BadInput(f"{origin.what} has changed since the command began; run the command again")


def _sha256(path: Path) -> str:
    return sha256_of_file(path) if path.is_file() else ""


def _module_of(origin: Origin) -> ModuleType:
    if not origin.by_path:
        with _first_on_path(origin.root):
            module = importlib.import_module(origin.module)
        _check_imported(module, origin)
        return module
    file = origin.root / f"{origin.module}.py"
    where = hashlib.sha256(str(origin.root).encode()).hexdigest()[:8]
    name = f"bench_own_{re.sub(r'[^0-9A-Za-z_]', '_', origin.module)}_{origin.digest}_{where}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _make_way(origin)
    try:
        with _first_on_path(origin.root):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _first_on_path(root: Path) -> Iterator[None]:
    """Import from a folder as Python does for a script; it is looked at last from then on, so that
    no file in it can stand for a library."""
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        if str(root) not in sys.path:
            sys.path.append(str(root))


def _check_imported(module: ModuleType, origin: Origin) -> None:
    """Raise ImportError if Python has imported other code: of another copy of the package."""
    place = Path(module.__file__ or "").resolve()
    depth = origin.module.count(".") + (place.name == "__init__.py")
    root = place.parents[min(depth, len(place.parents) - 1)]
    if digest({file: _sha256(root / file) for file in origin.files}) != origin.digest:
        raise ImportError(f"{place} is other code than {origin.root / origin.files[0]}")


def _make_way(origin: Origin) -> None:
    """Let the file import its neighbours, where another file's had the same names."""
    own = {file.partition("/")[0].removesuffix(".py") for file in origin.files} - {origin.module}
    for name in own:
        there = sys.modules.get(name)
        if there is None:
            _imported[name] = origin.root
        elif name in _imported:
            for loaded in [key for key in sys.modules if key.partition(".")[0] == name]:
                del sys.modules[loaded]
            _imported[name] = origin.root
        else:
            raise ImportError(
                f"{name}.py beside it has the name of a library that is in use; rename it"
            )
    importlib.invalidate_caches()
