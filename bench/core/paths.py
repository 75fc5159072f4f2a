"""Paths that a person gave."""

import errno
from pathlib import Path

from bench.core.errors import BadInput


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
        path.resolve(strict=True)
    except RuntimeError:  # how Python 3.11 and 3.12 report a loop
        raise BadInput(f"{what}: '{text[:80]}' is a loop of links; give another path") from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise BadInput(
                f"{what}: '{text[:80]}{'...' if len(text) > 80 else ''}' cannot be a path "
                f"({error.strerror}); give another one"
            ) from None
    return path
