"""Track: the kind and size of code that a run competes with; the only module that spells one."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator

Kind = Literal["real", "bits", "overcomplete", "classes"]

REAL_BITS = 32
"""Of a number of a code of real numbers, as it is sent from encoder to decoder: a float32."""
_PREFIXES: dict[Kind, str] = {"real": "d", "bits": "b", "classes": "classes"}
_OVERCOMPLETE = "overcomplete"
_SPELLED = re.compile(r"(d|b|classes)(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Track:
    """Where a run competes; rows are ranked only within a track.

    | kind         | spelled        | content                                                    |
    |--------------|----------------|------------------------------------------------------------|
    | real         | `d16`          | codes of 16 real numbers; 0: `mean_image`, without a size  |
    | bits         | `b288`         | discrete codes of 288 bits, which no real number equals    |
    | overcomplete | `overcomplete` | codes as large as the image or larger, of any size: size 0 |
    | classes      | `classes10`    | classifiers of 10 classes                                  |

    Raises ValueError for a negative size, and for a size of an over-complete track.
    """

    kind: Kind
    size: int = 0

    def __post_init__(self) -> None:
        if self.size < 0 or (self.kind == "overcomplete" and self.size):
            raise ValueError(f"a track of kind {self.kind} cannot have size {self.size}")

    @classmethod
    def parse(cls, text: str) -> "Track":
        """The track spelled `text`; ValueError if that is none."""
        if text == _OVERCOMPLETE:
            return cls("overcomplete")
        if found := _SPELLED.fullmatch(text):
            kind = next(kind for kind, prefix in _PREFIXES.items() if prefix == found[1])
            return cls(kind, int(found[2]))
        raise ValueError(f"'{text}' is no track; expected d16, b288, overcomplete or classes10")

    def __str__(self) -> str:
        return _OVERCOMPLETE if self.overcomplete else f"{_PREFIXES[self.kind]}{self.size}"

    @property
    def overcomplete(self) -> bool:
        """Whether its codes have at least as many numbers as the image: no bottleneck."""
        return self.kind == "overcomplete"

    @property
    def classifies(self) -> bool:
        """Whether classifiers compete in it."""
        return self.kind == "classes"

    @property
    def on_size_axis(self) -> bool:
        """Whether its size can be compared with others on an axis of code sizes: real numbers."""
        return self.kind == "real" and self.size > 0

    @property
    def order(self) -> tuple[int, int]:
        """Sort key of tables: by code size, then discrete codes by bits, then over-complete codes.

        Tracks of classifiers are in tables of their own, by the number of classes.
        """
        return get_args(Kind).index(self.kind), self.size

    @property
    def size_words(self) -> str:
        """The size in a column of a table: `16`, `288 bits`, `overcomplete`, `10`."""
        if self.overcomplete:
            return _OVERCOMPLETE
        return f"{self.size} bits" if self.kind == "bits" else str(self.size)

    @property
    def heading(self) -> str:
        """The heading of its table, such as `Code size 16`."""
        if self.overcomplete:
            return "Codes as large as the images (not a bottleneck)"
        if self.classifies:
            return f"Classifiers of {self.size} classes"
        return f"{'Discrete codes of' if self.kind == 'bits' else 'Code size'} {self.size_words}"


TrackName = Annotated[str, AfterValidator(lambda text: str(Track.parse(text)))]
"""The spelling of a track in a file: it becomes part of a path."""
