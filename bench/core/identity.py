"""Rules for user-given names, and digests that identify data."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from bench.core.errors import BadInput
from bench.core.paths import regular

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NAME_RULE = "[a-z0-9][a-z0-9._-]{0,63}, without '..'"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


def checked_name(kind: str, name: str) -> str:
    """Return `name` if it is safe in file names, URLs and tables; raise BadInput otherwise."""
    if not is_name(name):
        raise BadInput(f"{kind} {name!r} is not a name we can use; expected {NAME_RULE}")
    return name


def is_name(text: str) -> bool:
    """Whether a text obeys NAME_RULE."""
    return _NAME.match(text) is not None and ".." not in text


def _as_name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!r} is not a name we can use; expected {NAME_RULE}")
    return text


Name = Annotated[str, AfterValidator(_as_name)]
"""A text of a file that becomes part of a path: checked where the file is parsed."""


def _as_study(text: str) -> str:
    if not (re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,249}", text) and ".." not in text):
        raise ValueError(f"{text[:80]!r} is not the name of a study")
    return text


StudyName = Annotated[str, AfterValidator(_as_study)]
"""The name of a study, which joins several names and may therefore be longer."""


def slug(text: str) -> str:
    """Turn free text, such as a file's stem, into a name that obeys NAME_RULE."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    cleaned = re.sub(r"\.{2,}", ".", cleaned).strip("._-")[:40]
    return cleaned or "unnamed"


def own_label(name: str, data_digest: str) -> str:
    """The label of a user's own images: their name and six digits of their digest, so that two
    folders of one name are told apart."""
    ending = f"-{data_digest[:6]}"
    return name if name.endswith(ending) else name + ending


def digest(value: Mapping[str, object]) -> str:
    """16 hexadecimal digits of the SHA-256 of a mapping's canonical JSON (sorted keys).

    Floats keep Python's shortest round-trip form, so equal numbers give equal digests on every
    platform.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def chosen_settings(config: "DataclassInstance") -> dict[str, object]:
    """The settings of a frozen dataclass that differ from their defaults, for digests.

    A setting added later leaves existing digests unchanged if its default keeps the old
    behaviour. Defaults must therefore never change.
    """
    chosen: dict[str, object] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
            chosen[field.name] = chosen_settings(value) if nested else value
    return chosen


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits; CheckFailed for what is no file."""
    with regular(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
