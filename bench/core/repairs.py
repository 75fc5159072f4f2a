"""What `bench doctor` finds and repairs: the words shared by the rooms that own the things.

A room offers functions of a `Care` that yield findings. They change something only if `care.fix`,
never what a running command holds, and they move damaged things to a quarantine: nothing that might
be wanted is deleted.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.core.store import Store, sync_folder

State = Literal["found", "repaired", "unsolved"]


@dataclass(frozen=True)
class Finding:
    """Something to repair: `what` it is, its `kind` in the plural, what happens to it (`deed`)."""

    kind: str
    what: str
    state: State
    deed: str

    def __str__(self) -> str:
        return f"{self.what}: {'to be ' if self.state == 'found' else ''}{self.deed}"


@dataclass(frozen=True)
class Care:
    """One visit of the doctor to a workspace: with `fix` it repairs, else it only looks."""

    store: Store
    fix: bool = False
    other_hosts: bool = False
    begun: str = field(default_factory=lambda: time.strftime("%Y%m%d-%H%M%S"))

    def settle(
        self, kind: str, what: str, deed: str, act: Callable[..., object], *given: object
    ) -> Finding:
        """Call `act(*given)`, if asked to; `deed` says it in the past, `act` may return words to
        add."""
        if not self.fix:
            return Finding(kind, what, "found", deed)
        more = act(*given)
        return Finding(kind, what, "repaired", f"{deed} {more}" if isinstance(more, str) else deed)

    def leave(self, kind: str, what: str, why: str) -> Finding:
        """Something that cannot be repaired here and now."""
        return Finding(kind, what, "unsolved", why)

    def each(
        self, items: Iterable[str], repair: Callable[["Care", str], Iterator[Finding]]
    ) -> Iterator[Finding]:
        """The findings for one item after the other; one that may not be read is such a finding."""
        for item in items:
            try:
                yield from repair(self, item)
            except PermissionError as error:
                yield self.unseen(error)

    def unseen(self, error: OSError) -> Finding:
        """A place that could not be looked at; `error` names it."""
        place = Path(str(error.filename))
        inside = place.is_relative_to(self.store.root)
        why = error.strerror or str(error)
        return self.leave("not looked at", self.name(place) if inside else str(place), why)

    def name(self, path: Path) -> str:
        """A path as it is shown: from the workspace on."""
        return str(path.relative_to(self.store.root))

    @property
    def quarantine(self) -> Path:
        """Where this visit puts what is damaged."""
        return self.store.mlruns / "quarantine" / self.begun

    def set_aside(self, *paths: Path) -> str:
        """Move files or folders of `mlruns/` to the quarantine; says where the first one is."""
        places = []
        for path in paths:
            place = self.quarantine / path.relative_to(self.store.mlruns)
            while place.exists():
                place = place.with_name(f"{place.name}.again")
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
            sync_folder(place.parent)
            sync_folder(path.parent)
            places.append(place)
        return f"to {self.name(places[0])}"


Repair = Callable[[Care], Iterator[Finding]]
