"""Drawing that stops nothing: a figure that cannot be drawn is left out with a note."""

import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_log = logging.getLogger("bench.figures")
_said: set[tuple[str, str]] = set()


def attempt(draw: Callable[[], T]) -> tuple[T | None, str]:
    """What `draw` returns and "", or None and why it failed."""
    # Figures show results that are safe on disk: no fault of a drawing may cost a run or a sync.
    try:
        return draw(), ""
    except Exception as error:
        reason = " ".join(str(error).split()) or "no reason given"
        return None, f"drawing it failed ({type(error).__name__}: {reason})"


def drawn(figure: str, draw: Callable[[], T]) -> T | None:
    """What `draw` returns; None if it fails, with a note that this process gives once."""
    result, why = attempt(draw)
    if why and (figure, why) not in _said:
        _said.add((figure, why))
        _log.warning("figure %s is left out: %s", figure, why)
    return result
