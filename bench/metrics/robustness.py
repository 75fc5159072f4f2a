"""Reconstructions of damaged images, and whether the reconstruction error tells foreign images.

An image is damaged by random numbers of its own, drawn with a seed from its place in the part: the
numbers depend neither on other images nor on batches, and a stronger damage of a kind contains the
weaker one. Of a larger part, the first 500 images in a fixed random order are damaged.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics.base import PSNR_CAP
from bench.metrics.seen import Seen

DAMAGED = 500
"""So few because nine damages of every image would take many times as long as scoring it: of 1,000
images of two parts, 2 s with `cnn_ae`. The standard error of a mean PSNR is about 0.1 dB."""
DEVIATIONS = (0.1, 0.2, 0.3)
SHARES = (0.10, 0.25, 0.50)
_SEED = 20_260_502
Floats = NDArray[np.float32]


def gaussian(images: Tensor, places: NDArray[np.int64], deviation: float) -> Tensor:
    """Images (N, C, H, W) in [0, 1] plus N(0, deviation^2) for each number, clipped."""
    noise = _drawn(places, lambda drawn: drawn.standard_normal(images.shape[1:], np.float32))
    return (images + deviation * noise).clamp(0, 1)


def salt_and_pepper(images: Tensor, places: NDArray[np.int64], share: float) -> Tensor:
    """Each pixel is black or white, in all channels, with probability share / 2 each."""
    drawn = _pixelwise(images, places, 1)
    damaged = images.where(drawn >= share, 0.0)
    return damaged.where((drawn < share / 2) | (drawn >= share), 1.0)


def masking(images: Tensor, places: NDArray[np.int64], share: float) -> Tensor:
    """Each pixel is 0, in all channels, with probability `share`."""
    return images.where(_pixelwise(images, places, 2) >= share, 0.0)


Damage = Callable[[Tensor, NDArray[np.int64], float], Tensor]
"""Images (N, C, H, W) in [0, 1], their places in the part (N,), the strength -> damaged images."""

DAMAGES: Mapping[str, tuple[Damage, float]] = MappingProxyType(
    {
        f"{name}_{100 * strength:.0f}": (damage, strength)
        for name, damage, strengths in (
            ("gaussian", gaussian, DEVIATIONS),
            ("salt_and_pepper", salt_and_pepper, SHARES),
            ("masking", masking, SHARES),
        )
        for strength in strengths
    }
)


def psnr_after(name: str, seen: Seen, _config: EvaluationConfig) -> Tensor:
    """PSNR in dB, from 0 to PSNR_CAP, of reconstructions of images damaged as DAMAGES[name] says,
    against the undamaged images: float32 (min(N, 500),)."""
    damage, strength = DAMAGES[name]
    places = chosen(len(seen.images))
    clean = seen.images[torch.from_numpy(places)]
    found = seen.reconstruct(damage(clean, places, strength))
    errors = (clean - found).square_().mean((1, 2, 3))
    return errors.log10_().mul_(-10).clamp_(max=PSNR_CAP)


def chosen(count: int) -> NDArray[np.int64]:
    """The places (at most 500) of the images that are damaged, of `count`."""
    if count <= DAMAGED:
        return np.arange(count)
    order: NDArray[np.int64] = np.random.default_rng(_SEED).permutation(count)
    return order[:DAMAGED]


def ood_auroc(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Area under the ROC curve, in [0, 1], of the mean squared error as a score of foreign images:
    the probability that a foreign image has a larger error than one of this part (ties count half).
    """
    from sklearn.metrics import roc_auc_score

    own = (seen.images - seen.reconstructions).square().mean((1, 2, 3))
    foreign = seen.train.once("errors of foreign images", lambda: _foreign_errors(seen))
    truth = np.repeat([0, 1], [len(own), len(foreign)])
    return torch.tensor(float(roc_auc_score(truth, torch.cat([own, foreign]).double().numpy())))


def _foreign_errors(seen: Seen) -> Tensor:
    return (seen.others - seen.reconstruct(seen.others)).square().mean((1, 2, 3))


def _pixelwise(images: Tensor, places: NDArray[np.int64], stream: int) -> Tensor:
    """Uniform numbers (N, 1, H, W) in [0, 1)."""
    shape = (1, *images.shape[2:])
    return _drawn(places, lambda drawn: drawn.random(shape, np.float32), stream)


def _drawn(
    places: NDArray[np.int64], draw: Callable[[np.random.Generator], Floats], stream: int = 0
) -> Tensor:
    """What `draw` gives for the random numbers of each place."""
    generators = (np.random.default_rng((_SEED, stream, place)) for place in places.tolist())
    return torch.from_numpy(np.stack([draw(generator) for generator in generators]))
