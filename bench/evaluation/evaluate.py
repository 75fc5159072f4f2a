"""One pass over images -> every metric, one value per image, averaged once in float64.

Scores use the deterministic code on images in [0, 1] derived from uint8, reconstructions clipped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.metrics import per_image, whole_set
from bench.models.base import Autoencoder, Classifier, ImageModel

_BATCH = 500


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images (N, C, H, W), uint8, and their classes (N,), int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


class Evaluation(NamedTuple):
    """`scores[metric]`: float32 (N,); `codes`: float32 (N, code_size); `output_std`: the mean
    over pixels of the reconstructions' standard deviation over images. `whole_loss`: see
    `mean_loss`; None if the protocol does not ask for it."""

    scores: dict[str, NDArray[np.float32]]
    codes: NDArray[np.float32]
    output_std: float
    whole_loss: float | None


class Classification(NamedTuple):
    """`scores[metric]`: float32 (N,); `whole[metric]`: one value for all images. `predicted`: int64
    (N,), `confidence`: float32 (N,), the probability of the predicted class."""

    scores: dict[str, NDArray[np.float32]]
    whole: dict[str, float]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]


class _Batch(NamedTuple):
    x: Tensor
    x_hat: Tensor
    codes: Tensor


def _chunks(model: ImageModel, images: Tensor) -> Iterator[Tensor]:
    """Images in [0, 1] by batches, in the model's memory layout; sets evaluation mode."""
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    model.eval()
    for chunk in images.split(_BATCH):
        yield chunk.to(torch.float32).div_(255.0).contiguous(memory_format=layout)


def _passes(model: Autoencoder, images: Tensor) -> Iterator[_Batch]:
    """Images, reconstructions and codes by batches, contiguous, without gradients."""
    for x in _chunks(model, images):
        codes = model.encode_images(x)
        yield _Batch(x.contiguous(), model.decode_images(codes).contiguous(), codes)


def mean_scores(
    model: ImageModel, data: Labelled, metrics: Sequence[str], config: EvaluationConfig
) -> dict[str, float]:
    """The mean over images of each metric that has a value for every image."""
    sums: dict[str, float] = {}
    for x, labels in zip(_chunks(model, data.images), data.labels.split(_BATCH), strict=True):
        wanted, given = (part.contiguous() for part in model.answers(x, labels))
        for name, values in per_image(metrics, wanted, given, config).items():
            sums[name] = sums.get(name, 0.0) + values.double().sum().item()
    return {name: total / len(data) for name, total in sums.items()}


def classify(model: Classifier, data: Labelled, config: EvaluationConfig) -> Classification:
    """Score every image (at least one) with every metric of `config`."""
    labels = data.labels.cpu()
    chunks = [model.answers(x, labels).given for x in _chunks(model, data.images)]
    logits = torch.cat(chunks).float().cpu()
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    scores = per_image(config.metrics, labels, logits, config)
    return Classification(
        {name: values.numpy() for name, values in scores.items()},
        whole_set(config.metrics, labels, logits, config),
        predicted.numpy(),
        confidence.float().numpy(),
    )


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
        mean_loss(model, images) if config.whole_loss else None,
    )


def mean_loss(model: Autoencoder, images: Tensor) -> float:
    """The mean over images (N, C, H, W), uint8, of the variant's whole training loss.

    Codes are sampled as in training (always with the same random numbers), nothing is corrupted.
    The scale is that of training: the decoder's own value range, penalties included.
    """
    total = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for x in _chunks(model, images):
            # Not under no_grad: some penalties are gradients.
            total += model.loss(x).total.item() * len(x)
    return total / len(images)
