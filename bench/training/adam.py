"""Fused Adam and AdamW, by torch's functional form.

`torch.optim.Adam` imports torch's compiler when it is made: 110 MB of each worker's memory and
seconds of its start, which nothing here uses. The arithmetic is the same, bit for bit.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam

BETAS = (0.9, 0.999)
"""Decay of the two moments (Kingma and Ba 2015)."""

_SLOTS = ("step", "exp_avg", "exp_avg_sq")


class FusedAdam:
    """Adam (Kingma and Ba 2015), or AdamW (Loshchilov and Hutter 2019) if `decoupled`."""

    def __init__(
        self, parameters: Iterable[Parameter], *, weight_decay: float, decoupled: bool
    ) -> None:
        self._parameters = list(parameters)
        self._weight_decay, self._decoupled = weight_decay, decoupled
        self._state: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, lr: float, eps: float) -> None:
        """Update every parameter that has a gradient, at this rate and epsilon."""
        used = [(i, p) for i, p in enumerate(self._parameters) if p.grad is not None]
        slots = [self._slots(index, parameter) for index, parameter in used]
        steps, first, second = ([slot[name] for slot in slots] for name in _SLOTS)
        adam(
            [parameter for _, parameter in used],
            [parameter.grad for _, parameter in used if parameter.grad is not None],
            first,
            second,
            [],
            steps,
            fused=True,
            decoupled_weight_decay=self._decoupled,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=lr,
            weight_decay=self._weight_decay,
            eps=eps,
            maximize=False,
        )

    def _slots(self, index: int, parameter: Parameter) -> dict[str, Tensor]:
        """The number of steps and the two moments of a parameter, from 0."""
        if index not in self._state:
            self._state[index] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        return self._state[index]

    def state_dict(self) -> Mapping[int, Mapping[str, Tensor]]:
        """Steps and moments, by the index of the parameter."""
        return self._state

    def load_state_dict(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Continue from the steps and moments of `state_dict`, on the parameters' devices."""
        for index, given in state.items():
            for name, slot in self._slots(index, self._parameters[index]).items():
                slot.copy_(given[name])
