"""Names that people give and digests that tell two things apart."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from bench.errors import BadInput

NAME_RULE = "[a-z0-9][a-z0-9._-]{0,63}, without '..'"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


def checked_name(kind: str, name: str) -> str:
    """Return `name` if it may stand in file names, URLs and tables; raise BadInput otherwise."""
    if not _NAME.match(name) or ".." in name:
        raise BadInput(f"{kind} {name!r} is not a name we can use; expected {NAME_RULE}")
    return name


def slug(text: str) -> str:
    """Make a name that obeys NAME_RULE out of a free text such as a file's stem."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    cleaned = re.sub(r"\.{2,}", ".", cleaned).strip("._-")[:40]
    return cleaned or "unnamed"


def digest(value: Mapping[str, object]) -> str:
    """16 hexadecimal digits of the SHA-256 of a mapping's canonical JSON (sorted keys).

    Floats keep Python's shortest round-trip form, so equal numbers give equal digests on every
    platform.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
