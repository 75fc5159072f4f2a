"""Memory that a run takes at its peak, estimated without allocating the network. In a worker.

With it goes what the process takes that decodes for the worker (`decoding`).

The network is built on torch's meta device, which has shapes and no numbers.
"""

import math

import torch
from torch import Tensor

from bench.core.spec import RunSpec, SplitSizes
from bench.evaluation.evaluate import BATCH
from bench.execution.runner import build_for
from bench.models.base import Autoencoder, ClosedFormAutoencoder, ImageModel

_PROCESS = 600 << 20
"""Interpreter, torch and what it keeps."""
_APART = 320 << 20
"""The same of the process that decodes; it shares libraries with the one that scores."""
_COPIES = 13
"""Of the parameters: weights, gradients, Adam's two moments and the best weights so far; and twice
the four that a checkpoint holds, while it is written."""
_SCORING = 8
"""Batches of images in single precision that the metrics hold at a time."""
_PASSING = 3
"""Scoring keeps nothing for gradients: it holds one part in so many of what a step keeps."""
_SOLVING = 5
"""Matrices in double precision, each as large as the training images or as their covariance."""


def needed_bytes(spec: RunSpec, sizes: SplitSizes) -> int:
    """Bytes of memory of a worker, and of the process that decodes for it, at a run's peak."""
    pixels = math.prod(sizes.image_shape)
    images = 2 * pixels * (sizes.train + sizes.validation + sizes.test)
    scoring = _SCORING * 4 * BATCH * pixels
    with torch.device("meta"):
        model = build_for(spec, sizes.image_shape, sizes.classes)
    apart = _APART if isinstance(model, Autoencoder) else 0
    if isinstance(model, ClosedFormAutoencoder):
        solving = _SOLVING * 8 * min(sizes.train, pixels) * pixels if model.code_size else 0
        return _PROCESS + apart + images + solving + scoring
    parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
    batch = min(spec.train.batch_size, sizes.train)
    activations = _saved_bytes(model, batch)
    passing = activations * BATCH // (batch * _PASSING)
    scoring += passing
    apart += (parameters + passing) * bool(apart)
    return _PROCESS + apart + images + _COPIES * parameters + 2 * activations + scoring


def _saved_bytes(model: ImageModel, batch: int) -> int:
    """What a training step keeps for its gradients; the gradients take as much again."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    with (
        torch.device("meta"),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        images = torch.zeros(batch, *model.image_shape)
        model.train().loss(images, torch.zeros(batch, dtype=torch.int64))
    return sum(saved.values())
