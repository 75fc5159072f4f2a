"""What a metric is: one row of METRICS, one value per image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.protocol import EvaluationConfig, Task

CHUNK_VALUES = 2**18
"""Values scored at a time. The temporaries of SSIM then stay in a core's cache (0.10 s for 10,000
images of 28x28 against 0.14 s in chunks of 64), and memory stays bounded for any set."""


@dataclass(frozen=True)
class Metric:
    """One row of METRICS. `revision` is raised by hand when a change alters numbers.

    `bounds` are the lowest and highest value that images in [0, 1] can give, `decimals` how many
    a table shows, `score` the formula for images that fit into memory at once.
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
    score: Callable[[Tensor, Tensor, EvaluationConfig], Tensor]

    @property
    def best(self) -> float:
        """What a perfect reconstruction scores."""
        return self.bounds[1] if self.higher_is_better else self.bounds[0]

    def compute(self, x: Tensor, x_hat: Tensor, config: EvaluationConfig) -> Tensor:
        """One value per image, [N] float32, of images and reconstructions N x C x H x W in [0, 1].

        Raises ValueError for shapes that differ, BadInput for settings that do not fit the images.
        """
        if x.shape != x_hat.shape or x.ndim != 4 or x.numel() == 0:
            raise ValueError(
                f"{self.id} compares two equal, non-empty N x C x H x W tensors, "
                f"got {tuple(x.shape)} and {tuple(x_hat.shape)}"
            )
        at_once = max(1, CHUNK_VALUES // x[0].numel())
        pairs = zip(torch.split(x, at_once), torch.split(x_hat, at_once), strict=True)
        with torch.no_grad():
            return torch.cat([self.score(a, b, config) for a, b in pairs]).float()
