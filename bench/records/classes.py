"""A classifier's record class by class, computed from the stored arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from bench.core.spec import RunRecord
from bench.core.strict import STRICT

MOST_CONFUSIONS = 8
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class ClassScores:
    """One class: its number of images, its precision, recall and F1 score."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    images: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Confusion:
    """Images of class `label` that were classified as `predicted`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    label: str
    predicted: str
    images: int


def class_scores(
    record: RunRecord, arrays: Arrays, part: Literal["validation", "test"] = "test"
) -> tuple[ClassScores, ...]:
    """One row per class, in the order of the data set; empty for a record without such arrays."""
    if f"per_class/{part}" not in arrays:
        return ()
    support = arrays[f"confusion/{part}"].sum(axis=1)
    return tuple(
        # Nine digits, as in the ledger: identical on every machine.
        ClassScores(name, int(images), *(float(f"{value:.9g}") for value in values))
        for name, images, values in zip(
            record.class_names, support, arrays[f"per_class/{part}"].tolist(), strict=True
        )
    )


def top_confusions(
    record: RunRecord, arrays: Arrays, part: Literal["validation", "test"] = "test"
) -> tuple[Confusion, ...]:
    """The most frequently confused pairs of classes, at most 8, ties in the data's order."""
    counts = arrays.get(f"confusion/{part}")
    if counts is None:
        return ()
    mistakes = counts.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = zip(*np.unravel_index(order, mistakes.shape), strict=True)
    return tuple(
        Confusion(record.class_names[i], record.class_names[j], int(mistakes[i, j]))
        for i, j in pairs
        if mistakes[i, j]
    )
