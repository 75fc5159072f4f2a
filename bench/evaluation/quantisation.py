"""Real codes sent with few bits per number: what an encoder packs into single digits is lost.

Each number of a code is quantised uniformly between its 0.1 % and its 99.9 % quantile over the
training codes; values outside are clipped, and a number that is constant between these is sent as
its value. Uniform scalar quantisation: Gersho and Gray, "Vector quantization and signal
compression", 1992, chapter 5, with the ends of the range among the 2^b values.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LOWEST, HIGHEST = 0.001, 0.999
"""Quantiles of the training codes between which values are told apart."""
_VALUES_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class Ranges:
    """The range of each number of a code: float32 (size,), `low` <= `high`, on the CPU."""

    low: Tensor
    high: Tensor


def ranges_of(codes: Tensor) -> Ranges:
    """The ranges of training codes (N, size), N at least 1; quantiles are interpolated linearly."""
    at = torch.tensor([LOWEST, HIGHEST], dtype=torch.float64)
    columns = max(1, _VALUES_AT_ONCE // len(codes))
    found = [_quantiles(part.cpu().double(), at) for part in codes.split(columns, dim=1)]
    low, high = torch.cat(found, dim=1).float()
    return Ranges(low, high)


def _quantiles(values: Tensor, at: Tensor) -> Tensor:
    """As `torch.quantile` over the first axis, (2, columns), for any number of rows."""
    ordered = values.sort(dim=0).values
    place = at * (len(values) - 1)
    below = place.floor().long()
    above = (below + 1).clamp_max(len(values) - 1)
    found: Tensor = torch.lerp(ordered[below], ordered[above], (place - below).unsqueeze(1))
    return found


def quantised(codes: Tensor, ranges: Ranges, bits: int) -> Tensor:
    """Codes (N, size) after they were sent with `bits` bits per number, on their device.

    2^bits equally spaced values from `low` to `high` of each number; the nearest is sent.
    """
    values = codes.cpu().double()
    low, high = ranges.low.double(), ranges.high.double()
    step = (high - low) / (2**bits - 1)
    index = ((values.clamp(low, high) - low) / step.where(step > 0, 1.0)).round()
    sent: Tensor = (low + index * step).float().to(codes.device)
    return sent
