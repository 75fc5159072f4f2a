"""Pixel errors between images and reconstructions, one value per image."""

from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics.base import PSNR_CAP


def mse(x: Tensor, x_hat: Tensor, _config: EvaluationConfig) -> Tensor:
    """Mean over channels and pixels of (x - x_hat)^2, in [0, 1]."""
    return (x - x_hat).square_().mean((1, 2, 3))


def mae(x: Tensor, x_hat: Tensor, _config: EvaluationConfig) -> Tensor:
    """Mean over channels and pixels of |x - x_hat|, in [0, 1]."""
    return (x - x_hat).abs_().mean((1, 2, 3))


def psnr(x: Tensor, x_hat: Tensor, config: EvaluationConfig) -> Tensor:
    """10 log10(1 / MSE) in dB, from 0 to PSNR_CAP, per image: its mean is not that of the MSE."""
    return mse(x, x_hat, config).log10_().mul_(-10).clamp_(max=PSNR_CAP)
