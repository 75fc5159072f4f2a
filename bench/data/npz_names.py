"""Which arrays of an NPZ file hold the images and labels of which part, by their usual names.

A name is a word for its content and one for its part, in either order, in any case, with or without
`_`: `x_train`, `X_test`, `trainX`, `test_labels`, `images_dev`, `val`, `images`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bench.core.spec import Part
from bench.data.content import PARTS
from bench.data.parts import PART_WORDS

_CONTENTS: Mapping[str, tuple[str, ...]] = {
    "images": ("x", "images", "image", "imgs", "img", "data", "pictures", "inputs", "features"),
    "labels": ("y", "labels", "label", "targets", "target"),
}
"""Words by content, the preferred first."""
_BREAKS = r"[ _.\-]*"
_CONTENT = "|".join(word for words in _CONTENTS.values() for word in words)
_PART = rf"(?P<part>{'|'.join(PART_WORDS)})(?:{_BREAKS}set)?"
_NAMES = (
    re.compile(rf"(?P<content>{_CONTENT}){_BREAKS}{_PART}"),
    re.compile(rf"{_PART}{_BREAKS}(?P<content>{_CONTENT})"),
    re.compile(rf"(?P<content>{_CONTENT})"),
    re.compile(_PART),
)
_PART_ALONE = len(_NAMES) - 1


@dataclass(frozen=True)
class Arrays:
    """The names of a part's arrays; `labels` is empty if it has none."""

    images: str
    labels: str


def arrays_by_part(names: Iterable[str]) -> dict[Part, Arrays]:
    """The arrays of each part that has images, in the order of PARTS.

    Of several arrays for one thing the most explicit is taken: `x_train` before `images`.
    """
    found: dict[tuple[str, Part], list[tuple[int, int, str]]] = {}
    for name in names:
        for content, part, rank in _meanings(name):
            found.setdefault((content, part), []).append((*rank, name))
    chosen = {key: min(candidates) for key, candidates in found.items()}
    # `valid` beside `x_train` is hardly the validation images; beside `train` it is.
    alone = chosen.get(("images", "train"), (0,))[0] == _PART_ALONE
    best = {key: of[-1] for key, of in chosen.items() if of[0] != _PART_ALONE or alone}
    return {
        part: Arrays(best["images", part], best.get(("labels", part), ""))
        for part in PARTS
        if ("images", part) in best
    }


def _meanings(name: str) -> Iterator[tuple[str, Part, tuple[int, int]]]:
    """Content and part of a name, with its rank among the names of the same thing."""
    for form, pattern in enumerate(_NAMES):
        match = pattern.fullmatch(name.lower())
        if match is None:
            continue
        words = match.groupdict()
        part = PART_WORDS[words.get("part", "train")]
        word = words.get("content", "images")
        for content, known in _CONTENTS.items():
            if word in known:
                yield content, part, (form, known.index(word))
        return
