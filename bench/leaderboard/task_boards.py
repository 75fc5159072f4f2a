"""The boards of further tasks as sections: what else the rows of a protocol are measured by."""

from collections.abc import Iterable, Sequence

from bench.core.tasks import FURTHER_TASKS
from bench.core.view import Column, Section, Table, table_of
from bench.leaderboard.cells import TableCell
from bench.leaderboard.wording import (
    DASH,
    best_share,
    interval,
    notes,
    ranks,
    remarks,
    score,
    shown_score,
    test_title,
    title,
)
from bench.metrics import METRICS, Metric, metrics_of, short_title, why_absent


def task_facts(task: str, cells: Sequence[TableCell]) -> str:
    """The question of a further task, how its rows are compared, and what is left out and why."""
    row = FURTHER_TASKS[task]
    facts = [row.question]
    if not row.headline:
        facts.append("Costs are not compared: the rows stand in the order of the ranking.")
    elif not _order(task, cells):
        facts.append("The rows stand in the order of the ranking.")
    elif METRICS[row.headline].per_image:
        facts.append(
            f"Ordered by {title(row.headline)} on validation; "
            "ranges of ranks from images and seeds."
        )
    else:
        facts.append(
            f"Ordered by {title(row.headline)} on validation, one value of all images: ranges of "
            "ranks from seeds alone, as if other images gave the same."
        )
    absent: dict[str, list[str]] = {}
    for name, metric in metrics_of(task).items():
        if not any(cell.has(f"test_{name}") for cell in cells):
            absent.setdefault(why_absent(metric), []).append(metric.title)
    facts += [f"Left out, since this {why}: {'; '.join(names)}." for why, names in absent.items()]
    return " ".join(facts)


def _order(task: str, cells: Iterable[TableCell]) -> str:
    """The metric that orders the board of these cells; "" if none has a value of it."""
    headline = FURTHER_TASKS[task].headline
    return headline if any(cell.has(f"val_{headline}") for cell in cells) else ""


def measured(task: str, cells: Sequence[TableCell]) -> list[Metric]:
    """The metrics of a further task that a cell has, without those that stand beside the rows."""
    return [
        metric
        for name, metric in metrics_of(task).items()
        if not metric.beside and any(cell.has(f"test_{name}") for cell in cells)
    ]


def task_table(task: str, cells: Sequence[TableCell], whole: bool = False) -> Table:
    """The measures of a further task for the cells of one track, and below them what they are to be
    compared with. `whole`: all measures, not the most important ones alone."""
    headline = _order(task, cells)
    found = measured(task, cells)
    shown = [metric.id for metric in found if whole or not metric.detail]
    header = ["variant", *(f">{test_title(name)}" for name in shown), "notes"]
    rows = [
        [
            cell.row,
            *(score(cell, f"test_{name}", name) for name in shown),
            notes(cell, bool(headline)),
        ]
        for cell in cells
    ]
    lines = beside(task, cells, [f"test_{name}" for name in shown])
    rows += [[name, *values, ""] for name, values in lines]
    if headline:
        header[1:1] = [f">validation {short_title(headline)}", ">95 % interval", ">best in"]
        header.insert(0, ">ranks")
        firsts = [
            [score(cell, f"val_{headline}", headline), interval(cell, headline), best_share(cell)]
            for cell in cells
        ]
        on_validation = dict(beside(task, cells, [f"val_{headline}"]))
        firsts += [[on_validation.get(name, [DASH])[0], DASH, DASH] for name, _ in lines]
        places = [*map(ranks, cells), *(DASH for _ in lines)]
        for place, first, row in zip(places, firsts, rows, strict=True):
            row[1:1] = first
            row.insert(0, place)
    return table_of(header, rows)


def beside(
    task: str, cells: Iterable[TableCell], columns: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """What rows are to be compared with: `real images` and its values in these columns of the
    ledger, one line for each name that has a value in any of them."""
    cells = list(cells)
    lines: dict[str, dict[str, str]] = {}
    for name, metric in metrics_of(task).items():
        for column in columns if metric.beside else ():
            part, _, measure = column.partition("_")
            if measure in metric.under and (found := _ends(cells, f"{part}_{name}", name)):
                lines.setdefault(metric.beside, {})[column] = found
    return [
        (name, [values.get(column, DASH) for column in columns]) for name, values in lines.items()
    ]


def _ends(cells: Iterable[TableCell], column: str, metric: str) -> str:
    """A value that is the same for all rows; where machines differ, from the least to the most."""
    values = [cell.mean(column) for cell in cells if cell.has(column)]
    ends = [shown_score(value, metric) for value in (min(values), max(values))] if values else []
    return " to ".join(dict.fromkeys(ends))


def narrow_task_section(task: str, cells: Sequence[TableCell]) -> Section:
    """The board of a further task in 80 characters: all tracks, range of ranks, the measure that
    orders the rows on validation, and a few on test; below it what is notable about single rows."""
    headline = _order(task, cells)
    shown = [metric for metric in measured(task, cells) if metric.short]
    columns = [f"val_{headline}"] if headline else []
    columns += [f"test_{metric.id}" for metric in shown]
    names = [*([headline] if headline else []), *(metric.id for metric in shown)]
    header = [">size", *([">ranks"] if headline else []), "variant"]
    header += [*([">val"] if headline else []), *(f">{metric.short}" for metric in shown)]
    rows = [
        [
            cell.track.size_words,
            *([ranks(cell)] if headline else []),
            cell.row,
            *(
                shown_score(cell.mean(column), name)
                for column, name in zip(columns, names, strict=True)
            ),
        ]
        for cell in cells
    ]
    blank = ["", *([""] if headline else [])]
    rows += [[*blank, name, *values] for name, values in beside(task, cells, columns)]
    first = [f"val: {short_title(headline)} on validation"] if headline else []
    on_test = "" if task == "cost" else " on test"
    meaning = [*first, *(f"{row.short}: {short_title(row.id)}{on_test}" for row in shown)]
    return Section(
        _heading(task, cells),
        table=table_of(header, rows),
        notes=("; ".join(meaning), *remarks(cells, ranked=bool(headline))),
    )


def task_section(task: str, cells: Sequence[TableCell]) -> Section:
    """The board of a further task with all measures, all tracks in one table."""
    table = task_table(task, cells, whole=True)
    sizes = [cell.track.size_words for cell in cells]
    sizes += [DASH] * (len(table.rows) - len(cells))
    columns = (Column("code size", numeric=True), *table.columns)
    rows = tuple((size, *each) for size, each in zip(sizes, table.rows, strict=True))
    return Section(
        _heading(task, cells),
        (task_facts(task, cells),),
        table=Table(columns, rows),
    )


def _heading(task: str, cells: Sequence[TableCell]) -> str:
    board, headline = cells[0].board, _order(task, cells)
    order = f": ranked by validation {title(headline)}" if headline else ""
    return f"{board.protocol} on {board.dataset}, {task}{order}"
