"""Forecasts for clusters of several sizes, shown in a dry run without a cluster."""

from collections.abc import Callable

from bench.cli import console

_WORKERS = (1, 2, 4, 8, 16, 32, 64)


def seconds_by_workers(seconds: Callable[[int], float], most: int) -> dict[int, float]:
    """Wall-clock seconds by the number of workers, up to the `most` that have work at once."""
    return {count: seconds(count) for count in _WORKERS if count < 2 * max(most, 1)}


def show(found: dict[int, float]) -> None:
    """Print them as a table."""
    rows = [(str(count), console.duration(seconds)) for count, seconds in found.items()]
    console.print_table("", (">GPUs (or cores)", ">about, if as fast as this machine's"), rows)
