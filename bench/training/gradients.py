"""The loss of a batch and its gradients: by autograd, or directly where that is faster.

In a network of small dense layers up to a third of a step is autograd's bookkeeping and fresh
memory. For such variants with the plain loss, on the CPU, the same products and elementwise kernels
are called here in the same order, into memory that is kept from batch to batch. The results are
autograd's, bit for bit.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models.base import ImageModel
from bench.models.dense import (
    DeepAutoencoder,
    DenseAutoencoder,
    FcAutoencoder,
    MlpAutoencoder,
    PlainAutoencoder,
    TaperedAutoencoder,
)
from bench.models.regularised import DenoisingAutoencoder

Terms = dict[str, Tensor]
"""The mean loss of a batch, "loss", and its parts: scalars, or (S,) of a stack."""
Gradients = Callable[[Tensor, Tensor], Terms]
"""Takes images (N, C, H, W) in [0, 1] and classes (N,); leaves the gradients of the loss in `grad`
of the parameters."""

_PLAIN = (
    *(FcAutoencoder, PlainAutoencoder, DeepAutoencoder, MlpAutoencoder, TaperedAutoencoder),
    DenoisingAutoencoder,
)
"""Loss: the mean squared error alone. Classes, not subclasses: these may change anything."""
_MEAN = 1
"""torch's number for the reduction "mean"."""
_FORWARD: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: torch.relu_,
    nn.Sigmoid: torch.sigmoid_,
    nn.Tanh: torch.tanh_,
}
_grad = torch.ops.aten
_BACKWARD: dict[type[nn.Module], Callable[[Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda g, y: _grad.threshold_backward.grad_input(g, y, 0.0, grad_input=g),
    nn.Sigmoid: lambda g, y: _grad.sigmoid_backward.grad_input(g, y, grad_input=g),
    nn.Tanh: lambda g, y: _grad.tanh_backward.grad_input(g, y, grad_input=g),
}


def gradients_of(model: ImageModel, members: Sequence[ImageModel] = ()) -> Gradients:
    """The way that is faster for a model, or for a stack over the weights of `members`."""
    parameters = [p for each in members or [model] for p in each.parameters()]
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    if isinstance(model, DenseAutoencoder) and type(model) in _PLAIN and on_cpu and not members:
        return _DenseGradients(model)

    def by_autograd(images: Tensor, labels: Tensor) -> Terms:
        loss = model.loss(images, labels)
        for parameter in parameters:
            parameter.grad = None
        loss.total.sum().backward()
        return {name: each.detach() for name, each in {"loss": loss.total, **loss.parts()}.items()}

    return by_autograd


class _DenseGradients:
    """The forward and the backward pass of a chain of linear layers and activations."""

    def __init__(self, model: DenseAutoencoder) -> None:
        self._model = model
        self._layers: list[nn.Linear] = []
        self._after: list[type[nn.Module] | None] = []
        for part in (*model.encoder, *model.decoder):
            if isinstance(part, nn.Linear):
                self._layers.append(part)
                self._after.append(None)
            elif type(part) in _FORWARD:
                self._after[-1] = type(part)
        self._one = torch.ones(())
        self._of_batch: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for layer in self._layers:
            for parameter in (layer.weight, layer.bias):
                parameter.grad = torch.empty_like(parameter)

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor) -> Terms:
        x = self._model.to_range(images)
        seen = self._model.corrupt(x).flatten(1)
        x = x.flatten(1)
        outputs, gradients = self._memory(len(x))
        h = seen
        for layer, after, out in zip(self._layers, self._after, outputs, strict=True):
            torch.addmm(layer.bias, h, layer.weight.t(), out=out)
            if after:
                _FORWARD[after](out)
            h = out
        loss = functional.mse_loss(h, x)
        _grad.mse_loss_backward.grad_input(self._one, h, x, _MEAN, grad_input=gradients[-1])
        for k in range(len(self._layers) - 1, -1, -1):
            layer, after, g = self._layers[k], self._after[k], gradients[k]
            if after:
                _BACKWARD[after](g, outputs[k])
            torch.mm(g.t(), outputs[k - 1] if k else seen, out=layer.weight.grad)
            torch.sum(g, 0, out=layer.bias.grad)
            if k and outputs[k - 1].numel() > 1:
                torch.mm(g, layer.weight, out=gradients[k - 1])
            elif k:  # autograd takes a single number for a transposed matrix
                torch.mm(layer.weight.t(), g.t(), out=gradients[k - 1])
        return {"loss": loss, "reconstruction": loss}

    def _memory(self, count: int) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs of the layers and their gradients, for a batch of so many images."""
        if count not in self._of_batch:
            outputs, gradients = (
                [torch.empty(count, layer.out_features) for layer in self._layers] for _ in range(2)
            )
            self._of_batch[count] = outputs, gradients
        return self._of_batch[count]
