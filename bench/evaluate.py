"""One pass over images -> every metric, one value an image, averaged once in float64.

Scores use the deterministic code on images in [0, 1] derived from uint8, reconstructions clipped.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.metrics import per_image
from bench.models.base import Autoencoder
from bench.protocol import EvaluationConfig

_BATCH = 500


class Evaluation(NamedTuple):
    """`scores[metric]`: float32 (N,); `codes`: float32 (N, code_size); `output_std`: the mean
    over pixels of the reconstructions' standard deviation over images."""

    scores: dict[str, NDArray[np.float32]]
    codes: NDArray[np.float32]
    output_std: float


class _Batch(NamedTuple):
    x: Tensor
    x_hat: Tensor
    codes: Tensor


def _passes(model: Autoencoder, images: Tensor) -> Iterator[_Batch]:
    """Images, reconstructions and codes by batches, contiguous, without gradients."""
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    model.eval()
    with torch.no_grad():
        for chunk in images.split(_BATCH):
            x = chunk.to(torch.float32).div_(255.0)
            codes = model.encode_images(x.contiguous(memory_format=layout))
            yield _Batch(x, model.decode_images(codes).contiguous(), codes)


def mean_scores(
    model: Autoencoder, images: Tensor, metrics: Sequence[str], config: EvaluationConfig
) -> dict[str, float]:
    """The mean over images (N, C, H, W), uint8, of each metric."""
    sums = dict.fromkeys(metrics, 0.0)
    for batch in _passes(model, images):
        for name, values in per_image(metrics, batch.x, batch.x_hat, config).items():
            sums[name] += values.double().sum().item()
    return {name: total / len(images) for name, total in sums.items()}


def evaluate(model: Autoencoder, images: Tensor, config: EvaluationConfig) -> Evaluation:
    """Score every image (N, C, H, W), uint8, N at least 1, with every metric of `config`."""
    scores: dict[str, list[Tensor]] = {name: [] for name in config.metrics}
    codes: list[Tensor] = []
    total = squares = torch.zeros((), dtype=torch.float64)
    for batch in _passes(model, images):
        for name, values in per_image(config.metrics, batch.x, batch.x_hat, config).items():
            scores[name].append(values.float().cpu())
        codes.append(batch.codes.float().cpu())
        outputs = batch.x_hat.double().cpu()
        total = total + outputs.sum(dim=0)
        squares = squares + outputs.square().sum(dim=0)
    variance = (squares / len(images) - (total / len(images)).square()).clamp_min(0)
    return Evaluation(
        {name: torch.cat(values).numpy() for name, values in scores.items()},
        torch.cat(codes).numpy(),
        variance.sqrt().mean().item(),
    )
