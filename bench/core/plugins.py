"""What installed packages add: entry points of the groups `bench.models`, `bench.datasets` and
`bench.metrics`.

A name is qualified by its package: the entry point `my_ae` of the package `my-package` is
`my_package.my_ae`. Names come from the packages' metadata; an object is imported when it is first
used. One that cannot be imported or used is named in one line, and costs nothing else.
"""

import contextlib
import dataclasses
import functools
import importlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from bench.core.errors import BadInput, unknown_name
from bench.core.identity import NAME_RULE, is_name

Row = TypeVar("Row")
Group = Literal["bench.models", "bench.datasets", "bench.metrics"]
GROUPS: Mapping[Group, str] = MappingProxyType(
    {"bench.models": "model", "bench.datasets": "data set", "bench.metrics": "metric"}
)
"""The groups, with what their objects are."""


@dataclass(frozen=True)
class Plugin:
    """An entry point: `module:attribute` of the package that names it. `problem`: why its name
    cannot be used, or empty."""

    name: str
    group: Group
    module: str
    attribute: str
    package: str
    version: str
    problem: str = ""

    @property
    def origin(self) -> str:
        """The package with its version."""
        return f"{self.package} {self.version}".strip()

    def load(self) -> Any:
        """The object itself; BadInput, in one line, if it cannot be imported."""
        if self.problem:
            raise BadInput(self.problem)
        found = imported(lambda: importlib.import_module(self.module), self.what)
        for name in self.attribute.split("."):
            try:
                found = getattr(found, name)
            except AttributeError:
                raise BadInput(f"{self.what}: {self.module} has no {self.attribute}") from None
        return found

    @property
    def what(self) -> str:
        """How messages name it."""
        return f"{GROUPS[self.group]} {self.name} of the installed package {self.origin}"


def imported(load: Callable[[], Any], what: str) -> Any:
    """What `load` imports; BadInput beginning with `what` for anything that foreign code raises,
    SystemExit too. What it prints goes to stderr: stdout is the command's own."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = " ".join(str(error).split())[:300]
        reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise BadInput(f"{what} cannot be imported ({reason}); repair it") from None


class Table(Mapping[str, Row]):
    """The rows of bench by id, and those of installed packages by their qualified name.

    Iterating names every row and imports nothing. Looking for one of a package imports it; a row
    that cannot be used is not in the table, and `missing` says why.
    """

    def __init__(self, shipped: Mapping[str, Row], group: Group, kind: type[Row]) -> None:
        self.shipped = shipped
        self._group, self._kind = group, kind
        self._loaded: dict[str, Row | BadInput] = {}

    def __getitem__(self, name: str) -> Row:
        if name in self.shipped:
            return self.shipped[name]
        found = self._of_package(name)
        if found is None or isinstance(found, BadInput):
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self.shipped
        yield from installed(self._group)

    def __len__(self) -> int:
        return len(self.shipped) + len(installed(self._group))

    def usable(self) -> list[Row]:
        """Every row that can be used; imports those of packages."""
        return [self[name] for name in self if name in self]

    def problems(self) -> list[str]:
        """One line for each row of a package that cannot be used; imports all of them."""
        found = map(self._of_package, installed(self._group))
        return [str(each) for each in found if isinstance(each, BadInput)]

    def missing(self, name: str, *others: str) -> BadInput:
        """Why a name is not in the table: a package's row is broken, or there is none. `others`:
        what else could have been given."""
        found = self._of_package(name)
        if isinstance(found, BadInput):
            return found
        return unknown_name(GROUPS[self._group], name, (*self, *others))

    def _of_package(self, name: str) -> Row | BadInput | None:
        plugin = installed(self._group).get(name)
        if plugin is None:
            return None
        if name not in self._loaded:
            try:
                self._loaded[name] = self._row(plugin)
            except BadInput as error:
                self._loaded[name] = error
        return self._loaded[name]

    def _row(self, plugin: Plugin) -> Row:
        found = plugin.load()
        if not isinstance(found, self._kind):
            raise BadInput(
                f"{plugin.what} must be a {self._kind.__name__}, it is a {type(found).__name__}"
            )
        row: Row = dataclasses.replace(found, id=plugin.name)  # type: ignore[type-var]
        return row


@functools.cache
def installed(group: Group) -> Mapping[str, Plugin]:
    """The entry points of a group, by qualified name, in alphabetical order; imports nothing."""
    given = [_plugin(point, group) for point in _points(group)]
    times = Counter(plugin.name for plugin in given)
    found = {plugin.name: _checked(plugin, times[plugin.name]) for plugin in given}
    return MappingProxyType(dict(sorted(found.items())))


def _points(group: Group) -> list[EntryPoint]:
    """Each entry point once: a package may be found at two places of the path."""
    return list(dict.fromkeys(entry_points(group=group)))


def _plugin(point: EntryPoint, group: Group) -> Plugin:
    package = "" if point.dist is None else point.dist.name
    version = "" if point.dist is None else point.dist.version
    qualified = f"{re.sub(r'[-_.]+', '_', package).lower()}.{point.name}"
    return Plugin(qualified, group, point.module, point.attr, package, version)


def _checked(plugin: Plugin, times: int) -> Plugin:
    what = f"{GROUPS[plugin.group]} {plugin.name[:80]!r} of the installed package {plugin.origin}"
    problem = ""
    if not is_name(plugin.name):
        problem = f"{what} has a name that cannot be used; expected {NAME_RULE}"
    elif times > 1:
        problem = f"{what} is there {times} times: the name exists already; give each its own"
    elif not plugin.attribute:
        problem = f"{what} names no object; expected module:object, got {plugin.module}"
    return Plugin(**{**vars(plugin), "problem": problem})
