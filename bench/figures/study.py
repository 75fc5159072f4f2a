"""Figures of a study: course of the search, importance of settings, effect of the budget."""

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.core.protocol import Scalar
from bench.figures.style import (
    COLOURS,
    INK,
    MUTED,
    legend_below,
    log_axis,
    plot_canvas,
    put_title,
    styled,
)
from bench.metrics import METRICS

_OUTCOMES: Mapping[str, tuple[str | tuple[float, float, float], str]] = {
    "complete": (COLOURS[0], "o"),
    "pruned": (MUTED, "x"),
    "diverged": (COLOURS[3], "X"),
}
_KNOWN = {"default": "--", "origin": ":"}
_LINE_KEYS = {
    ("complete", ""): "complete",
    ("pruned", ""): "pruned at the cross",
    ("diverged", ""): "diverged at the mark",
    # One trial, with the search's seed: not the row "default" of the tables, over their seeds.
    ("complete", "default"): "the default recipe, a trial of this search",
    ("complete", "origin"): "the origin's recipe, a trial of this search",
}
"""Names of the trials' lines, by outcome and source."""


@dataclass(frozen=True)
class TrialPoint:
    """A trial that counts. `value`: the selection metric that it reached (if pruned, when it was
    stopped); `values`: the same by epoch."""

    number: int
    outcome: str
    source: str
    value: float | None
    settings: Mapping[str, Scalar]
    values: Mapping[int, float]
    epochs: int


@dataclass(frozen=True)
class StudyTrials:
    """A study as input of its figures. `log`: settings on a log scale; `importance`: by setting,
    the largest first, as computed by `evaluator` (empty: too few trials)."""

    name: str
    about: str
    metric: str
    epochs: int
    log: Set[str]
    points: tuple[TrialPoint, ...]
    importance: Mapping[str, float]
    evaluator: str

    @property
    def complete(self) -> list[TrialPoint]:
        """The trials that were trained to the end."""
        return [p for p in self.points if p.outcome == "complete" and p.value is not None]

    @property
    def lost(self) -> list[TrialPoint]:
        """The trials without a value: they diverged in their first epoch."""
        return [p for p in self.points if p.value is None]

    @property
    def context(self) -> str:
        """The line below a title; it mentions trials that have no value and are not drawn."""
        return f"{self.about}, {len(self.lost)} without a value" if self.lost else self.about

    @property
    def label(self) -> str:
        """The label of the value axis."""
        metric = METRICS[self.metric]
        better = "higher" if metric.higher_is_better else "lower"
        return f"validation {self.metric} ({better} is better)"

    def best(self, values: list[float], *, worst: bool = False) -> float:
        """The best of some values, or the worst."""
        return max(values) if METRICS[self.metric].higher_is_better != worst else min(values)


@dataclass(frozen=True)
class StudyFigureRow:
    """One kind of figure of a study; `complete`: how many complete trials it needs."""

    id: str
    title: str
    draw: Callable[[StudyTrials], Figure]
    complete: int = 1
    importance: bool = False

    def can_draw(self, trials: StudyTrials) -> bool:
        """Whether the study has what this figure shows."""
        enough = len(trials.complete) >= self.complete
        return enough and (bool(trials.importance) or not self.importance)


@styled
def history(trials: StudyTrials) -> Figure:
    """Every trial's value by number, and the best complete one so far."""
    figure, (ax,) = plot_canvas(1, 6.9, 2.8)
    _scatter(ax, trials, lambda point: point.number)
    values = map(_value, trials.complete)
    best = list(accumulate(values, lambda *two: trials.best(list(two))))
    # Up to the last trial: later pruned or diverged ones did not improve the best.
    numbers = [p.number for p in trials.complete] + [max(p.number for p in trials.points)]
    ax.step(numbers, [*best, best[-1]], where="post", color=INK, label="best so far")
    ax.set_xlabel("trial")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _value_axis(ax, trials, "y")
    _legend_beside(ax)
    put_title(figure, "Trials in the order they were drawn", trials.context)
    return figure


@styled
def importance(trials: StudyTrials) -> Figure:
    """The share of the variance of the complete trials' values that each setting explains."""
    names = list(trials.importance)[::-1]
    figure, (ax,) = plot_canvas(1, 5.1, 0.3 + 0.4 * len(names))
    bars = ax.barh(names, [trials.importance[name] for name in names], color=COLOURS[0], height=0.6)
    ax.bar_label(bars, fmt="%.2f", padding=3, color=INK)
    ax.set_xlim(0, 1.08 * max(trials.importance.values()))
    ax.set_xlabel("share of the variance explained")
    title = f"What mattered ({trials.evaluator})"
    put_title(figure, title, f"{trials.about}, {len(trials.complete)} complete")
    return figure


