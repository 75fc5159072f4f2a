"""`study.json`: what a study searched and found, so that others can follow how a recipe was chosen.

Written beside the trials of a study and, once its winner stands in the ledger, committed as
`registry/studies/<study>.json`.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, ValidationError

from bench.core.errors import CheckFailed
from bench.core.identity import StudyName
from bench.core.protocol import Scalar
from bench.core.recipes import Recipe
from bench.core.spec import Choice, FloatRange, IntRange, RunSpec, SearchRange
from bench.core.strict import STRICT, adapter
from bench.records.documents import decode, encode

STUDY_SCHEMA = 2
"""That of all sealed documents."""
STUDY_FILE = "study.json"
CURE_HERE = "`bench doctor --fix` puts it aside, and the same `bench sweep` writes it again"
"""For a file of the workspace."""


@dataclass(frozen=True)
class Dimension:
    """The search range of one setting; `values` of a choice, else `low` to `high`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["choice", "real", "whole"]
    values: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @classmethod
    def of(cls, given: SearchRange) -> "Dimension":
        """A search range as it is written."""
        if isinstance(given, Choice):
            return cls("choice", given.values)
        kind: Literal["real", "whole"] = "whole" if isinstance(given, IntRange) else "real"
        return cls(kind, (), float(given.low), float(given.high), given.log)

    def holds(self, value: Scalar) -> bool:
        """Whether a value is inside the range."""
        if self.kind == "choice":
            return value in self.values
        whole = self.kind == "real" or isinstance(value, int)
        return isinstance(value, int | float) and whole and self.low <= value <= self.high


@dataclass(frozen=True)
class StudyTrial:
    """A trial that counts. `source`: "default" or "origin" for a known recipe, which may lie
    outside of the space; `value`: the validation selection metric, None if it diverged."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    number: int
    source: str
    settings: Mapping[str, Scalar]
    outcome: Literal["complete", "pruned", "diverged"]
    value: float | None


@dataclass(frozen=True)
class StudyRecord:
    """A study: the run that its trials change (with the label of own images instead of a path),
    its space, the known recipes, and every trial that counts, by number."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int
    study: StudyName
    recipe: Recipe
    base: RunSpec
    space: Mapping[str, Dimension]
    known: Mapping[str, Mapping[str, Scalar]]
    trials: Sequence[StudyTrial]

    def to_json(self) -> bytes:
        """The content of the file, with a digest of its other keys."""
        return encode(adapter(StudyRecord).dump_python(self, mode="json"))


def study_record(
    study: str,
    recipe: str,
    base: RunSpec,
    space: Mapping[str, FloatRange | IntRange | Choice],
    known: Mapping[str, Mapping[str, Scalar]],
    trials: Sequence[StudyTrial],
) -> StudyRecord:
    """The record of a study, without paths and without the machine's device."""
    values = {field.name: getattr(base, field.name) for field in dataclasses.fields(RunSpec)}
    spec = RunSpec(**{**values, "dataset": base.dataset_label, "device": "cpu", "definition": None})
    dimensions = {key: Dimension.of(kind) for key, kind in space.items()}
    return StudyRecord(STUDY_SCHEMA, study, recipe, spec, dimensions, known, tuple(trials))


def read_study(path: Path, where: str, cure: str = "restore it") -> StudyRecord | None:
    """Read a file; None if it is missing. CheckFailed names `where` and `cure` if it is damaged."""
    document = decode(path, cure)
    if document is None:
        return None
    try:
        found: StudyRecord = adapter(StudyRecord).validate_json(json.dumps(document))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"])) or "file"
        raise CheckFailed(
            f"{where} is damaged ({key}: {error.errors()[0]['msg']}); {cure}"
        ) from None
    return found
