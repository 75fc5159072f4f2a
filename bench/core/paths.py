"""Paths that a person gave, and files that must be files."""

import errno
import os
import stat
from pathlib import Path

from bench.core.errors import BadInput, CheckFailed

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


def regular(path: Path, cure: str = "move it away") -> Path:
    """The path, which is that of a file, of a link to one, or of nothing.

    Raises CheckFailed, with the cure, for a folder, a loop of links, a pipe, a device or a socket,
    whose reading fails, waits or never ends.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    except NotADirectoryError:
        raise CheckFailed(f"{path.parent} is no folder; {cure}") from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise CheckFailed(f"{path} is a loop of links, expected a file; {cure}") from None
    if stat.S_ISREG(mode):
        return path
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    what = kinds.get(stat.S_IFMT(mode), "a device")
    raise CheckFailed(f"{path} is {what}, expected a file; {cure}")
