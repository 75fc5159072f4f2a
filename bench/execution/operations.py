"""The cost of a network in multiply-adds.

`torch.utils.flop_counter` gives the same count (tests/test_models.py), but imports Triton and
torch's compiler: 130 MB of each worker's memory. It leaves out LSTMs that run as one kernel.
"""

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.evaluation.scoring import device_of
from bench.models.base import ImageModel


def _of_product(a: Tensor, b: Tensor) -> int:
    """(..., n, k) times (..., k, m)."""
    return prod(a.shape) * b.shape[-1]


def _of_convolution(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    """`weight` at each place of the smaller map: the output, or the input if transposed."""
    places = (x if transposed else out).shape[2:]
    return x.shape[0] * prod(places) * prod(weight.shape)


def _of_lstm(x: Tensor, weights: Iterable[Tensor]) -> int:
    """`x` (steps, n, input) or (n, steps, input), and the weights of all layers and directions.

    A step multiplies input and hidden state by the matrices of the four gates (Hochreiter and
    Schmidhuber 1997, the forget gate of Gers et al. 2000; formulas in `torch.nn.LSTM`): for each
    layer and direction 4 * hidden * (input + hidden). Vectors among the weights are biases.
    """
    matrices = sum(prod(weight.shape) for weight in weights if weight.ndim == 2)
    return prod(x.shape[:-1]) * matrices


_COUNTED: Mapping[Any, Callable[[tuple[Any, ...], Tensor], int]] = {
    torch.ops.aten.mm: lambda args, _: _of_product(args[0], args[1]),
    torch.ops.aten.bmm: lambda args, _: _of_product(args[0], args[1]),
    torch.ops.aten.addmm: lambda args, _: _of_product(args[1], args[2]),
    torch.ops.aten.baddbmm: lambda args, _: _of_product(args[1], args[2]),
    torch.ops.aten.convolution: lambda args, out: _of_convolution(args[0], args[1], out, args[6]),
    # An LSTM as one kernel, of a CPU, of NVIDIA and of Apple; elsewhere it consists of products.
    torch.ops.aten.mkldnn_rnn_layer: lambda args, _: _of_lstm(args[0], args[1:3]),
    torch.ops.aten._cudnn_rnn: lambda args, _: _of_lstm(args[0], args[1]),
    torch.ops.aten._lstm_mps: lambda args, _: _of_lstm(args[0], args[2]),
}
"""Multiply-adds of the operations that have some, by their arguments and result."""


class _Counter(TorchDispatchMode):
    """Adds up the multiply-adds of what runs in its context."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

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
        if (counted := _COUNTED.get(func.overloadpacket)) is not None:
            self.total += counted(args, out)
        return out


def multiply_adds(model: ImageModel) -> float:
    """Multiply-adds per image; for an autoencoder, to encode and decode it."""
    device = device_of(model)
    x = torch.zeros(1, *model.image_shape, device=device)
    model.eval()
    with torch.no_grad(), _Counter() as counter:
        model.answers(x, torch.zeros(1, dtype=torch.int64, device=device))
    return float(counter.total)
