"""Building blocks shared by several families."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

UNIT_RANGE = (0.0, 1.0)


class Noise:
    """Where a network draws its noise in training: torch's global generator."""

    def normal_like(self, x: Tensor) -> Tensor:
        """Draws from N(0, 1), in the shape of `x`."""
        return torch.randn_like(x)

    def uniform_like(self, x: Tensor) -> Tensor:
        """Draws from U(0, 1), in the shape of `x`."""
        return torch.rand_like(x)

    def signs_like(self, x: Tensor) -> Tensor:
        """-1 or 1, each with probability 1/2, in the shape of `x`."""
        return torch.randint_like(x, 2) * 2 - 1


def member_view(parameter: Tensor) -> Tensor:
    """A weight (n_out, n_in) or bias (n_out,) of a member, or what goes with it (gradient, moments
    of Adam), in the layout of its place in a stack; and back: (n_in, n_out), (1, n_out)."""
    values = parameter.detach()
    return values.T if values.dim() == 2 else values[None]


class StackedLinear(nn.Module):
    """The linear layers of S members: (S, N, n_in) -> (S, N, n_out)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        # (S, n_in, n_out): the product's gradient comes in this layout, so that none is copied.
        self.weights = nn.Parameter(torch.stack([member_view(layer.weight) for layer in layers]))
        self.biases = nn.Parameter(torch.stack([member_view(layer.bias) for layer in layers]))

    @property
    def weight(self) -> Tensor:
        """(S, n_out, n_in), as that of `nn.Linear`."""
        return self.weights.mT

    def forward(self, x: Tensor) -> Tensor:
        """x W^T + b of every member."""
        return torch.baddbmm(self.biases, x, self.weights)


def linear_layers(network: nn.Module) -> "list[nn.Linear | StackedLinear]":
    """The linear layers of a network, or of a stack of it, in order."""
    return [part for part in network.modules() if isinstance(part, nn.Linear | StackedLinear)]


class _MemberErrors(torch.autograd.Function):
    """The mean squared error of each member, whose difference is computed once for both passes."""

    @staticmethod
    def forward(ctx: Any, x_hat: Tensor, x: Tensor) -> Tensor:
        difference = (x_hat - x).flatten(1)
        ctx.save_for_backward(difference)
        ctx.shape = x.shape
        rows = difference.unsqueeze(1)
        return torch.bmm(rows, rows.mT).flatten() / difference.shape[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        scale = gradients[0] * (2 / difference.shape[1])
        return (difference * scale.unsqueeze(1)).view(ctx.shape), None


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """The mean squared error of images (N, C, H, W), or of each member of a stack (S, N, C, H, W):
    (S,). `x` gets no gradient."""
    if x.dim() == 4:
        return functional.mse_loss(x_hat, x)
    errors: Tensor = _MemberErrors.apply(x_hat, x)
    return errors


def dense_stack(
    sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU
) -> list[nn.Module]:
    """Linear layers `sizes[0] -> sizes[1] -> ...` activations in between, none at the end."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), activation()]
    return layers[:-1]


def output_activation(value_range: tuple[float, float]) -> nn.Module:
    """Last layer of a decoder: Sigmoid for images on [0, 1], Tanh for images on [-1, 1]."""
    return nn.Sigmoid() if value_range == UNIT_RANGE else nn.Tanh()


def dense_bottleneck(
    map_size: int, latent_dim: int | None
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Linear(map, d) after an encoder, Linear(d, map) and ReLU before a decoder.

    Empty without a `latent_dim`: then the whole map is the code.
    """
    if latent_dim is None:
        return [], []
    return [nn.Linear(map_size, latent_dim)], [nn.Linear(latent_dim, map_size), nn.ReLU()]


def draw_glorot_uniform(network: nn.Module) -> None:
    """Weights from U(-a, a), a = sqrt(6 / (fan in + fan out)), biases 0, as Keras draws them.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, equation 16.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
