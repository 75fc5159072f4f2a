"""Saved views and deep links into MLflow's web interface. Pure; no mlflow here.

MLflow opens in a mode for language models, with a table that shows no metric. A view stored as a
tag of the experiment, and a link that names it, open the right columns, order and charts directly.
The format is that of the "share view" of MLflow 3.17; it is undocumented, so a test pins
what we rely on, and an experiment without views works too.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.track import Track
from bench.metrics import short_title

LEADERBOARD, ALL_RUNS, TRIALS = "leaderboard", "all-runs", "trials"
VIEW_TAG = "mlflow.sharedViewState."
_PICTURES = "progress/x_hat"
_FIXED_COLUMNS = {
    "attributes.`Run Name`": 170,
    "attributes.`Created`": 120,
    "attributes.`Duration`": 75,
}
"""MLflow always shows these; listing them here keeps them to the left of ours."""
_NAMESPACE = uuid.UUID("5f0c1d3e-8d5b-4a53-9c39-6f7a5f2b7f10")


@dataclass(frozen=True)
class ViewPlan:
    """Content of an experiment's views: its metrics, the selection metric, the number of epochs
    (the image chart opens with the picture of the last one). `ranked` false: some
    of its runs have no validation images; `has_code` false: they are classifiers."""

    metrics: tuple[str, ...]
    selection_metric: str
    higher_is_better: bool
    epochs: int = 0
    ranked: bool = True
    has_code: bool = True

    @property
    def headline(self) -> str:
        """The test score on a scale that MLflow's two decimals can show."""
        return headline(self.selection_metric)

    @property
    def costs(self) -> list[str]:
        """What scores are plotted against; classifiers have no code."""
        size = ["facts/code_size"] if self.has_code else []
        return [*size, "cost/parameters", "cost/train_seconds"]

    @property
    def test(self) -> str:
        """The selection metric on the test images."""
        return f"test/{self.selection_metric}"

    @property
    def order(self) -> str:
        """The metric that sorts rows: on validation, because test never selects.

        Rows that are never ranked may be sorted by the score that their origins published.
        """
        if not self.ranked:
            return self.test
        return f"kept/val_{self.selection_metric}"


_SCALED = {"mse": "test/mse_x1000", "accuracy": "test/accuracy_percent"}
_SCALES = {"mse": " x 1000", "accuracy": " in %"}


def headline(metric: str) -> str:
    """The name of a test score on a scale that MLflow's two decimals can show."""
    return _SCALED.get(metric, f"test/{metric}")


def of_track(track: str, metric: str) -> str:
    """`test_d8/mse_x1000`: the same score under a name that only runs of the track have, since a
    chart cannot choose its runs."""
    return headline(metric).replace("test/", f"test_{track}/", 1)


def title(metric: str, scaled: bool = False) -> str:
    """`test MSE x 1000`: a test score as the title of a chart."""
    return f"test {short_title(metric)}{_SCALES.get(metric, '') if scaled else ''}"


def view_tags(plan: ViewPlan, tracks: Sequence[str], now_ms: int) -> dict[str, str]:
    """Experiment tags with the views: median seeds, every run, and one for each track."""
    # Without validation images there is no median seed: show all runs.
    which, median = ("median seeds", ["tags.median_seed = 'true'"]) if plan.ranked else ("all", [])
    states = {
        LEADERBOARD: (f"Leaderboard ({which})", " and ".join(median), tracks),
        ALL_RUNS: ("Every run", "", tracks),
        **{
            track_view(track): (
                f"Track {track} ({which})",
                " and ".join([*median, f"tags.track = '{track}'"]),
                [track],
            )
            for track in tracks
        },
    }
    return {
        f"{VIEW_TAG}{key}": json.dumps(
            {
                "name": name,
                "createdAt": now_ms,
                "updatedAt": now_ms,
                "state": json.dumps(view_state(plan, search, shown)),
            }
        )
        for key, (name, search, shown) in states.items()
    }


def track_view(track: str) -> str:
    """The key of a track's view in links."""
    return f"track-{track}"


def view_state(plan: ViewPlan, search: str, tracks: Sequence[str] = ()) -> dict[str, object]:
    """Columns, order and charts, as MLflow's interface stores them; bars by track."""
    sections, charts = _charts(plan, tracks)
    columns = _columns(plan)
    return {
        "searchFilter": search,
        "orderByKey": f"metrics.`{plan.order}`",
        "orderByAsc": not plan.higher_is_better,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": [*_FIXED_COLUMNS, *columns],
        "columnWidths": {**_FIXED_COLUMNS, **columns},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": sections,
        "isAccordionReordered": True,
        "viewMaximized": False,
        "runListHidden": False,
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }


