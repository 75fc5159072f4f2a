"""The row type of METRICS: a metric gives one value per image, or one for a whole set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.core.protocol import EvaluationConfig, Task

if TYPE_CHECKING:
    from torch import Tensor

PSNR_CAP = 100.0
"""In dB. A perfect image would score infinity, which JSON cannot hold and which would make every
mean infinite; 100 dB is an RMS error of 1e-5 on [0, 1], far below the 1/255 step of the images."""

CHUNK_VALUES = 2**18
"""Images scored at a time. SSIM's temporaries then stay in a core's cache (0.10 s for 10,000
images of 28x28, 0.14 s in chunks of 64), and memory is bounded for any set."""


@dataclass(frozen=True)
class Metric:
    """One row of METRICS. Raise `revision` by hand when a change alters numbers.

    `bounds` are the lowest and highest value for images in [0, 1], `decimals` how many
    a table shows, `score` the formula for images that fit into memory at once. This class
    scores reconstructions; its subclasses score classifications.
    """

    id: str
    title: str
    task: Task
    higher_is_better: bool
    revision: int
    unit: str
    decimals: int
    bounds: tuple[float, float]
    formula: str
    source: str
    score: "Callable[[Tensor, Tensor, EvaluationConfig], Tensor]"

    @property
    def per_image(self) -> bool:
        """Whether there is one value per image; only such a metric can select and rank."""
        return True

    @property
    def best(self) -> float:
        """The score of a perfect reconstruction or classification."""
        return self.bounds[1] if self.higher_is_better else self.bounds[0]

    def compute(self, x: "Tensor", x_hat: "Tensor", config: EvaluationConfig) -> "Tensor":
        """One value per image, [N] float32, of images and reconstructions N x C x H x W in [0, 1].

        Raises ValueError for shapes that differ, BadInput for settings that do not suit the images.
        """
        if x.shape != x_hat.shape or x.ndim != 4 or x.numel() == 0:
            raise ValueError(
                f"{self.id} compares two equal, non-empty N x C x H x W tensors, "
                f"got {tuple(x.shape)} and {tuple(x_hat.shape)}"
            )
        import torch

        at_once = max(1, CHUNK_VALUES // x[0].numel())
        pairs = zip(torch.split(x, at_once), torch.split(x_hat, at_once), strict=True)
        with torch.no_grad():
            return torch.cat([self.score(a, b, config) for a, b in pairs]).float()


@dataclass(frozen=True)
class ClassMetric(Metric):
    """A metric of classifiers with one value per image."""

    def compute(self, x: "Tensor", x_hat: "Tensor", config: EvaluationConfig) -> "Tensor":
        """One value per image, [N] float32, of labels `x` [N] int64 and logits `x_hat` N x K.

        Raises ValueError for shapes that do not match.
        """
        import torch

        _check_classes(self.id, x, x_hat)
        with torch.no_grad():
            return self.score(x, x_hat, config).float()


@dataclass(frozen=True)
class ClassSetMetric(ClassMetric):
    """A metric of classifiers with one value for a whole set, not a mean over images."""

    @property
    def per_image(self) -> bool:
        """Always False."""
        return False

    def compute(self, x: "Tensor", x_hat: "Tensor", config: EvaluationConfig) -> "Tensor":
        """One value, float64, of labels `x` [N] int64 and logits `x_hat` N x K.

        NaN if any logit is not finite. Raises ValueError for shapes that do not match.
        """
        import torch

        _check_classes(self.id, x, x_hat)
        if not x_hat.isfinite().all():
            return torch.tensor(torch.nan, dtype=torch.float64)
        with torch.no_grad():
            return self.score(x, x_hat, config).double()


def _check_classes(metric: str, labels: "Tensor", logits: "Tensor") -> None:
    if labels.ndim != 1 or logits.ndim != 2 or not len(labels) or len(labels) != len(logits):
        raise ValueError(
            f"{metric} compares N labels with N x K logits, "
            f"got {tuple(labels.shape)} and {tuple(logits.shape)}"
        )
