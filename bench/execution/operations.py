"""The cost of a network in multiply-adds, by the formulas of torch's own counter."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.evaluation.scoring import device_of
from bench.models.base import ImageModel


class _Counter(TorchDispatchMode):
    """Adds up the operations of what runs in its context.

    `FlopCounterMode` gives the same count (tests/test_runner.py), but imports torch's compiler:
    50 MB of a worker's memory.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, so the compiler need not be told to stay away."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


def multiply_adds(model: ImageModel) -> float:
    """Multiply-adds per image (for an autoencoder: to encode and decode it): half of torch's count
    of operations."""
    device = device_of(model)
    x = torch.zeros(1, *model.image_shape, device=device)
    model.eval()
    with torch.no_grad(), _Counter() as counter:
        model.answers(x, torch.zeros(1, dtype=torch.int64, device=device))
    return float(counter.total) / 2
