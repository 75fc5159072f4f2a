"""The page: what stands above the boards, the boards, and the data of their rows."""

import math
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from string import Template

from bench.core.protocol import DEFAULT_PROTOCOL
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.render import Board
from bench.leaderboard.rules import reason
from bench.leaderboard.task_boards import task_facts
from bench.leaderboard.wording import or_others
from bench.metrics import short_title
from bench.report.charts import cost_by_error, error_by_size, note, rank_panels
from bench.report.content import (
    Exhibit,
    Exhibits,
    as_json,
    plain,
    row_id,
    row_key,
    text,
    without_markdown,
)
from bench.report.details import details
from bench.report.sheets import Sheet, affordable
from bench.report.tables import View, board_table, published_table, views_of
from bench.report.wall import board_wall

Originals = Mapping[tuple[str, str], Sheet]
"""The test images of a board's reconstructions, by data set and protocol."""


def web_page(
    boards: Sequence[Board], exhibits: Exhibits, originals: Originals, link: str = ""
) -> str:
    """The whole page.

    `exhibits` by `row_key`; rows may have none. `link`: the address of MLflow's interface on this
    machine, which the committed page has not.
    """
    ordered = [view for board in sorted(boards, key=_order) for view in views_of(board)]
    tops = [
        "\n".join([*_head(view, number), *_figures(view), board_table(view)])
        for number, view in enumerate(ordered)
    ]
    data = _data(ordered, exhibits)
    fit = affordable(_sheets(exhibits, originals), len(data) + sum(map(len, tops)))
    parts = []
    for view, top in zip(ordered, tops, strict=True):
        board = view.board
        images = originals.get((board.dataset, board.protocol))
        wall = [] if view.further else board_wall(board, exhibits, images, fit)
        others = [] if view.further else published_table(board)
        parts += [top, *others, *wall, "</section>"]
    script = _file("page.js")
    hashed = b64encode(sha256(script.encode()).digest()).decode()
    return Template(_file("page.html")).substitute(
        policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{hashed}'",
        style=_file("page.css"),
        mlflow=f' <a href="{text(link)}">All runs in MLflow</a>.' if link else "",
        answer=_answer(ordered[0].board) if ordered else "No results yet: <code>bench run</code>.",
        boards="\n".join(parts),
        data=data,
        script=script,
    )


@cache
def _file(name: str) -> str:
    return files("bench.report").joinpath(name).read_text(encoding="utf-8")


def _sheets(exhibits: Exhibits, originals: Originals) -> Iterator[Sheet]:
    yield from originals.values()
    for exhibit in exhibits.values():
        yield from exhibit.sheets.values()


def _order(board: Board) -> tuple[bool, bool]:
    return board.protocol != DEFAULT_PROTOCOL, not board.known


def _head(view: View, number: int) -> Iterator[str]:
    board = view.board
    task = f": {text(view.task)}" if view.further else ""
    yield '<section class="board">'
    yield f"<h2>{text(board.protocol)} <small>on {text(board.dataset)}{task}</small></h2>"
    if view.further:
        yield f"<p>{text(without_markdown(task_facts(view.task, board.cells)))}</p>"
        return
    images = max(cell.facts["train_images"] for cell in board.cells)
    answer = f"{_answer(board)} " if number else ""
    yield f"<p>{answer}{images:,.0f} training images{'' if board.known else ', own'}.</p>"


def _answer(board: Board) -> str:
    """Which rows may be the best at each size, and where no trained one is ranked."""
    sizes: dict[str, list[str]] = {}
    answers = board.answers()
    for track, best in answers.items():
        named = or_others([cell.row for cell in best], lambda row: f"<b>{text(row)}</b>")
        sizes.setdefault(named, []).append(text(track.heading.lower()))
    where = f"on <b>{text(board.dataset)}</b> ({text(board.protocol)})"
    if all(cell.closed_form for cell in board.cells):
        return f"No trained variant is measured yet {where}."
    if not sizes:
        return f"No trained variant is ranked yet {where}."
    parts = [f"{_joined(headings)}: {named}" for named, headings in sizes.items()]
    open_sizes = [text(track.heading.lower()) for track in board.tracks() if track not in answers]
    more = f" No trained variant is ranked yet at {_joined(open_sizes)}." if open_sizes else ""
    if any(cell.why_unranked for cell in board.cells):
        more += " Rows without ranks are not counted; their notes say why."
    return f"Best {where}, {'; '.join(parts)}.{more}"


