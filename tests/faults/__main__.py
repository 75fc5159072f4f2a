"""The command: makes the workspaces, does the tries, prints the table."""

import argparse
import functools
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from . import blocked, fails, files, forked, kills, names, races
from .ground import FAULTS, Found, Try, perform
from .workspaces import Templates, make_templates

_EVERY = 30.0
"""Seconds between two lines of progress."""
CAMPAIGNS = ("kills", "calls", "blocked", "files", "flips", "names", "races")


def main() -> int:
    options = _options()
    began = time.monotonic()
    forked.warm_up()
    with tempfile.TemporaryDirectory(prefix="bench-faults-", dir=_place()) as name:
        place = Path(name)
        templates = make_templates(options.workspaces or place)
        tries = _tries(templates, options)
        if not tries:
            sys.exit(f"--only {options.only}: no try has this name")
        print(f"{len(tries)} tries; prepared in {time.monotonic() - began:.0f} s", file=sys.stderr)
        deadline = began + 60 * options.minutes
        hear = _progress(len(tries))
        found = perform(_spread(tries), options.seed, place, options.jobs, deadline, hear)
    _print(found, options.seed, time.monotonic() - began)
    if left := len(tries) - len(found):
        print(
            f"{len(found):,} of {len(tries):,} tries; {left:,} were left out when the time was up"
        )
    return int(any(one.faults for one in found))


def _progress(total: int) -> Callable[[int], None]:
    """Says every half minute how many tries were done, and when the others will be."""
    began = said = time.monotonic()

    def hear(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > _EVERY:
            said = now
            left = (now - began) / done * (total - done) / 60
            print(f"{done} of {total} tries; about {left:.0f} min left", file=sys.stderr)

    return hear


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a sample, in about a minute")
    parser.add_argument("--only", default="", help="campaigns or tries: kills, kills/run/3")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so many minutes")
    parser.add_argument("--jobs", type=int, default=2, help="tries at once")
    parser.add_argument(
        "--workspaces", type=Path, help="make the workspaces there, or use those that are there"
    )
    options = parser.parse_args()
    for wanted in options.only.split(","):
        if wanted.partition("/")[0] not in ("", *CAMPAIGNS):
            sys.exit(f"--only {wanted}: expected one of {', '.join(CAMPAIGNS)}")
    return options


def _place() -> str | None:
    """In memory, where there is room: the tries force thousands of files to the disk."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 4e9 else None


def _tries(templates: Templates, options: argparse.Namespace) -> list[Try]:
    short, only = options.short, options.only.split(",")
    material = functools.cache(lambda: files.make_material(templates, short=options.short))
    made: dict[str, Callable[[], Iterable[Try]]] = {
        "kills": lambda: kills.tries(templates, 1, 3) if short else kills.tries(templates, 12),
        "calls": lambda: fails.tries(templates, options.seed, *((1, 2) if short else ())),
        "blocked": lambda: blocked.tries(templates, 12 if short else 1),
        "files": lambda: files.mutations(material(), 24 if short else 10_000),
        "flips": lambda: files.flips(material(), 30 if short else 1_000),
        "names": lambda: names.tries(material(), *((1, 10, 3) if short else (500, 500))),
        "races": lambda: races.tries(templates, 1, 20) if short else races.tries(templates, 20),
    }
    chosen = {wanted.partition("/")[0] for wanted in only}
    found = [one for name in CAMPAIGNS if chosen & {"", name} for one in made[name]()]
    starts = tuple(f"{wanted.rstrip('/')}/".lstrip("/") for wanted in only)
    return [one for one in found if f"{one.name}/".startswith(starts)]


def _spread(tries: Sequence[Try]) -> list[Try]:
    """The campaigns side by side, so that a run that is cut short has done a part of each."""
    groups: dict[str, list[Try]] = {}
    for one in tries:
        groups.setdefault(one.campaign, []).append(one)
    placed = [
        ((place + 0.5) / len(group), one)
        for group in groups.values()
        for place, one in enumerate(group)
    ]
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


def _print(found: Sequence[Found], seed: int, seconds: float) -> None:
    rows = [("fault", "tries", *FAULTS)]
    groups: dict[str, list[Found]] = {}
    for one in sorted(found, key=lambda one: one.name):
        campaign, what, _ = one.name.split("/")
        groups.setdefault("names" if campaign == "names" else f"{campaign} {what}", []).append(one)
    rows += [_row(name, group) for name, group in groups.items()]
    rows.append(_row("all", found))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *rest = (
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join((first, *rest)))
    for one in found:
        for kind, text in dict(reversed(one.faults)).items():
            print(f"\n{kind}: {one.name}: {text}")
            print(f"  again: python -m tests.faults --seed {seed} --only '{one.name}'")
    print(f"\nseed {seed}, {seconds:.0f} s")


def _row(name: str, found: Sequence[Found]) -> tuple[str, ...]:
    counts = [sum(kind == fault for one in found for kind, _ in one.faults) for fault in FAULTS]
    return (name, f"{sum(one.tries for one in found):,}", *map(str, counts))


if __name__ == "__main__":
    sys.exit(main())
