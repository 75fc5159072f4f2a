"""Whether the runs of a plan fit into the memory of this machine, said before they start."""

import math
from collections.abc import Iterable
from itertools import accumulate

import psutil

from bench.benchmark.checks import check_memory
from bench.core.errors import BadInput, BenchError
from bench.core.spec import RunSpec, SplitSizes
from bench.data.limits import human_size
from bench.execution.stopwatch import Stopwatch

_ALWAYS_FITS = 32 * 32 * 3
"""Numbers in an image, or in its code, up to which a run of any variant takes about a gigabyte."""


def require_memory(specs: Iterable[RunSpec], sizes: SplitSizes, workers: int) -> str:
    """What runs of large images need on so many workers, in words; empty where it is little.

    The images must fit, and the networks in training, of which only those on the CPU are looked at.
    Raises BadInput, with figures, if the memory that is free now is too small.
    """
    check_memory(sizes, workers)
    pixels = math.prod(sizes.image_shape)
    large = [
        spec
        for spec in specs
        if spec.device == "cpu" and max(pixels, spec.latent_dim or 0) > _ALWAYS_FITS
    ]
    if not large:
        return ""
    cells = {(spec.model, spec.latent_dim): spec for spec in large}
    with Stopwatch() as process:
        needs = {cell: _needed(process, spec, sizes) for cell, spec in cells.items()}
    ordered = sorted(large, key=lambda spec: -needs[spec.model, spec.latent_dim])
    largest = ordered[0]
    totals = list(accumulate(needs[spec.model, spec.latent_dim] for spec in ordered[:workers]))
    alone, together = totals[0], totals[-1]
    free = psutil.virtual_memory().available
    if together <= free:
        return f"up to {human_size(together)} of memory are needed, {human_size(free)} are free"
    shape, at_once = "x".join(map(str, sizes.image_shape)), min(workers, len(large))
    at_most = sum(total <= free for total in totals)
    fits = [name for (name, _), need in needs.items() if need <= free]
    advice = [
        *([f"--workers {at_most}"] if at_most else []),
        "smaller images (--image-size)",
        *([f"only models that fit (--model {fits[0]})"] if fits and not at_most else []),
        "a machine with more memory",
    ]
    raise BadInput(
        f"{largest.title.rpartition(' seed')[0]} on images of {shape} needs about "
        f"{human_size(alone)} of memory, {human_size(together)} with {at_once} workers, and "
        f"{human_size(free)} are free; use {', or '.join(advice)}"
    )


def _needed(process: Stopwatch, spec: RunSpec, sizes: SplitSizes) -> int:
    """The bytes of a run; 0 for a model of your own that cannot be built: its runs say why."""
    try:
        return process.needed_bytes(spec, sizes)
    except BenchError:
        if not spec.source:
            raise
        return 0