@styled
def slices(trials: StudyTrials) -> Figure:
    """The value against each setting separately."""
    names = _names(trials)
    figure, axes = plot_canvas(len(names), 2.8, 2.5)
    for ax, name in zip(axes, names, strict=True):
        places, ticks = _positions(trials, name)
        _scatter(ax, trials, lambda point, at=places: at[point.number])  # type: ignore[misc]
        if ticks:
            ax.set_xticks(range(len(ticks)), ticks)
        elif name in trials.log:
            ax.set_xscale("log")
        ax.set_title(name, pad=9)
        _value_axis(ax, trials, "y", label=ax is axes[0])
    _legend_beside(axes[-1])
    put_title(figure, "One setting at a time", trials.context)
    return figure


@styled
def parallel_coordinates(trials: StudyTrials) -> Figure:
    """One line per complete trial through all settings to its value; the best ones are dark."""
    names = _names(trials)
    figure, (ax,) = plot_canvas(1, 1.8 + 1.5 * len(names), 3.0)
    columns = [_unit(trials, name) for name in names]
    points = sorted(trials.complete, key=_value, reverse=not _higher(trials))
    for place, point in enumerate(points):
        share = place / max(len(points) - 1, 1)
        heights = [column[point.number] for column in columns] + [share]
        ax.plot(range(len(heights)), heights, color=COLOURS[0], alpha=0.12 + 0.8 * share**3, lw=1.4)
    # The lines meet at the values named by the texts: a box keeps the texts legible.
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.2}
    for x, name in enumerate(names):
        for y, text in _ticks(trials, name):
            ax.text(x + 0.05, y, text, fontsize=8, color=INK, va="center", bbox=box, zorder=5)
    ax.set_xticks(range(len(names) + 1), [*names, f"order by {trials.metric}"])
    ax.set_yticks([])
    ax.grid(visible=True, axis="x")
    ax.text(len(names), 1.04, f"best {_value(points[-1]):.4g}", ha="right", fontsize=9)
    below = f"{trials.about}, {len(points)} complete"
    put_title(figure, "All settings of the complete trials", below)
    return figure


@styled
def intermediate_values(trials: StudyTrials) -> Figure:
    """The best value so far by epoch, one line per trial; pruned ones end early."""
    figure, (ax,) = plot_canvas(1, 6.9, 3.0)
    for point in trials.points:
        if point.values:
            line = _line(point.outcome, point.source)
            line.set_data(list(point.values), list(point.values.values()))
            line.set_markevery([-1])
            ax.add_line(line)
    ax.autoscale_view()
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _value_axis(ax, trials, "y")
    _legend_beside(ax, _line_keys(trials))
    put_title(figure, "Best value so far by epoch", trials.context)
    return figure


def _line(outcome: str, source: str = "") -> Line2D:
    """The look of a trial's line, with a mark for its outcome. Pruned lines are above complete
    ones, which would hide their start; the few known recipes are on top."""
    colour, marker = _OUTCOMES[outcome]
    if source in _KNOWN:
        mark = "" if outcome == "complete" else marker
        return Line2D([], [], color=INK, ls=_KNOWN[source], lw=1.7, marker=mark, ms=6, zorder=3)
    if outcome == "complete":
        return Line2D([], [], color=colour, lw=1.1, alpha=0.6)
    return Line2D([], [], color=colour, lw=0.8, marker=marker, ms=6, mew=1.3, zorder=2.5)


def _line_keys(trials: StudyTrials) -> list[Line2D]:
    """A legend entry for each look that occurs. A known recipe's line looks the same for every
    outcome except for the mark, which the entry of its outcome explains."""
    drawn = [point for point in trials.points if point.values]
    looks = {("complete", p.source) for p in drawn if p.source or p.outcome == "complete"}
    looks |= {(p.outcome, "") for p in drawn if p.outcome != "complete"}
    keys = {label: _line(*look) for look, label in _LINE_KEYS.items() if look in looks}
    for label, key in keys.items():
        key.set_label(label)
    return list(keys.values())


