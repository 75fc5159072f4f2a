"""Figures of a study count and show every trial, and their legends say what is drawn."""

from collections.abc import Callable, Sequence

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from bench.figures import STUDY_FIGURES, StudyTrials, TrialPoint, to_png

EPOCHS = 6
SEARCHED = ("complete", "pruned", "complete", "diverged", "complete", "lost", "pruned")
"""How the trials after the two known recipes ended; "lost": diverged before it had a value."""


def point(number: int, ending: str, source: str, metric: str) -> TrialPoint:
    """A trial that gets nearer to 1 + its number by epoch; of the higher metric, to its inverse."""
    stop = {"complete": EPOCHS, "pruned": 3, "diverged": 2, "lost": 0}[ending]
    errors = {epoch: (1 + number) * (1 + 1 / epoch) for epoch in range(1, stop + 1)}
    values = {e: 1 / error if metric == "psnr" else error for e, error in errors.items()}
    return TrialPoint(
        number=number,
        outcome="diverged" if ending == "lost" else ending,
        source=source,
        value=values[stop] if stop else None,
        settings={"lr": 1e-4 * 2**number, "batch_size": (32, 64, 128)[number % 3]},
        values=values,
        epochs=max(stop, 1),
    )


def study(searched: Sequence[str] = SEARCHED, metric: str = "mse") -> StudyTrials:
    """The default recipe, the origin's, and the searched ones."""
    known = (("complete", "default"), ("complete", "origin"))
    trials = [*known, *((ending, "") for ending in searched)]
    return StudyTrials(
        name="tiny.fc_ae.d4",
        about=f"photographs · fc_ae · d=4 · {len(trials)} trials",
        metric=metric,
        epochs=EPOCHS,
        log={"lr"},
        points=tuple(point(i, *trial, metric) for i, trial in enumerate(trials)),
        importance={"lr": 0.8, "batch_size": 0.2},
        evaluator="fANOVA",
    )


def draw(name: str, trials: StudyTrials) -> Figure:
    figure = STUDY_FIGURES[name].draw(trials)
    assert to_png(figure).startswith(b"\x89PNG")
    return figure


def line(ax: Axes, label: str) -> Line2D:
    (found,) = [each for each in ax.lines if each.get_label() == label]
    return found


def legend_of(ax: Axes) -> Legend:
    legend = ax.get_legend()
    assert legend is not None
    return legend


def samples(ax: Axes) -> dict[str, Line2D]:
    """What a legend shows, by what it says."""
    legend = legend_of(ax)
    texts = [text.get_text() for text in legend.get_texts()]
    return dict(zip(texts, legend.get_lines(), strict=True))


@pytest.mark.parametrize("last", ["pruned", "lost", "complete"])
def test_the_best_so_far_reaches_the_last_trial(last: str) -> None:
    trials = study((*SEARCHED, last))
    (ax,) = draw("history", trials).axes
    best = line(ax, "best so far")
    assert max(best.get_xdata()) == trials.points[-1].number
    assert best.get_ydata()[-1] == min(p.value for p in trials.complete)


@pytest.mark.parametrize(("metric", "edge"), [("mse", 1), ("psnr", 0)])
def test_a_trial_without_a_value_stands_at_the_edge_of_the_worst(metric: str, edge: int) -> None:
    trials = study(metric=metric)
    (lost,) = trials.lost
    (ax,) = draw("history", trials).axes
    mark = line(ax, "diverged, no value")
    assert list(mark.get_xdata()) == [lost.number]
    place = ax.transAxes.inverted().transform(mark.get_transform().transform(mark.get_xydata()))
    assert place[0, 1] == pytest.approx(edge)
    assert "diverged, no value" in samples(ax)
    assert line(ax, "diverged").get_xdata() == [5]
    assert "diverged, no value" not in samples(draw("history", study(["pruned"])).axes[0])


@pytest.mark.parametrize(("metric", "worst"), [("mse", max), ("psnr", min)])
def test_the_budget_counts_a_trial_without_a_value_as_the_worst(
    metric: str, worst: Callable[[list[float]], float]
) -> None:
    trials = study(metric=metric)
    figure = draw("budget", trials)
    curve = line(figure.axes[0], "expected best of k, any order")
    assert list(curve.get_xdata()) == list(range(1, len(trials.points) + 1))
    known = [p.value for p in trials.points if p.value is not None]
    mean = (sum(known) + worst(known)) / len(trials.points)
    assert curve.get_ydata()[0] == pytest.approx(mean)
    assert "1 without a value" in figure.texts[1].get_text()


def test_the_legend_of_the_lines_explains_each_of_their_looks() -> None:
    (ax,) = draw("intermediate_values", study()).axes
    shown = samples(ax)
    assert {name: sample.get_linestyle() for name, sample in shown.items()} == {
        "complete": "-",
        "pruned at the cross": "-",
        "diverged at the mark": "-",
        "the default recipe, a trial of this search": "--",
        "the origin's recipe, a trial of this search": ":",
    }
    assert shown["pruned at the cross"].get_marker() == "x"

    def look(each: Line2D) -> tuple[object, ...]:
        return each.get_color(), each.get_linestyle(), each.get_linewidth(), each.get_marker()

    assert {look(each) for each in ax.lines} == {look(each) for each in shown.values()}
    crosses = [each for each in ax.lines if each.get_marker() == "x"]
    assert [list(each.get_xdata())[-1] for each in crosses] == [3, 3]
    (ax,) = draw("intermediate_values", study([])).axes
    assert list(samples(ax)) == [
        "the default recipe, a trial of this search",
        "the origin's recipe, a trial of this search",
    ]


@pytest.mark.parametrize("name", ["history", "slices", "intermediate_values"])
def test_a_legend_lies_beside_the_panels_and_within_the_figure(name: str) -> None:
    figure = draw(name, study())
    box = legend_of(figure.axes[-1]).get_window_extent()
    assert not any(box.overlaps(ax.bbox) for ax in figure.axes)
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
