"""What the metric computes."""

from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics import Seen


def worst_pixel(seen: Seen, config: EvaluationConfig) -> Tensor:
    """The largest absolute error of each image (N,)."""
    return (seen.images - seen.reconstructions).abs().flatten(1).amax(dim=1)
