"""Formats the cells of the tables, and Markdown tables of such cells."""

import math
from collections.abc import Iterable, Mapping, Sequence

from bench.core.tasks import is_reference
from bench.metrics import METRICS

TableRow = Mapping[str, object]
DASH = "–"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns whose name starts with ">" are right-aligned."""
    lines = [
        "| " + " | ".join(name.lstrip(">") for name in header) + " |",
        "|" + "|".join("--:" if name.startswith(">") else "---" for name in header) + "|",
    ]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def as_float(value: object) -> float:
    """A cell's number, NaN if it has none."""
    return float(value) if isinstance(value, int | float) else math.nan


def title(metric: str) -> str:
    """A metric's name within a sentence."""
    return METRICS[metric].title.lower() if metric in METRICS else metric


def short_title(metric: str) -> str:
    """`MSE`, `PSNR (dB)`, `SSIM Gaussian`: a metric's name as a column header."""
    words = [word.upper() if word in _INITIALS else word.title() for word in metric.split("_")]
    unit = METRICS[metric].unit if metric in METRICS else ""
    return " ".join(words) + (f" ({unit})" if unit else "")


_INITIALS = {"mse", "mae", "psnr", "ssim", "knn", "auc", "fcd", "lpips"}


def shown_score(value: object, metric: str) -> str:
    """A score with the number of decimals of its metric."""
    number = as_float(value)
    decimals = METRICS[metric].decimals if metric in METRICS else 4
    return DASH if math.isnan(number) else f"{number:.{decimals}f}"


def score(cell: TableRow, column: str, metric: str) -> str:
    """Mean ± standard deviation over seeds."""
    spread = as_float(cell.get(f"{column}_std"))
    # A closed form has no spread, rather than a small one.
    if math.isnan(spread) or cell["closed_form"] == "yes":
        return shown_score(cell.get(column), metric)
    return f"{shown_score(cell.get(column), metric)} ± {shown_score(spread, metric)}"


def interval(cell: TableRow, metric: str) -> str:
    """The 95 % interval on validation."""
    if math.isnan(as_float(cell["low"])):
        return DASH
    return f"{shown_score(cell['low'], metric)} to {shown_score(cell['high'], metric)}"


def rank(cell: TableRow) -> str:
    """The rank, or a dash."""
    return str(cell["rank"]) if cell["rank"] else DASH


def margin(cell: TableRow) -> str:
    """The margin over PCA, in %, with its sign."""
    value = as_float(cell["margin"])
    if math.isnan(value) or (is_reference(str(cell["model"])) and cell["recipe"] == "default"):
        return DASH
    return f"{value:+.1f} %".replace("-", "−")


def notes(cell: TableRow) -> str:
    """Badges and, for an unranked row, the reason."""
    parts = [str(cell["badges"])] if cell["badges"] else []
    if cell["why_unranked"]:
        parts.append(f"not ranked: {cell['why_unranked']}")
    return "; ".join(parts)


def whole(value: object) -> str:
    """Thousands apart."""
    number = as_float(value)
    return DASH if math.isnan(number) else f"{number:,.0f}"


def millions(value: object) -> str:
    """Multiply-adds in millions."""
    number = as_float(value)
    return DASH if math.isnan(number) else f"{number / 1e6:.2f} M"


def seconds(value: object) -> str:
    """A training time."""
    number = as_float(value)
    if math.isnan(number):
        return DASH
    if number < 0.1:
        return "< 0.1 s"
    return f"{number:.1f} s" if number < 60 else f"{number / 60:.1f} min"
