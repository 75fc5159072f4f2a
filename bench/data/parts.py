"""The usual words for the parts of a data set, in names of folders and arrays."""

import re
from collections.abc import Mapping

from bench.core.spec import Part

PART_WORDS: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "validate": "validation",
    "dev": "validation",
    "development": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
}
_FILLERS = r"(?:sets?|data|dataset|images?|imgs|split|part|folder)"
_NAMED = re.compile(
    rf"(?:{_FILLERS}[ _.\-]+)?(?P<part>{'|'.join(PART_WORDS)})(?:[ _.\-]*{_FILLERS})?"
)


def part_named(folder: str) -> Part | None:
    """The part that a folder's name says: `Train`, `test_set`, `dev`, `images-val`; None: none."""
    found = _NAMED.fullmatch(folder.lower())
    return PART_WORDS[found["part"]] if found else None
