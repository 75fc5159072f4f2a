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


_CACHE_LINE = 64
"""Bytes. Products of the same matrices may round differently where these begin at other places
within a line; torch begins every tensor at the start of one."""


def _apart(stack: Tensor) -> list[Tensor]:
    """The matrix of each member, at the start of a cache line, as it is alone."""
    return [own if own.data_ptr() % _CACHE_LINE == 0 else own.clone() for own in stack]


class _Products(torch.autograd.Function):
    """The linear layers of members, each product computed as `nn.Linear` does: the same bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(x, *parameters)
        weights, biases = parameters[: len(x)], parameters[len(x) :]
        out = x.new_empty(*x.shape[:2], len(biases[0]))
        _fill(out, torch.addmm, biases, _apart(x), [weight.T for weight in weights])
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        weights, given = parameters[: len(x)], _apart(gradients[0])
        of_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        if of_x is not None:
            _fill(of_x, torch.mm, given, weights)
        of_weights = [torch.mm(y.T, rows) for y, rows in zip(given, _apart(x), strict=True)]
        return (of_x, *of_weights, *gradients[0].sum(dim=1))


def _fill(out: Tensor, compute: Callable[..., Tensor], *given: Sequence[Tensor]) -> None:
    """Write what is computed of each member's matrices to its place in a stack."""
    for own, *matrices in zip(out, *given, strict=True):
        if own.data_ptr() % _CACHE_LINE == 0:
            compute(*matrices, out=own)
        else:
            own.copy_(compute(*matrices))


class StackedLinear(nn.Module):
    """The linear layers of S members, whose weights stay theirs: (S, N, n_in) -> (S, N, n_out)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self._layers = tuple(layers)  # a tuple keeps them from being submodules

    @property
    def weight(self) -> Tensor:
        """(S, n_out, n_in)."""
        return torch.stack([layer.weight for layer in self._layers])

    @property
    def bias(self) -> Tensor:
        """(S, n_out)."""
        return torch.stack([layer.bias for layer in self._layers])

    def forward(self, x: Tensor) -> Tensor:
        """x W^T + b of every member."""
        weights = [layer.weight for layer in self._layers]
        biases = [layer.bias for layer in self._layers]
        out: Tensor = _Products.apply(x, *weights, *biases)
        return out


def linear_layers(network: nn.Module) -> "list[nn.Linear | StackedLinear]":
    """The linear layers of a network, or of a stack of it, in order."""
    return [part for part in network.modules() if isinstance(part, nn.Linear | StackedLinear)]


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of matrices, or of each member of a stack (S, n, k), (S, k, m), with the same bits."""
    return a @ b if a.dim() == 2 else torch.stack(list(map(torch.mm, _apart(a), _apart(b))))


class _MemberErrors(torch.autograd.Function):
    """The mean squared error of each member, as `mse_loss` computes it and its gradient."""

    @staticmethod
    def forward(ctx: Any, x_hat: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x_hat, x)
        return torch.stack(list(map(functional.mse_loss, x_hat, x)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x_hat, x = ctx.saved_tensors
        scale = gradients[0] * (2 / x[0].numel())
        return (x_hat - x).mul_(scale.view(-1, *[1] * (x.dim() - 1))), None


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
