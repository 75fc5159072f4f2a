"""Structural similarity (SSIM), vectorised over a batch: the same definition as scikit-image.

Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE Transactions on Image Processing 13(4), 2004, equation 13, at data range L = 1:

    SSIM(x, y) = (2 mu_x mu_y + c1) (2 s_xy + c2) / ((mu_x^2 + mu_y^2 + c1) (s_x^2 + s_y^2 + c2))

with c1 = k1^2, c2 = k2^2 and local moments under a sliding window; the score of an image is the
mean over all windows inside it, then over its channels.
"""

from functools import lru_cache

import torch
from torch import Tensor

from bench.core.errors import BadInput
from bench.core.protocol import EvaluationConfig, SsimSettings
from bench.metrics.seen import Seen


def ssim_uniform(seen: Seen, config: EvaluationConfig) -> Tensor:
    """SSIM with the window `config.ssim`, in [-1, 1]."""
    return structural_similarity(seen.images, seen.reconstructions, config.ssim)


def ssim_gaussian(seen: Seen, config: EvaluationConfig) -> Tensor:
    """SSIM with the window `config.ssim_gaussian`, in [-1, 1]."""
    return structural_similarity(seen.images, seen.reconstructions, config.ssim_gaussian)


def structural_similarity(x: Tensor, y: Tensor, settings: SsimSettings) -> Tensor:
    """Mean SSIM per image, [N], of two batches N x C x H x W in [0, 1].

    A uniform window (`sigma` None) uses sample covariances, n / (n - 1), as scikit-image does by
    default; a Gaussian one uses population covariances, as Wang et al. do. Raises BadInput if the
    window is even or larger than the images.

    The local moments of p = x + y - 1 and q = x - y need four maps instead of five (2 mu_x mu_y + 1
    and so on follow from sums and differences of their squares), and centring p keeps
    E[p^2] - E[p]^2 from cancelling in bright areas. Filtering is two products with banded
    matrices, the fastest way on a CPU for the small images of a benchmark: sliding
    sums take 1.4 times as long, separable convolution 3 times, average pooling 7 times.
    """
    height, width = x.shape[-2:]
    _check_window(settings, height, width)
    c1, c2 = settings.k1**2, settings.k2**2
    kind = _working_type(x.device.type, settings)
    maps = _moment_inputs(x.to(kind), y.to(kind))
    mean_p, mean_q, var_p, var_q = _filter(maps, settings).unbind()
    var_p.addcmul_(mean_p, mean_p, value=-1)
    var_q.addcmul_(mean_q, mean_q, value=-1)
    square_p, square_q = mean_p.add_(1).square_(), mean_q.square_()
    if settings.sigma is None:
        c2 *= 1 - 1 / settings.window**2  # the factor n / (n - 1) of both variances cancels out
    denominator = (square_p + square_q).add_(2 * c1).mul_((var_p + var_q).add_(2 * c2))
    numerator = square_p.sub_(square_q).add_(2 * c1).mul_(var_p.sub_(var_q).add_(2 * c2))
    return numerator.div_(denominator).mean((1, 2, 3))


def _check_window(settings: SsimSettings, height: int, width: int) -> None:
    if settings.window % 2 == 0:
        raise BadInput(f"SSIM window {settings.window}: must be odd, so that it has a centre")
    if settings.window > min(height, width):
        raise BadInput(
            f"SSIM window {settings.window} is larger than the images ({height}x{width}); "
            "give a smaller window in the protocol's evaluation settings"
        )


def _working_type(device: str, settings: SsimSettings) -> torch.dtype:
    """float32 where it is exact to 1e-5: not with constants below the standard, nor with TF32."""
    if device == "cuda" or settings.k1 < 0.01 or settings.k2 < 0.03:
        return torch.float64
    return torch.float32


def _moment_inputs(x: Tensor, y: Tensor) -> Tensor:
    """The maps p, q, p^2, q^2 of p = x + y - 1 and q = x - y, as 4 x N x C x H x W."""
    maps = x.new_empty(4, *x.shape)
    p, q, p_squared, q_squared = maps.unbind()
    torch.add(x, y, out=p).sub_(1)
    torch.sub(x, y, out=q)
    torch.mul(p, p, out=p_squared)
    torch.mul(q, q, out=q_squared)
    return maps


def _filter(maps: Tensor, settings: SsimSettings) -> Tensor:
    """Weighted means under every window inside the image: 4 x N x C x (H-w+1) x (W-w+1)."""
    height, width = maps.shape[-2:]
    down = _band(height, settings.window, settings.sigma).to(maps)
    across = _band(width, settings.window, settings.sigma).to(maps)
    rows = (maps.view(-1, width) @ across.T).view(-1, height, across.shape[0])
    means = torch.bmm(down.expand(rows.shape[0], -1, -1), rows)
    if settings.sigma is None:
        means /= settings.window**2
    return means.view(*maps.shape[:3], *means.shape[1:])


@lru_cache(maxsize=32)
def _band(size: int, window: int, sigma: float | None) -> Tensor:
    """The (size - window + 1) x size matrix that slides a window's weights along one axis.

    Uniform weights are ones (divided out once afterwards), so that the sums are exact.
    """
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    weights = torch.ones_like(offsets)
    if sigma is not None:
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
        weights /= weights.sum()
    band = torch.zeros(size - window + 1, size, dtype=torch.float64)
    for start in range(size - window + 1):
        band[start, start : start + window] = weights
    return band
