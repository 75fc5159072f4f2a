"""Parse plain data into frozen dataclasses, checking every key and type."""

import codecs
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench.core.errors import BadInput, CheckFailed
from bench.core.paths import regular

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

T = TypeVar("T")
_SHOWN = 160


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """Pydantic's reader and writer of a type, cached: for a record, building it takes 20 ms."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def parse_strict(kind: type[T], data: Mapping[str, Any], where: str) -> T:
    """Build the frozen dataclass `kind` from plain data; BadInput names `where` and every key."""
    # JSON mode checks types strictly but accepts arrays as tuples and 3 as 3.0.
    text = json.dumps(data, default=str)
    try:
        return adapter(kind).validate_json(text)
    except ValidationError as error:
        first_by_key: dict[str, str] = {}
        for item in error.errors():
            key, message = _describe(data, item)
            # A list whose only items are wrong is reported as too short as well.
            if not any(known.startswith(f"{key}.") for known in first_by_key):
                first_by_key.setdefault(key, message)
        problems = "; ".join(f"{key}: {message}" for key, message in first_by_key.items())
        raise BadInput(f"{where}: {problems}") from None


def read_toml(path: Path, where: str) -> dict[str, Any]:
    """The content of a TOML file, which may begin with a byte order mark.

    Raises BadInput beginning with `where` for another encoding or format, OSError if it cannot be
    read.
    """
    try:
        content = regular(path).read_bytes()
    except CheckFailed as error:
        raise BadInput(str(error)) from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInput(f"{where}: is UTF-16 text; save it as UTF-8")
    try:
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError:
        raise BadInput(f"{where}: is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{where}: not a TOML file: {_short(error)}") from None
    except ValueError:
        raise BadInput(f"{where}: holds a number of more than 4,300 digits") from None
    except RecursionError:
        raise BadInput(f"{where}: holds values nested too deeply") from None


def _describe(data: Mapping[str, Any], item: Any) -> tuple[str, str]:
    """One problem as (key, what was expected), without union branches in the key."""
    path: list[str] = []
    value: Any = data
    for index, part in enumerate(item["loc"], start=1):
        absent = item["type"] == "missing" and index == len(item["loc"])
        if isinstance(value, Mapping) and (part in value or absent):
            value = value.get(part)
        elif isinstance(value, list | tuple) and isinstance(part, int):
            value = value[part]
        else:
            continue
        path.append(str(part))
    key = ".".join(path) or "file"
    if item["type"] == "unexpected_keyword_argument":
        return key, "unknown key; remove it or fix its spelling"
    if item["type"] in ("missing", "missing_argument"):
        return key, "missing; the key is required"
    if item["type"] == "too_short":
        return key, "must not be empty; give a value or remove the key"
    if "bool" in item["loc"][-1:]:
        # pydantic reports the first branch of a Scalar, which would ask for a boolean.
        return key, f"must be a finite number, a text, true or false (got {_short(value)})"
    if item["type"] == "value_error":
        return key, str(item["ctx"]["error"])
    return key, f"{item['msg'][0].lower()}{item['msg'][1:]} (got {_short(value)})"


def _short(value: object) -> str:
    """A value as text, cut where it is long: one line is enough to find it again."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
