"""What installed packages add: entry points of the groups `bench.models`, `bench.datasets` and
`bench.metrics`.

A name is qualified by its package: the entry point `my_ae` of the package `my-package` is
`my_package.my_ae`. Names come from the packages' metadata; an object is imported when it is first
used. One that cannot be imported or used is named in one line, and costs nothing else.
"""

import functools
import importlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Literal

from bench.core.errors import BadInput
from bench.core.identity import NAME_RULE, is_name

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
        found = imported(lambda: importlib.import_module(self.module), self._what)
        for name in self.attribute.split("."):
            try:
                found = getattr(found, name)
            except AttributeError:
                raise BadInput(f"{self._what}: {self.module} has no {self.attribute}") from None
        return found

    @property
    def _what(self) -> str:
        return f"{GROUPS[self.group]} {self.name} of the installed package {self.origin}"


def imported(load: Callable[[], Any], what: str) -> Any:
    """What `load` imports; BadInput beginning with `what` for anything that foreign code raises,
    SystemExit too."""
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = " ".join(str(error).split())[:300]
        reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise BadInput(f"{what} cannot be imported ({reason}); repair it") from None


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
