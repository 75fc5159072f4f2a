"""Building blocks that several families share."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn


def dense_stack(
    sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU
) -> list[nn.Module]:
    """Linear layers `sizes[0] -> sizes[1] -> ...` with the activation between, none at the end."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), activation()]
    return layers[:-1]
