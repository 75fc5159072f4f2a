"""Every error that a person can meet, each with the exit code of the command that meets it.

| code | meaning                                             | class          |
|------|-----------------------------------------------------|----------------|
| 0    | done                                                |                |
| 1    | our fault (any exception that is not a BenchError)  |                |
| 2    | bad input: the person can mend it                   | BadInput       |
| 3    | a check failed: a committed file or a score drifted | CheckFailed    |
| 4    | some cells failed; the others are recorded          | CellsFailed    |
| 130  | stopped by Ctrl-C; the same command goes on         | Stopped        |

A message is one line: what is wrong, where, what was expected, what to do.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar

_LISTED = 24
"""How many names a line can list and still be read."""


class BenchError(Exception):
    """Base of the errors that end a command with one clear line and no traceback."""

    exit_code: ClassVar[int] = 1


class BadInput(BenchError):
    """What the person gave (an option, a file, a folder, a store) cannot be used."""

    exit_code: ClassVar[int] = 2


class CheckFailed(BenchError):
    """A committed or recorded number no longer agrees with what is recomputed."""

    exit_code: ClassVar[int] = 3


class CellsFailed(BenchError):
    """Some runs of a plan failed; everything that finished is on disk."""

    exit_code: ClassVar[int] = 4


class Stopped(BenchError):
    """Ctrl-C or SIGTERM came; finished runs are on disk and the command can be repeated."""

    exit_code: ClassVar[int] = 130


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> BadInput:
    """Say that `name` is no known `kind`, with the nearest names, or all, as the way out."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {listed}"
    place = f" in {where}" if where else ""
    return BadInput(f"unknown {kind} '{name}'{place}; {hint}")
