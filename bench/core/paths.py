"""Paths that a person gave."""

import errno
import os
from pathlib import Path

from bench.core.errors import BadInput

_LONGEST_NAME, _LONGEST_PATH = 255, 4095
"""Bytes; the limits of Linux, and no smaller than those of other systems' usual file systems."""


def given_path(text: str, what: str) -> Path:
    """The path that `text` names, with `~` expanded; it need not exist.

    Raises BadInput beginning with `what` for text that cannot name a file: an unknown home folder
    (`~nobody/x`), a NUL character, a name longer than the file system allows, a loop of links.
    """
    if "\0" in text:
        raise BadInput(f"{what}: {text[:80]!r} holds a NUL character, which no path can; remove it")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise BadInput(
            f"{what}: '{text[:80]}' begins with a home folder that is unknown here; write the "
            "path without ~"
        ) from None
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        raise BadInput(f"{what}: {text[:80]!r} is not text that a path can hold") from None
    if len(name) > _LONGEST_PATH or max(map(len, name.split(os.fsencode(os.sep)))) > _LONGEST_NAME:
        raise BadInput(
            f"{what}: '{text[:80]}...' is too long for a path; expected at most {_LONGEST_NAME} "
            f"bytes in each name and {_LONGEST_PATH} in all"
        )
    try:
        path.resolve(strict=True)
    except RuntimeError:  # how Python 3.11 and 3.12 report a loop
        raise _loop(what, text) from None
    except OSError as error:  # a path that is missing or closed to us is the caller's matter
        if error.errno == errno.ELOOP:
            raise _loop(what, text) from None
    return path


def _loop(what: str, text: str) -> BadInput:
    return BadInput(f"{what}: '{text[:80]}' is a loop of links; give another path")