@styled
def budget(trials: StudyTrials) -> Figure:
    """Expected best of k trials in random order (Dodge et al. 2019), against k."""
    figure, (ax,) = plot_canvas(1, 6.3, 2.8)
    known = [_value(p) for p in trials.points if p.value is not None]
    # A trial that diverged in its first epoch has no value but did cost time. It counts as the
    # worst of the others: without it every budget would look better than it is.
    values = known + [trials.best(known, worst=True)] * len(trials.lost)
    expected = expected_best(values, higher_is_better=_higher(trials))
    numbers, label = range(1, len(values) + 1), "expected best of k, any order"
    ax.plot(numbers, expected, "o-", color=COLOURS[0], ms=3.5, label=label)
    default = [_value(p) for p in trials.complete if p.source == "default"]
    if default:
        ax.axhline(default[0], ls="--", color=INK, lw=1.2, label=_LINE_KEYS["complete", "default"])
    ax.set_xlabel("trials k (a pruned one counts with the value that it was stopped at)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _value_axis(ax, trials, "y")
    legend_below(ax)
    counted = f"{trials.context} (counted as the worst)" if trials.lost else trials.context
    put_title(figure, "Expected best against the budget", counted)
    return figure


def expected_best(values: list[float], *, higher_is_better: bool) -> list[float]:
    """Mean over all subsets of k values of their best, for k from 1 to all.

    The i-th best of n is the best of a random k-subset with probability C(n - i, k - 1) / C(n, k).
    """
    ordered = sorted(values, reverse=higher_is_better)
    n = len(ordered)
    return [
        sum(v * math.comb(n - 1 - i, k - 1) for i, v in enumerate(ordered)) / math.comb(n, k)
        for k in range(1, n + 1)
    ]


def _value(point: TrialPoint) -> float:
    return math.nan if point.value is None else point.value


def _higher(trials: StudyTrials) -> bool:
    return METRICS[trials.metric].higher_is_better


def _scatter(ax: Axes, trials: StudyTrials, x: Callable[[TrialPoint], float]) -> None:
    """One marker per trial; those without a value are hollow, at the edge of the worst values."""
    edge = 0.0 if _higher(trials) else 1.0
    for outcome, (colour, marker) in _OUTCOMES.items():
        chosen = [p for p in trials.points if p.outcome == outcome and p.value is not None]
        lost = [p for p in trials.lost if p.outcome == outcome]
        if chosen:
            places, values = [x(p) for p in chosen], [_value(p) for p in chosen]
            ax.plot(places, values, marker, color=colour, ms=5, label=outcome)
        if lost:
            places, over = [x(p) for p in lost], ax.get_xaxis_transform()
            ax.plot(places, [edge] * len(lost), marker, color=colour, mfc="white", ms=7,
                    transform=over, clip_on=False, label=f"{outcome}, no value")  # fmt: skip


def _legend_beside(ax: Axes, keys: list[Line2D] | None = None) -> None:
    """A legend right of a panel (among twenty trials no corner is surely free): of the given
    entries, or of the labelled artists."""
    ax.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0.2)


def _value_axis(ax: Axes, trials: StudyTrials, which: str, *, label: bool = True) -> None:
    """Use a log scale if the values call for one."""
    values = [p.value for p in trials.points if p.value is not None]
    if values and min(values) > 0 and max(values) > 3 * min(values):
        log_axis(ax, which)
    if label:
        ax.set_ylabel(trials.label)


def _names(trials: StudyTrials) -> list[str]:
    """The settings, the most important first if known."""
    return list(trials.importance) or list(trials.points[0].settings)


def _positions(trials: StudyTrials, name: str) -> tuple[dict[int, float], list[str]]:
    """The position of each trial on a setting's axis, and the tick names if it is a choice
    (anything not on a log scale with few different values)."""
    raw: dict[int, Any] = {p.number: p.settings[name] for p in trials.points}
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in raw.values())
    if numeric and (name in trials.log or len(set(raw.values())) > 6):
        return {number: float(value) for number, value in raw.items()}, []
    choices = sorted(set(raw.values()), key=lambda value: (str(type(value)), value))
    return {n: float(choices.index(v)) for n, v in raw.items()}, [str(c) for c in choices]


def _unit(trials: StudyTrials, name: str) -> dict[int, float]:
    """A setting's values scaled to 0 to 1."""
    places, _ = _positions(trials, name)
    scaled = {n: math.log(v) if name in trials.log else v for n, v in places.items()}
    low, high = min(scaled.values()), max(scaled.values())
    return {n: (v - low) / (high - low) if high > low else 0.5 for n, v in scaled.items()}


def _ticks(trials: StudyTrials, name: str) -> list[tuple[float, str]]:
    """Heights and texts of the ticks on a setting's axis."""
    places, choices = _positions(trials, name)
    if choices:
        span = max(len(choices) - 1, 1)
        return [(i / span if len(choices) > 1 else 0.5, text) for i, text in enumerate(choices)]
    values = np.array(sorted(places.values()))
    return [(0.0, f"{values[0]:.2g}"), (1.0, f"{values[-1]:.2g}")]


STUDY_FIGURES: Mapping[str, StudyFigureRow] = MappingProxyType(
    {
        row.id: row
        for row in (
            StudyFigureRow("history", "Trials in the order they were drawn", history),
            StudyFigureRow("importance", "Which settings mattered", importance, importance=True),
            StudyFigureRow("slices", "Value against each setting", slices),
            StudyFigureRow("parallel_coordinates", "All settings", parallel_coordinates, 2),
            StudyFigureRow("intermediate_values", "Value by epoch", intermediate_values),
            StudyFigureRow("budget", "Expected best against the budget", budget, 2),
        )
    }
)
"""Figures of a study, by id."""
