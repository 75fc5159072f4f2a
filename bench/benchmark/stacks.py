"""Which missing runs train as one network: seeds of a cell, where the CPU was measured faster.

A stack trains on one worker, so it must also leave no other worker idle: the choice is that of
the shortest forecast.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.core.spec import RunSpec, SplitSizes, Stack, TrialSpec, cells_of
from bench.models.zoo import variant

LEAST_GAIN = 1.05
"""Smaller gains are within the spread of such short measurements."""
_LEAST_SAVED = 0.05
"""For less, runs train one by one: seeds of a stack end at about the same time, and none before."""
_MOST = 16
"""Seeds in a stack; beyond, gains grow no further."""
_REGISTER = 16
"""Numbers in the widest register of a processor. Where the pixels of an image fill whole ones, the
sigmoid of a stack gives the bits that it gives each member alone: it rounds the last numbers of a
tensor, those that fill no register, differently."""
_SMALL = 32 * 32 * 3
"""Numbers in an image, or in its code, up to which weights are small: a stack holds those of all
of its members at once, with gradients and moments."""


def may_stack(specs: Iterable[RunSpec], sizes: SplitSizes) -> list[list[RunSpec]]:
    """The cells of which two runs or more could train as one network."""
    pixels = math.prod(sizes.image_shape)
    fitting = [
        spec
        for spec in specs
        if not isinstance(spec, TrialSpec)
        and variant(spec.model).stacks
        and spec.device == "cpu"
        and max(pixels, spec.latent_dim or 0) <= _SMALL
        and pixels % _REGISTER == 0
    ]
    return [cell for cell in cells_of(fitting).values() if len(cell) > 1]


def chosen_stacks(
    cells: Sequence[Sequence[RunSpec]],
    gains: Mapping[str, float],
    workers: int,
    seconds: Callable[[Sequence[Stack]], float],
) -> tuple[Stack, ...]:
    """The stacks, of two seeds or more, with which a plan takes the fewest seconds.

    `gains`: how many times as fast a run trains in a stack, by run key; `seconds`: the forecast of
    the plan with some of its runs in stacks. Compared are: none, each cell as one stack, each cell
    in as many stacks as there are workers, and these with the last cells one by one. There are
    none where the whole plan would save less than _LEAST_SAVED of its time.
    """
    faster = [cell for cell in cells if gains[cell[0].run_key] >= LEAST_GAIN]
    found: list[tuple[Stack, ...]] = [()]
    for parts in sorted({1, workers}):
        stacks: tuple[Stack, ...] = ()
        for cell in faster:
            stacks += tuple(part for part in _cut(cell, parts) if len(part) > 1)
            found.append(stacks)
    best = min(found, key=seconds)
    return best if seconds(best) <= (1 - _LEAST_SAVED) * seconds(()) else ()


def _cut(cell: Sequence[RunSpec], parts: int) -> list[Stack]:
    """A cell in stacks of nearly equal size, none larger than _MOST."""
    count = max(min(parts, len(cell)), math.ceil(len(cell) / _MOST))
    return [tuple(cell[place::count]) for place in range(count)]