def _joined(headings: Sequence[str]) -> str:
    """`code size 8, 16, 32`: what all headings begin with stands once."""
    kind, _, _ = headings[0].rpartition(" ")
    if len(headings) > 1 and all(each.rpartition(" ")[0] == kind for each in headings):
        return f"{kind} {', '.join(each.rpartition(' ')[2] for each in headings)}"
    return ", ".join(headings)


def _figures(view: View) -> Iterator[str]:
    board = view.board
    if not board.metric:  # numbers that are not compared
        return
    ranks = "\n".join(rank_panels(board))
    panels = f'<div class="panels" tabindex="0" role="group" aria-label="Ranges">{ranks}</div>'
    what = "score" if view.further else "error"
    drawn = [
        (f"{what.title()} against code size", error_by_size(board)),
        (f"Cost against {what}, with the Pareto front", cost_by_error(board)),
        ("Ranges of ranks", panels if ranks else ""),
    ]
    found = [
        f"<figure>\n<figcaption>{title}</figcaption>\n{picture}</figure>"
        for title, picture in drawn
        if picture
    ]
    if found:
        left_out = note(board)
        yield f'<div class="figures">{"".join(found)}</div>'
        yield f'<p class="readout" role="status">{text(left_out)}</p>'


def _data(views: Sequence[View], exhibits: Exhibits) -> str:
    """What the script needs: the columns of the CSV, and for each row its values and details.

    What rows share stands once. A configuration has a row in every table that ranks it, whose
    values are those of `cells` but for the places in `changed`; lines of details have the place of
    their name in `names`, and rows the places of their `groups`.
    """
    held = [(view, cell) for view in views for cell in view.board.cells]
    columns = list(dict.fromkeys(name for _, cell in held for name in cell.columns()))
    cells: dict[str, list[object]] = {}
    names: dict[str, int] = {}
    groups: dict[str, int] = {}
    rows = {}
    for view, cell in held:
        known = cell.columns()
        values = [_number(known.get(name)) for name in columns]
        first = cells.setdefault(row_key(cell), values)
        exhibit = exhibits.get(row_key(cell), Exhibit())
        curves = {} if view.further else exhibit.curves
        numbered = [
            [title, [[names.setdefault(name, len(names)), value] for name, value in lines]]
            for title, lines in details(cell, exhibit, view.task if view.further else "")
        ]
        rows[row_id(cell)] = {
            "facets": [cell.board.dataset, cell.board.protocol, cell.track.size_words, view.task],
            "cell": row_key(cell),
            "changed": [
                [place, value]
                for place, (value, shared) in enumerate(zip(values, first, strict=True))
                if value != shared
            ],
            "metric": short_title(cell.selection_metric),
            "curves": [[seed, [*map(_number, curve)]] for seed, curve in curves.items()],
            "badges": [[plain(badge), without_markdown(reason(badge))] for badge in cell.badges],
            "command": plain(exhibit.command),
            "groups": [groups.setdefault(as_json(group), len(groups)) for group in numbered],
        }
    shared = {"columns": columns, "cells": cells, "names": list(names), "rows": rows}
    return f'{as_json(shared)[:-1]},"groups":[{",".join(groups)}]}}'


def _number(value: object) -> object:
    """With nine digits as in the ledger, so that averages are the same on every machine."""
    if isinstance(value, float):
        return rounded(value) if math.isfinite(value) else None
    return value
