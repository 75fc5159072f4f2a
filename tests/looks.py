"""What tests of figures look at: pixels, texts, that nothing is cut off or printed over."""

import io
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from bench.figures import to_png


def pixels(figure: Figure) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB"))


def texts(figure: Figure) -> list[str]:
    """Every text that is drawn: titles, labels, legends."""
    found = [text.get_text() for text in figure.texts]
    for ax in figure.axes:
        found += [ax.get_xlabel(), ax.get_ylabel(), *(t.get_text() for t in ax.texts)]
        found += [ax.get_title(loc="left")]
        legend = ax.get_legend()
        found += [t.get_text() for t in legend.get_texts()] if legend else []
    return [text for text in found if text]


def assert_texts_inside(figure: Figure) -> None:
    to_png(figure)
    assert_drawn_inside(figure)


def assert_drawn_inside(figure: Figure) -> None:
    """The same of a figure that was drawn before, which takes most of the time."""
    drawn, (wide, high) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0, wide - drawn.x1, high - drawn.y1) >= 0, drawn


def assert_texts_apart(figure: Figure) -> None:
    """No two texts of the figure or on its axes lie over each other."""
    to_png(figure)
    found = [*figure.texts, *(text for ax in figure.axes for text in ax.texts)]
    boxes = {text: text.get_window_extent() for text in found if text.get_text()}
    for one, other in combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one.get_text(), other.get_text())
