"""TASKS: what a protocol can judge models by; rooms that differ by task have a table by its id.

A variant is of one kind of model, and every task that judges this kind can judge it. A protocol can
switch on FURTHER_TASKS: its rows get their measures and a board for each, beside their ranking.
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


@dataclass(frozen=True)
class FurtherTask:
    """What else the rows of a protocol are measured by; the task of a protocol still ranks them.

    `judges`: the kind of model. `headline`: the metric that orders its board; empty: its numbers
    are shown and never compared. `question`: what the board answers, for people.
    """

    id: str
    judges: ModelKind
    headline: str
    question: str

    @property
    def title(self) -> str:
        """Its name as a heading."""
        return self.id.title()


FURTHER_TASKS: Mapping[str, FurtherTask] = {
    task.id: task
    for task in (
        FurtherTask(
            "representation",
            "autoencoder",
            "probe_accuracy",
            "How much do codes say about the classes of images, and how are they spread?",
        ),
        FurtherTask(
            "generation",
            "autoencoder",
            "fcd_mixture",
            "How much do decoded draws look like images of the data set?",
        ),
        FurtherTask(
            "interpolation",
            "autoencoder",
            "path_variation",
            "Does the image change evenly, and stay an image, between two codes?",
        ),
        FurtherTask(
            "robustness",
            "autoencoder",
            "psnr_gaussian_20",
            "Is the clean image found in a damaged one, and are foreign images told apart?",
        ),
        FurtherTask(
            "cost",
            "autoencoder",
            "",
            "What do encoding and decoding cost on the machine that measured it?",
        ),
    )
}


def _known(name: str) -> str:
    if name not in TASKS:
        known = " or ".join(map(repr, TASKS))
        raise PydanticCustomError("unknown_task", "input should be {known}", {"known": known})
    return name


TaskId = Annotated[str, AfterValidator(_known)]
"""The id of a task as it is stored; text that names none is refused when it is read."""


def _known_further(name: str) -> str:
    if name not in FURTHER_TASKS:
        known = " or ".join(map(repr, FURTHER_TASKS))
        raise PydanticCustomError("unknown_task", "input should be {known}", {"known": known})
    return name


FurtherTaskId = Annotated[str, AfterValidator(_known_further)]
"""The id of a further task as it is stored; any other text is refused when it is read."""


def is_reference(model: str) -> bool:
    """Whether other rows are compared with those of `model` under some task."""
    return any(task.reference == model for task in TASKS.values())
