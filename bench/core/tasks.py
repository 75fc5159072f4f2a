"""TASKS: what a protocol can judge models by; rooms that differ by task have a table by its id.

A variant is of one kind of model, and every task that judges this kind can judge it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

ModelKind = Literal["autoencoder", "classifier"]


@dataclass(frozen=True)
class Task:
    """One row. `judges`: the kind of model; its metrics and figures are those of this kind.

    `has_code`: whether rows have a latent size. `track`: the kind of track, `code` (by the size
    of the code) or `classes` (by the number of classes). `reference`: the variant whose row
    others are compared with; empty: none. `least_classes`: how many the images must have.
    """

    id: str
    judges: ModelKind
    has_code: bool
    track: Literal["code", "classes"]
    reference: str = ""
    least_classes: int = 0


TASKS: Mapping[str, Task] = {
    task.id: task
    for task in (
        Task("reconstruction", "autoencoder", has_code=True, track="code", reference="pca"),
        Task("classification", "classifier", has_code=False, track="classes", least_classes=2),
    )
}
DEFAULT_TASK = "reconstruction"


def _known(name: str) -> str:
    if name not in TASKS:
        known = " or ".join(map(repr, TASKS))
        raise PydanticCustomError("unknown_task", "input should be {known}", {"known": known})
    return name


TaskId = Annotated[str, AfterValidator(_known)]
"""The id of a task as it is stored; text that names none is refused when it is read."""


def is_reference(model: str) -> bool:
    """Whether other rows are compared with those of `model` under some task."""
    return any(task.reference == model for task in TASKS.values())
