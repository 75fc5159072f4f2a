"""The row type of METRICS: a metric says what it reads and gives one value per image or per set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.core.protocol import EvaluationConfig
from bench.core.tasks import FURTHER_TASKS, TASKS, ModelKind
from bench.metrics.seen import OUTPUTS, SENT, Need, Seen

if TYPE_CHECKING:
    from torch import Tensor

PSNR_CAP = 100.0
"""In dB. A perfect image would score infinity, which JSON cannot hold and which would make every
mean infinite; 100 dB is an RMS error of 1e-5 on [0, 1], far below the 1/255 step of the images."""

Transform = Literal["log", "log_one_minus", "identity"]
"""What makes a mean score the logarithm of an error, see `units`."""

CHUNK_VALUES = 2**18
"""Images scored at a time. SSIM's temporaries then stay in a core's cache (0.10 s for 10,000
images of 28x28, 0.14 s in chunks of 64), and memory is bounded for any set."""


@dataclass(frozen=True)
class Tolerance:
    """By how much a score may differ when it is computed again.

    From the same weights on another processor: by the share `weights` of the recorded value, or, of
    a score that counts images, as if `tied` images near a tie were answered differently. Of the
    same run trained again: by the share `run` of the value, or, of such counts (`tied` above 0), by
    `run` itself: the accuracy of two trainings may be 0.900 and 0.915 on 1,000 images.
    """

    weights: float = 1e-4
    run: float = 1e-2
    tied: int = 0

    def from_weights(self, value: float, images: int) -> float:
        """The largest distance from `value`, a mean over so many images, with equal weights."""
        return self.tied / images if self.tied else max(self.weights * abs(value), LEAST)

    def from_training(self, value: float) -> float:
        """The largest distance from `value` of the same run trained again."""
        return self.run if self.tied else self.run * abs(value)


LEAST = 1e-7
"""Absolute, for scores at or near 0."""


@dataclass(frozen=True)
class Metric:
    """One row of METRICS. Raise `revision` by hand when a change alters numbers.

    `bounds` are the lowest and highest value for images in [0, 1], `transform` leads to the unit of
    comparisons (`units`), `decimals` says how many a table shows. `needs` is all that the formula
    `score` may read of a `Seen`; it gives one value per image (N,), or, if not `per_image`, one for
    the whole set. Comparisons resample images of the former, and of the latter seeds alone.
    `short`: its name in tables of few columns; empty: it stands in no such table. `detail`: it
    stands in tables of all columns alone. `beside`: no measure of a row, but a value to compare
    with, named so: it stands below the rows, in the columns of the metrics `under`.
    `task`: an id of TASKS, or of FURTHER_TASKS: such a formula gets a whole part at once.
    `tolerance` says when a score that was computed again is the recorded one.
    """

    id: str
    title: str
    task: str
    higher_is_better: bool
    revision: int
    unit: str
    decimals: int
    bounds: tuple[float, float]
    transform: Transform
    formula: str
    source: str
    needs: frozenset[Need]
    score: "Callable[[Seen, EvaluationConfig], Tensor]"
    per_image: bool = True
    tolerance: Tolerance = Tolerance()
    short: str = ""
    detail: bool = False
    beside: str = ""
    under: tuple[str, ...] = ()

    @property
    def further(self) -> bool:
        """Whether it is of a further task."""
        return self.task in FURTHER_TASKS

    @property
    def compared(self) -> bool:
        """Whether values of two runs may be compared: not of costs, which are the machine's."""
        return not self.further or bool(FURTHER_TASKS[self.task].headline)

    @property
    def judges(self) -> ModelKind:
        """The kind of model that it scores."""
        return (FURTHER_TASKS if self.further else TASKS)[self.task].judges

    @property
    def best(self) -> float:
        """The score of a perfect reconstruction or classification."""
        return self.bounds[1] if self.higher_is_better else self.bounds[0]

    @property
    def selects(self) -> bool:
        """Whether it can select and rank: per image, of every model, without the training part."""
        return self.per_image and not self.further and not self.needs & {"codes", "train", *SENT}

    def compute(self, seen: Seen, config: EvaluationConfig) -> "Tensor":
        """One value per image, float32 (N,), or one per set, float64: NaN if an output it reads is
        not finite. Of a further task, NaN also stands for values per image that are not defined.

        Raises ValueError if `seen` lacks a need or shapes do not match, BadInput for settings
        that do not suit the images.
        """
        import torch

        view = seen.only(self.needs)
        with torch.no_grad():
            self._check_shapes(view)
            if self.per_image and not self.further:
                parts = [self.score(part, config) for part in self._parts(view)]
                return torch.cat(parts).float()
            if not self._finite(view):
                return torch.tensor(torch.nan, dtype=torch.float64)
            found = self.score(view, config)
            return found.float() if found.ndim else found.double()

    def _parts(self, view: Seen) -> Iterator[Seen]:
        """Images a few at a time; classes all at once."""
        if "images" not in self.needs:
            yield view
            return
        yield from view.split(max(1, CHUNK_VALUES // view.images[0].numel()))

    def _finite(self, view: Seen) -> bool:
        return all(
            bool(part.tensor(name).isfinite().all())
            for part in self._all(view)
            for name in self.needs & OUTPUTS & part.offers
        )

    def _all(self, view: Seen) -> list[Seen]:
        """The part and the other parts that it reads."""
        train = [view.train] if "train" in self.needs else []
        validation = view.validation if "validation" in self.needs else None
        return [view, *train, *([] if validation is None else [validation])]

    def _check_shapes(self, view: Seen) -> None:
        for need in self.needs & {"reconstructions", *SENT} if "images" in self.needs else ():
            _check_images(self.id, view.images, view.tensor(need))
        if {"labels", "logits"} <= self.needs:
            _check_classes(self.id, "logits", view.labels, view.logits)
        if {"labels", "codes"} <= self.needs:
            for part in self._all(view):
                _check_classes(self.id, "codes", part.labels, part.codes)


def _check_images(metric: str, x: "Tensor", x_hat: "Tensor") -> None:
    if x.shape != x_hat.shape or x.ndim != 4 or x.numel() == 0:
        raise ValueError(
            f"{metric} compares two equal, non-empty N x C x H x W tensors, "
            f"got {tuple(x.shape)} and {tuple(x_hat.shape)}"
        )


def _check_classes(metric: str, what: str, labels: "Tensor", given: "Tensor") -> None:
    if labels.ndim != 1 or given.ndim != 2 or not len(labels) or len(labels) != len(given):
        raise ValueError(
            f"{metric} compares N labels with N x K {what}, "
            f"got {tuple(labels.shape)} and {tuple(given.shape)}"
        )
