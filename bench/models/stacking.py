"""Seeds of one dense variant as one network over the weights of all members.

A stack of S members takes images (S, N, C, H, W), N for each member, and gives each member's own
code, reconstruction and loss. Members share no number, and each product of matrices is taken member
by member, so results are those of the single networks, bit for bit: rounding differences of 1e-7
grow to 2 % of the final error in deep networks. Formulas of a variant that stacks
(`Variant.stacks`) count their axes from the last, which is what lets one class serve both.
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from bench.models.base import ImageModel
from bench.models.layers import Noise, StackedLinear

Model = TypeVar("Model", bound=ImageModel)


class MemberNoise(Noise):
    """Noise of a stack: each member draws from its own generator what it would draw alone."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._generators = tuple(generators)

    def normal_like(self, x: Tensor) -> Tensor:
        """Draws from N(0, 1)."""
        drawn = torch.empty_like(x)
        for member, generator in zip(drawn, self._generators, strict=True):
            member.normal_(generator=generator)
        return drawn

    def uniform_like(self, x: Tensor) -> Tensor:
        """Draws from U(0, 1)."""
        drawn = torch.empty_like(x)
        for member, generator in zip(drawn, self._generators, strict=True):
            member.uniform_(generator=generator)
        return drawn

    def signs_like(self, x: Tensor) -> Tensor:
        """-1 or 1, each with probability 1/2."""
        drawn = torch.empty_like(x)
        for member, generator in zip(drawn, self._generators, strict=True):
            member.random_(0, 2, generator=generator)
        return drawn * 2 - 1


def stacked(members: Sequence[Model], generators: Sequence[torch.Generator]) -> Model:
    """One network over the weights of `members`, which stay theirs: one variant, size, image shape.

    `generators[s]` draws the noise of member s.
    """
    network = copy.deepcopy(members[0])
    for name, layer in members[0].named_modules():
        if isinstance(layer, nn.Linear):
            above, _, last = name.rpartition(".")
            layers = [member.get_submodule(name) for member in members]
            stack = StackedLinear([each for each in layers if isinstance(each, nn.Linear)])
            setattr(network.get_submodule(above), last, stack)
    left = next(network.parameters(), None)
    assert left is None, f"{type(members[0]).__name__} has weights outside of linear layers"
    network._noise = MemberNoise(generators)
    return network
