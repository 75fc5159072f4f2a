"""How a person's own images are read, as part of the reference that names them.

    folder:photos                      as they are
    folder[size=28x28]:photos          resized to 28 rows and 28 columns
    csv[scale=1,label=last]:digits.csv   white is the value 1, the label stands last

Options stand before the first colon, because a path may hold any character. They travel with the
reference in specs, records and commands, so that whoever reads it gets the same images.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from bench.core.errors import BadInput
from bench.core.paths import given_path

KINDS = ("csv", "npz", "folder")
"""Formats of a person's own images."""
BRIGHTEST = 65_535
LABELS = "first, last, none or the name of a column"
_LONGEST_SIDE = 65_535
_REFERENCE = re.compile(rf"(?P<kind>{'|'.join(KINDS)})(\[(?P<options>[^:]*)\])?:(?P<path>.*)", re.S)
_SIZE = re.compile(r"(?P<height>\d{1,6})(?:[xX×](?P<width>\d{1,6}))?\Z")
_OPTIONS = ("size", "scale", "label")


@dataclass(frozen=True)
class Reading:
    """How images are read. `size` (H, W): resized to it; `scale`: the value that means white;
    `label`: `first`, `last`, `none` or a name, the column of a CSV file. None and "": found out.
    """

    size: tuple[int, int] | None = None
    scale: int | None = None
    label: str = ""

    def __str__(self) -> str:
        """The options in a reference, such as `[size=28x28,scale=1]`; empty without any."""
        size = self.size and f"{self.size[0]}x{self.size[1]}"
        given = (size, self.scale, quote(self.label, safe=" "))
        pairs = [f"{key}={value}" for key, value in zip(_OPTIONS, given, strict=True) if value]
        return f"[{','.join(pairs)}]" if pairs else ""


AS_THEY_ARE = Reading()


@dataclass(frozen=True)
class Own:
    """A person's own images: format, path and how they are read; BadInput if that cannot be."""

    kind: str
    path: Path
    reading: Reading = AS_THEY_ARE

    def __post_init__(self) -> None:
        if self.reading.label and self.kind != "csv":
            raise BadInput(
                f"data set {self.kind}:PATH: the column of the labels (--label-column) is for "
                "csv:PATH only"
            )

    def __str__(self) -> str:
        return f"{self.kind}{self.reading}:{self.path}"


def own_images(reference: str) -> Own | None:
    """The own images that a reference names; None if it has another form, such as an id.

    Raises BadInput for a missing or impossible path and for options that cannot be.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        return None
    kind = found["kind"]
    if not found["path"]:
        raise BadInput(f"data set '{reference}': the path is missing; write {kind}:PATH")
    reading = _parsed(found["options"] or "", reference)
    return Own(kind, given_path(found["path"], f"data set {kind}:PATH"), reading)


def with_options(dataset: str, size: str = "", scale: str = "", label: str = "") -> str:
    """A reference with the values of --image-size, --scale and --label-column added; "" adds none.

    Raises BadInput if they are impossible, differ from the reference's own, or if the data set is
    not a person's own.
    """
    options = {"--image-size": size, "--scale": scale, "--label-column": label}
    given = {name: value for name, value in options.items() if value}
    if not given:
        return dataset
    named = ", ".join(given)
    own = own_images(dataset)
    if own is None:
        seen = f"'{dataset}' is read as it is" if dataset else "give them with --dataset"
        raise BadInput(f"{named}: for your own images (csv:, npz: or folder:PATH) only; {seen}")
    before, wanted = own.reading, Reading(parsed_size(size), parsed_scale(scale), label)
    for name, old, new in (
        ("--image-size", before.size, wanted.size),
        ("--scale", before.scale, wanted.scale),
        ("--label-column", before.label, wanted.label),
    ):
        if old and new and old != new:
            raise BadInput(f"{name}: the data set says something else: {dataset}; give one of them")
    both = Reading(
        wanted.size or before.size, wanted.scale or before.scale, wanted.label or before.label
    )
    return str(Own(own.kind, own.path, both))


def read_like(given: str, recorded: str) -> str:
    """A reference without options read as the recorded one; others are unchanged."""
    here, there = own_images(given), own_images(recorded)
    if here is None or there is None or here.reading != AS_THEY_ARE:
        return given
    label = there.reading.label if here.kind == "csv" else ""
    return str(Own(here.kind, here.path, Reading(there.reading.size, there.reading.scale, label)))


def parsed_size(text: str) -> tuple[int, int] | None:
    """(H, W) of `28` or `28x32`; None for "". BadInput for anything else."""
    if not text:
        return None
    found = _SIZE.match(text.strip())
    height = int(found["height"]) if found else 0
    width = int(found["width"] or height) if found else 0
    if not (1 <= height <= _LONGEST_SIDE and 1 <= width <= _LONGEST_SIDE):
        raise BadInput(
            f"--image-size: '{text[:40]}' is no size; expected the side of a square such as 28, or "
            "height x width such as 28x32, in pixels"
        )
    return height, width


def parsed_scale(text: str) -> int | None:
    """The value that means white, a whole number; None for "". BadInput for anything else."""
    if not text:
        return None
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= value <= BRIGHTEST:
        raise BadInput(
            f"--scale: '{text[:40]}' cannot be; expected the value that means white: 1, 255, or "
            f"another whole number up to {BRIGHTEST}"
        )
    return value


def _parsed(options: str, reference: str) -> Reading:
    found: dict[str, str] = {}
    for pair in filter(None, options.split(",")):
        key, _, value = pair.partition("=")
        if key not in _OPTIONS or not value or key in found:
            raise BadInput(
                f"data set '{reference[:80]}': '{pair[:40]}' is no option; expected "
                f"size=28x28, scale=255, label={LABELS}, each at most once"
            )
        found[key] = value
    return Reading(
        parsed_size(found.get("size", "")),
        parsed_scale(found.get("scale", "")),
        unquote(found.get("label", "")),
    )
