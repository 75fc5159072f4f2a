"""All errors shown to the user, each with its exit code.

| code | meaning                                             | class          |
|------|-----------------------------------------------------|----------------|
| 0    | done                                                |                |
| 1    | bug in bench: one line, and a log in mlruns/logs     |                |
| 2    | bad input: the user can fix it                      | BadInput       |
| 3    | a check failed: a committed file or a score drifted | CheckFailed    |
| 4    | some runs failed; the others are recorded           | CellsFailed    |
| 130  | stopped by Ctrl-C; the same command resumes         | Stopped        |

A message is one line: what is wrong, where, what was expected, what to do.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar

_LISTED = 24
"""The most names to list in one message."""


class BenchError(Exception):
    """Base of the errors that end a command with a one-line message and no traceback."""

    exit_code: ClassVar[int] = 1


class BadInput(BenchError):
    """Something the user gave (an option, a file, a folder, a store) cannot be used."""

    exit_code: ClassVar[int] = 2


class CheckFailed(BenchError):
    """A committed or recorded number differs from the recomputed one."""

    exit_code: ClassVar[int] = 3


class CellsFailed(BenchError):
    """Some runs of a plan failed; all finished runs are on disk."""

    exit_code: ClassVar[int] = 4


class Stopped(BenchError):
    """Stopped by Ctrl-C or SIGTERM; finished runs are on disk and the command can be repeated."""

    exit_code: ClassVar[int] = 130


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> BadInput:
    """BadInput for an unknown `name` of a `kind`, suggesting the nearest known names, or all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {listed}"
    if not names:
        hint = "there are none yet"
    place = f" in {where}" if where else ""
    return BadInput(f"unknown {kind} '{name}'{place}; {hint}")
