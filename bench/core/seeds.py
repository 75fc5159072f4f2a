"""Which seeds a cell is run with: those of a list, or as many as the spread of its scores needs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

from bench.core.strict import STRICT

LEAST_SEEDS = 3
"""A trained row needs so many finished seeds for a rank."""
MOST_SEEDS = 1000

Seed = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class AdaptiveSeeds:
    """Seeds 0, 1, 2, ...: `least` of them, then another one while the mean of the cell is not known
    well enough, `most` at the end.

    It is known well enough when the half width of the 95 % interval of its log mean over seeds is
    at most `until`, in the unit of comparisons (`metrics/units.py`): 0.02 is 2 % of an error, and
    0.02 dB where PSNR selects. Raises ValueError if `most` is less than `least`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    least: Annotated[int, Field(ge=LEAST_SEEDS)]
    most: Annotated[int, Field(le=MOST_SEEDS)]
    until: Annotated[float, Field(gt=0)]

    def __post_init__(self) -> None:
        if self.most < self.least:
            raise ValueError(f"most must be at least {self.least}, as least is (got {self.most})")


def _kind(seeds: object) -> str | None:
    if isinstance(seeds, dict | AdaptiveSeeds):
        return "adaptive"
    return "list" if isinstance(seeds, list | tuple) else None


Seeds = Annotated[
    Annotated[tuple[Seed, ...], Field(min_length=1), Tag("list")]
    | Annotated[AdaptiveSeeds, Tag("adaptive")],
    Discriminator(
        _kind,
        custom_error_type="seeds",
        custom_error_message="must be a list such as [0, 1, 2], or a table such as "
        "{ least = 3, most = 10, until = 0.02 }",
    ),
]
"""The `seeds` of a protocol."""


def first_seeds(seeds: Seeds) -> tuple[int, ...]:
    """The seeds that are run in any case."""
    return tuple(range(seeds.least)) if isinstance(seeds, AdaptiveSeeds) else seeds


def all_seeds(seeds: Seeds) -> tuple[int, ...]:
    """The seeds that are run at most."""
    return tuple(range(seeds.most)) if isinstance(seeds, AdaptiveSeeds) else seeds


def rule_text(seeds: Seeds) -> str:
    """The seeds of a protocol in one cell of a file: `0,1,2`, or `3..10 until 0.02`."""
    if isinstance(seeds, AdaptiveSeeds):
        return f"{seeds.least}..{seeds.most} until {float(seeds.until)}"
    return ",".join(map(str, seeds))


def rule_in_words(seeds: Seeds) -> str:
    """The seeds of a protocol in a sentence: `seeds 0, 1, 2`, or `3 to 10 seeds`."""
    if isinstance(seeds, AdaptiveSeeds):
        return f"{seeds.least} to {seeds.most} seeds"
    return f"seeds {seeds_in_words(seeds)}"


def parse_rule(text: str) -> Seeds:
    """The seeds of a `rule_text`; ValueError for any other text."""
    found = _RULE.fullmatch(text)
    given = (
        '{{"least": {}, "most": {}, "until": {}}}'.format(*found.groups()) if found else f"[{text}]"
    )
    try:
        seeds = _READER.validate_json(given)
    except ValidationError:
        seeds = ()
    if not seeds or rule_text(seeds) != text:
        raise ValueError(f"{text[:80]!r} names no seeds; expected 0,1,2 or 3..10 until 0.02")
    return seeds


_RULE = re.compile(r"(\S+)\.\.(\S+) until (\S+)")
_READER: TypeAdapter[Seeds] = TypeAdapter(Seeds)


def _checked(text: str) -> str:
    if text:
        parse_rule(text)
    return text


SeedRule = Annotated[str, AfterValidator(_checked)]
"""A `rule_text` in a file, or "" for none, checked where the file is parsed."""


def seeds_in_words(seeds: Iterable[int]) -> str:
    """`0, 1, 2`, and `0 to 9` for four or more in a row."""
    given = list(seeds)
    in_a_row = len(given) > 3 and given == list(range(given[0], given[0] + len(given)))
    return f"{given[0]} to {given[-1]}" if in_a_row else ", ".join(map(str, given))
