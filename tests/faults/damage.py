"""Ways to damage a file: bytes, lines, numbers, values of JSON, and content that would execute."""

import gzip
import io
import json
import os
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.identity import digest

_TOKENS = (
    *(b"NaN", b"-1", b"1e999", b"9" * 5000, b"0x10", b"null", b"true", b'""', b"[]", b"{}"),
    *(b"\0", b"\n", b"\r\n", b'"', b"'''", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1b[2J", b"../" * 30),
    *("\u202e".encode(), b"<script>", b"|", b"[" * 3000, b'{"a":' * 3000, b"1_0", b"-0", b"1e-400"),
    *(b"!!python/object/apply:os.system ['touch executed-by-a-file']", b"__import__('os')"),
)
_VALUES = (
    *(None, True, -1, 0, 1.5, 10**400, 1e308, "", "x" * 5000, "../../outside", "a\nb", "\0", "1"),
    *([], {}, [[]], {"a": 1}, ["a"], "nan", "\x1b[2J", "\u202e"),
)
Damage = Callable[[random.Random, bytes], bytes]


def flip(dice: random.Random, data: bytes) -> bytes:
    """One bit."""
    if not data:
        return b"\1"
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]


def _cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def _drop(dice: random.Random, data: bytes) -> bytes:
    start = dice.randrange(len(data) + 1)
    return data[:start] + data[start + dice.choice([1, 2, 10, 100, 1000]) :]


def _insert(dice: random.Random, data: bytes) -> bytes:
    place = dice.randrange(len(data) + 1)
    return data[:place] + dice.choice(_TOKENS) + data[place:]


def _overwrite(dice: random.Random, data: bytes) -> bytes:
    place = dice.randrange(len(data) + 1)
    token = dice.choice(_TOKENS) if dice.random() < 0.5 else dice.randbytes(dice.choice([1, 4, 64]))
    return data[:place] + token + data[place + len(token) :]


def _repeat(dice: random.Random, data: bytes) -> bytes:
    first, second = sorted(dice.randrange(len(data) + 1) for _ in range(2))
    return data[:second] + data[first:]


def _swap_lines(dice: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    a, b = (dice.randrange(len(lines)) for _ in range(2))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


def _number(dice: random.Random, data: bytes) -> bytes:
    """Another number, or what is none, in the place of a number."""
    places = list(re.finditer(rb"-?\d+(\.\d+)?", data[:200_000]))
    if not places:
        return _insert(dice, data)
    found = dice.choice(places)
    digits = [str(dice.randrange(10**6)).encode(), b"%d" % dice.randrange(-9, 9)]
    return data[: found.start()] + dice.choice([*_TOKENS[:8], *digits]) + data[found.end() :]


def _other(dice: random.Random, data: bytes) -> bytes:
    """Not a file of this kind at all."""
    choices = [b"", b"\0" * 100, dice.randbytes(500), execution(Path.cwd()), *BOMBS, *BOMBS]
    return dice.choice([*choices, data.decode("latin-1").encode("utf-16"), b"[]", b"{}", b"0"])


BOMBS: list[bytes] = []
"""Archives that hold far more than they claim; see `make_bombs`."""


def make_bombs(size: int) -> None:
    """An NPZ and an IDX file, both small, whose content is `size` bytes long when unpacked."""
    array = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (10, 28, 28)}
    np.lib.format.write_array_header_1_0(array, described)
    packed, squeezed, chunk = io.BytesIO(), io.BytesIO(), bytes(2**24)
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x_train.npy", "w", force_zip64=True) as member,
        gzip.GzipFile(fileobj=squeezed, mode="wb", compresslevel=1) as stream,
    ):
        member.write(array.getvalue())
        stream.write(struct.pack(">4I", 0x803, 10, 28, 28))
        for _ in range(size // len(chunk)):
            member.write(chunk)
            stream.write(chunk)
    BOMBS[:] = [packed.getvalue(), squeezed.getvalue()]


def execution(folder: Path) -> bytes:
    """A pickle that makes the canary in the folder when it is loaded."""
    return pickle.dumps(_Executed(str(folder / "executed-by-a-file")))


class _Executed:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


BYTES: tuple[Damage, ...] = (
    *(flip, flip, _cut, _drop, _insert, _overwrite, _repeat, _swap_lines, _number, _number, _other),
)


def damaged(dice: random.Random, data: bytes) -> bytes:
    """The bytes with one to three damages."""
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        data = dice.choice(BYTES)(dice, data)
    return data


def resealed(dice: random.Random, data: bytes) -> bytes:
    """A JSON document with another value somewhere, or a key less or more, and the right digest."""
    document = json.loads(data)
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, Mapping) else list(range(len(place)))
        if not keys:
            return data
        key = dice.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and dice.random() < 0.8:
            place = place[key]
            continue
        break
    what = dice.random()
    if what < 0.15:
        del place[key]
    elif what < 0.2 and isinstance(place, dict):
        place["another"] = 1
    else:
        place[key] = dice.choice(_VALUES)
    if "digest" in document:
        empty = {**document, "digest": ""} if "track_name" in document else dict(document)
        if "track_name" not in document:
            empty.pop("digest")
        document["digest"] = digest(empty)
    return json.dumps(document).encode()
