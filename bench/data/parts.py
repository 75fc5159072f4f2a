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


def part_hinted(folder: str) -> Part | None:
    """The part that a word in a folder's name hints at, where the name says more than that:
    `trainA`, `test_2`, `mnist-val`; None: none, as in `restrain` or `latest`."""
    # A capital or a number begins a word too.
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", folder)
    return next((PART_WORDS[word.lower()] for word in words if word.lower() in PART_WORDS), None)
