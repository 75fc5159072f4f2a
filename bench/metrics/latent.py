"""Diagnostics of collapsed codes or outputs; not used for ranking."""

import torch
from torch import Tensor

_COLUMNS_AT_ONCE = 256


def active_units(codes: Tensor, threshold: float = 0.01) -> int:
    """How many numbers of a code vary over the data: Var_x(z_i) > threshold, codes [N, ...].

    Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, section 5: the
    variance is that of the mean code, and 0.01 is small against the prior's variance of 1. Codes
    of deterministic autoencoders have no prior and any scale: there the count only says how many
    numbers vary by more than 0.1 in the network's own units, so 0 means a dead code, while a count
    below d may only reflect the scale. A number that is not finite counts as inactive.
    """
    return int((_variance_by_column(codes) > threshold).sum())


def active_fraction(codes: Tensor) -> float:
    """Share of the numbers of codes [N, ...] that are not 0: how sparse a rectified code is.

    1 for codes without rectification, whose numbers are hardly ever exactly 0.
    """
    return float((codes != 0).double().mean())


def dead_codes(codes: Tensor, levels: int) -> int:
    """How many of the values 0 to `levels` - 1 never occur in the discrete codes [N, ...]."""
    return levels - len(codes.detach().flatten().long().cpu().unique())


def _variance_by_column(values: Tensor) -> Tensor:
    """Population variance over the first axis, float64, a few columns at a time."""
    columns = torch.split(values.detach().flatten(1), _COLUMNS_AT_ONCE, dim=1)
    # .cpu(): not every device supports float64.
    return torch.cat([part.cpu().double().var(0, correction=0) for part in columns])
