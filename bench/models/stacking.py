"""Seeds of one dense variant as one network: each linear layer holds the weights of all members.

A stack of S members takes images (S, N, C, H, W), N for each member, and gives each member's own
code, reconstruction and loss: members share no number, so results equal those of the single
networks within rounding. Formulas of a variant that stacks (`Variant.stacks`) count their axes
from the last, which is what lets one class serve both.
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from bench.models.base import ImageModel
from bench.models.layers import Noise, StackedLinear, member_view

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
    """One network with copies of the weights of `members`: one variant, size and image shape.

    `generators[s]` draws the noise of member s. Parameters stand in the order of a member's.
    """
    network = copy.deepcopy(members[0])
    for name, layer in members[0].named_modules():
        if isinstance(layer, nn.Linear):
            above, _, last = name.rpartition(".")
            layers = [member.get_submodule(name) for member in members]
            stack = StackedLinear([each for each in layers if isinstance(each, nn.Linear)])
            setattr(network.get_submodule(above), last, stack)
    shared = {id(parameter) for parameter in network.parameters()} - {
        id(parameter)
        for layer in network.modules()
        if isinstance(layer, StackedLinear)
        for parameter in layer.parameters()
    }
    assert not shared, f"{type(members[0]).__name__} has weights outside of linear layers"
    network._noise = MemberNoise(generators)
    return network


def hand_back(network: ImageModel, members: Sequence[ImageModel]) -> None:
    """Copy the weights of a stack into its members."""
    with torch.no_grad():
        for stack, *own in zip(
            network.parameters(), *(member.parameters() for member in members), strict=True
        ):
            for values, parameter in zip(stack, own, strict=True):
                member_view(parameter).copy_(values)
