"""The common look of all figures: seaborn's white grid, colours and marks that survive grey print.

Colours are seaborn's "colorblind" palette (Okabe and Ito 2008, ten colours); whatever differs by
colour also differs in marker and line style. Nothing here uses pyplot.
"""

import io
from collections.abc import Callable, Mapping
from functools import wraps
from textwrap import fill
from typing import Any, NamedTuple, ParamSpec

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from bench.core.spec import RunRecord
from bench.core.text import for_figure
from bench.metrics import Metric

Arrays = Mapping[str, NDArray[Any]]

DPI = 100
COLOURS: tuple[tuple[float, float, float], ...] = tuple(sns.color_palette("colorblind", 10))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)))
INK, MUTED = "#222222", "#666666"
_MARGIN, _TITLE, _BELOW, _NOTE = 12, 12.5, 9, 8
"""Pixels beside texts, and the sizes of title, context and small print in points."""
_HEAD, _AROUND = 0.58, (3.0, 2.0)
"""Inches: the height of title and context, and a first guess of the space around the panels."""

_LOOK = mpl.RcParams(
    {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("paper", font_scale=1.1),
        # DejaVu comes with matplotlib: the same letters on every machine.
        "font.sans-serif": ["DejaVu Sans"],
        "figure.dpi": DPI,
        "axes.edgecolor": "#bbbbbb",
        "grid.color": "#e4e4e4",
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        # A fixed height: automatic placement above the ticks takes half of the drawing time.
        "axes.titley": 1.0,
        "lines.linewidth": 1.8,
        "legend.framealpha": 0.85,
        "legend.edgecolor": "none",
    }
)

P = ParamSpec("P")


class Canvas(NamedTuple):
    """A figure and its panels from left to right."""

    figure: Figure
    axes: list[Axes]


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Apply the common look to the figure drawn by `draw`, and restore the settings."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_LOOK):
            return draw(*args, **kwargs)

    return wrapped


def describe(record: RunRecord) -> str:
    """The line below the title of a run's figures: data set, variant, code size, seed."""
    spec = record.spec
    recipe = "" if spec.recipe == "default" else f" · {spec.recipe}"
    return f"{spec.dataset_label} · {spec.model} · {_size(record)} · seed {spec.seed}{recipe}"


def _size(record: RunRecord) -> str:
    """The size that tells rows of the run's task apart."""
    return SIZES[record.spec.task](record)


def _classes(record: RunRecord) -> str:
    return f"{len(record.class_names)} classes"


def _code(record: RunRecord) -> str:
    size = int(record.facts["code_size"])
    native = " (native)" if record.spec.latent_dim is None else ""
    if bits := code_bits(record):
        return f"{counted(size, 'index', 'indices')}, {counted(bits, 'bit')}{native}"
    return f"code size {size}{native}" if size else "no code"


SIZES: Mapping[str, Callable[[RunRecord], str]] = {
    "reconstruction": _code,
    "classification": _classes,
}
"""The size of a run in titles of figures, by task."""


def code_bits(record: RunRecord) -> int:
    """The bits of a discrete code, whose numbers are indices; 0 for a code of real numbers."""
    return int(record.facts.get("code_bits", 0))


def counted(count: int, word: str, plural: str = "") -> str:
    """`1 seed`, `3 seeds`: a number with its noun."""
    return f"{count:,} {word if count == 1 else plural or word + 's'}"


def ranked_part(record: RunRecord) -> str:
    """The part that codes and extremes come from: test only if the protocol has no validation."""
    return "validation" if record.spec.split.validation else "test"


def short_name(name: str, longest: int) -> str:
    """A name from outside, for a figure, shortened in its middle, so that names that differ at
    either end stay distinct."""
    if len(name) > longest:
        head = longest // 2
        name = f"{name[:head]}…{name[head + 1 - longest :]}"
    return for_figure(name)


def plot_canvas(columns: int, width: float, height: float) -> Canvas:
    """Panels side by side, of `width` x `height` inches each. They fill the figure until
    `put_title` makes it grow around them."""
    figure = Figure(figsize=(columns * width, height))
    figure.subplots_adjust(0, 0, 1, 1, 0)
    axes = figure.subplots(1, columns, squeeze=False)[0].tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return Canvas(figure, axes)


def put_title(figure: Figure, title: str, below: str, note: str = "") -> None:
    """The last step of a plot: a title and a line of context above it, small print below it.

    The panels keep their size: constrained layout finds the space needed around them, and the
    figure grows by that. A second round uses it, a third the width of the small print.
    """
    panels, around = figure.get_size_inches(), np.array(_AROUND)
    pad = _MARGIN / DPI
    for _ in range(3 if note else 2):
        size = panels + around
        wide, high = max(size[0], title_width(title, below)), size[1] + _HEAD
        figure.set_size_inches(wide, high)
        if note:
            text = wrapped(note, _NOTE, DPI * wide - 2 * _MARGIN)
            figure.supxlabel(text, x=pad / wide, ha="left", size=_NOTE, color=MUTED)
        rect = (0, 0, size[0] / wide, size[1] / high)
        ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, rect=rect).execute(figure)
        boxes = [ax.get_position(original=True) for ax in figure.axes]
        around = size - (wide * sum(box.width for box in boxes), high * boxes[0].height)
    write_title(figure, title, below)


def write_title(figure: Figure, title: str, below: str) -> None:
    """A bold title and a line of context in the upper left corner."""
    left, top = _MARGIN / figure.bbox.width, figure.bbox.height
    figure.text(left, 1 - 10 / top, title, va="top", fontsize=_TITLE, fontweight="bold")
    figure.text(left, 1 - 36 / top, below, va="top", fontsize=_BELOW, color=MUTED)


def title_width(title: str, below: str) -> float:
    """Inches that a title and its context take, including margins."""
    return (max(text_width(title, _TITLE, "bold"), text_width(below, _BELOW)) + 2 * _MARGIN) / DPI


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in pixels of the longest line of a text, at `size` points."""
    label = Figure().text(0, 0, text, fontsize=size, fontweight=weight)
    return float(label.get_window_extent().width)


def wrapped(text: str, size: float, room: float) -> str:
    """Break a text between words into lines no wider than `room` pixels."""
    tries = (fill(text, most, break_on_hyphens=False) for most in range(200, 1, -4))
    return next(lines for lines in tries if text_width(lines, size) <= room)


def score_axis(ax: Axes, metric: Metric, which: str = "x") -> None:
    """Label an axis with a metric: its title, unit and direction."""
    unit = f" in {metric.unit}" if metric.unit else ""
    better = "higher" if metric.higher_is_better else "lower"
    getattr(ax, f"set_{which}label")(f"{metric.title}{unit} ({better} is better)")


def legend_below(ax: Axes, columns: int = 2) -> None:
    """The legend below the axis label, where it covers no data."""
    drop = -46 / (ax.get_window_extent().height or 1)
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(0, drop),
        ncols=columns,
        fontsize=8.5,
        borderaxespad=0,
        handlelength=1.6,
        columnspacing=1.2,
    )


def log_axis(ax: Axes, which: str, fine: bool = False) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 of every decade; `fine`: at more."""
    getattr(ax, f"set_{which}scale")("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(
        LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if fine else (1.0, 2.0, 5.0))
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def to_png(figure: Figure) -> bytes:
    """The figure as PNG bytes at its own resolution."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