def _columns(plan: ViewPlan) -> dict[str, int]:
    """Columns from left to right with their widths in pixels: model, size and seed, then scores,
    then costs."""
    tests = [f"test/{metric}" for metric in plan.metrics if metric != plan.selection_metric]
    size = ["latent_dim"] if plan.has_code else []
    metrics = [
        plan.order,
        plan.headline,
        *tests,
        "cost/train_seconds",
        "cost/parameters",
        *([plan.test] if plan.headline != plan.test else []),
    ]
    return {
        **{f"params.`{name}`": 90 for name in ("model", *size, "seed")},
        **{f"metrics.`{name}`": 110 for name in metrics},
        "params.`recipe`": 90,
        "tags.`status`": 80,
        "tags.`registry`": 150,
    }


def _charts(
    plan: ViewPlan, tracks: Sequence[str]
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Sections in reading order, and the charts in them."""
    shown = [m for m in plan.metrics if m != plan.selection_metric][:5]
    layout: dict[str, tuple[dict[str, object], ...]] = {
        "Test score by code size": tuple(
            _bar(
                of_track(str(track), plan.selection_metric),
                f"{title(plan.selection_metric, scaled=True)}, {_size(track)}",
            )
            for track in sorted(map(Track.parse, tracks), key=lambda track: track.order)
        ),
        "Test score": (
            _bar(plan.headline, title(plan.selection_metric, scaled=True)),
            *(_bar(f"test/{metric}", title(metric)) for metric in shown if metric != "mae"),
        ),
        "What it costs": tuple(_scatter(cost, plan.headline) for cost in plan.costs),
        "All of it at once": (_parallel(plan),),
        "Learning": (
            _line(f"val/{plan.selection_metric}", "validation, by epoch"),
            _line("train/loss", "training loss, by epoch"),
        ),
    }
    if plan.has_code:
        layout["Validation images, original above reconstruction"] = (_images(plan),)
    # Bars of several sizes beside each other would compare what cannot be compared.
    del layout["Test score" if tracks else "Test score by code size"]
    sections = [_section(name, len(members)) for name, members in layout.items()]
    charts = [
        {
            "uuid": _id(f"{name} {number}"),
            "metricSectionId": _id(name),
            "deleted": False,
            "isGenerated": False,
            **chart,
        }
        for name, members in layout.items()
        for number, chart in enumerate(members)
    ]
    return sections, charts


def _size(track: Track) -> str:
    """The heading of a track's table, within a sentence."""
    return f"{track.heading[0].lower()}{track.heading[1:]}"


def _section(name: str, charts: int) -> dict[str, object]:
    """A collapsible section of the chart page; a few charts are shown wide."""
    return {
        "uuid": _id(name),
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": min(charts, 2),
        "cardHeight": 360 if charts > 1 else 460,
    }


def _id(text: str) -> str:
    """Ids derived from the view, so that rewriting it changes nothing."""
    return uuid.uuid5(_NAMESPACE, text).hex


def _bar(metric: str, shown: str) -> dict[str, object]:
    return {
        "type": "BAR",
        "metricKey": metric,
        "displayName": shown,
        "runsCountToCompare": 20,
    }


def _scatter(x: str, y: str) -> dict[str, object]:
    return {
        "type": "SCATTER",
        "xaxis": {"key": x, "type": "METRIC"},
        "yaxis": {"key": y, "type": "METRIC"},
        "runsCountToCompare": 100,
    }


def _parallel(plan: ViewPlan) -> dict[str, object]:
    return {
        "type": "PARALLEL",
        "selectedParams": ["model"],
        "selectedMetrics": [*plan.costs, plan.headline],
        "showAllRuns": False,
        "runsCountToCompare": 100,
    }


def _line(metric: str, title: str) -> dict[str, object]:
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "displayName": title,
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "log",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "range": {},
        "runsCountToCompare": 20,
    }


def _images(plan: ViewPlan) -> dict[str, object]:
    return {
        "type": "IMAGE",
        "imageKeys": [_PICTURES],
        "step": plan.epochs,
        "showRunParams": False,
        "runsCountToCompare": 20,
    }


def deep_link(base: str, experiment_id: str, view: str) -> str:
    """A link into the model-training mode, with a saved view."""
    return (
        f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={view}"
    )
