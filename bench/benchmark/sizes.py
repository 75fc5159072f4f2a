"""Code sizes that the images cannot fill: PCA beyond its rank, codes larger than an image."""

import math
from collections.abc import Iterable, Sequence

from bench.core.protocol import Protocol
from bench.core.spec import SplitSizes
from bench.core.tasks import TASKS
from bench.models.zoo import variant

Cell = tuple[str, int | None]
"""A variant and its latent size; None: the native code, or a classifier."""


def solvable(protocol: Protocol, cells: Iterable[Cell], sizes: SplitSizes) -> list[Cell]:
    """The cells without those of PCA beyond its rank, where it has no components."""
    beyond = _beyond_rank(protocol, cells := list(cells), sizes)
    return [cell for cell in cells if cell not in beyond]


def size_notes(protocol: Protocol, cells: Sequence[Cell], sizes: SplitSizes) -> list[str]:
    """One line for each kind of size that the images cannot fill, and what follows."""
    pixels = math.prod(sizes.image_shape)
    beyond = {_latent_dim(cell) for cell in _beyond_rank(protocol, cells, sizes)}
    larger = {size for cell in cells if (size := _latent_dim(cell)) >= pixels}
    notes = []
    if beyond:
        notes.append(
            f"{TASKS[protocol.task].reference} is left out at code size {_listed(beyond)}: "
            f"{sizes.train:,} training images of {pixels:,} numbers give it at most "
            f"{_rank(sizes):,} components"
        )
    if larger:
        notes.append(
            f"code size {_listed(larger)} is no bottleneck: an image has {pixels:,} numbers, so "
            "such rows are over-complete and cannot be champions"
        )
    return notes


def _rank(sizes: SplitSizes) -> int:
    """The largest rank of the training images around their mean."""
    return min(math.prod(sizes.image_shape), sizes.train - 1)


def _beyond_rank(protocol: Protocol, cells: Iterable[Cell], sizes: SplitSizes) -> list[Cell]:
    reference, rank = TASKS[protocol.task].reference, _rank(sizes)
    return [cell for cell in cells if cell[0] == reference and _latent_dim(cell) > rank]


def _latent_dim(cell: Cell) -> int:
    """The latent size, that of the origin for a native code; 0 if the network determines it."""
    return cell[1] or variant(cell[0]).native_latent_dim or 0


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(f"{number:,}" for number in sorted(numbers))
