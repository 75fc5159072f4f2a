"""Building blocks shared by several families."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

UNIT_RANGE = (0.0, 1.0)


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
