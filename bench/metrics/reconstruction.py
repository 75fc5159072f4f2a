"""Pixel errors between images and reconstructions, one value per image."""

from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics.base import PSNR_CAP
from bench.metrics.seen import Seen


def mse(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Mean over channels and pixels of (x - x_hat)^2, in [0, 1]."""
    return (seen.images - seen.reconstructions).square_().mean((1, 2, 3))


def mae(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Mean over channels and pixels of |x - x_hat|, in [0, 1]."""
    return (seen.images - seen.reconstructions).abs_().mean((1, 2, 3))


def psnr(seen: Seen, config: EvaluationConfig) -> Tensor:
    """10 log10(1 / MSE) in dB, from 0 to PSNR_CAP, per image: its mean is not that of the MSE."""
    return mse(seen, config).log10_().mul_(-10).clamp_(max=PSNR_CAP)
