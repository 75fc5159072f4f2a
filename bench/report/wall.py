"""The wall of pictures of a board: the same images by every row, then other kinds on their tabs."""

from collections.abc import Iterator

from bench.leaderboard.cells import TableCell
from bench.leaderboard.render import Board
from bench.report.content import (
    PICTURES,
    RECONSTRUCTIONS,
    Exhibit,
    Exhibits,
    row_id,
    row_key,
    text,
)
from bench.report.sheets import Fit, Sheet, data_uri


def board_wall(
    board: Board, exhibits: Exhibits, originals: Sheet | None, fit: Fit
) -> Iterator[str]:
    """The pictures of the rows by title, a tab each; every size below the other."""
    titles: dict[str, None] = {}
    for cell in board.cells:
        titles |= dict.fromkeys(exhibits.get(row_key(cell), Exhibit()).sheets)
    if not titles:
        return
    yield '<div class="wall"><h3>Pictures</h3>'
    for title in [*filter(titles.__contains__, PICTURES), *sorted(titles.keys() - PICTURES)]:
        yield f'<div class="panel" data-title="{text(title)}"><h4>{text(title)}</h4>'
        yield f'<p class="hint">{text(_hint(title, originals, fit))}</p>'
        if title == RECONSTRUCTIONS and originals is not None:
            yield _strip("test images", "the test images", originals, fit)
        for track, cells in board.tracks().items():
            held = [(c, s) for c in cells if (s := _sheet(exhibits, c, title)) is not None]
            if held:
                heading = text(track.heading)
                yield f'<div class="size" data-size="{heading}"><h5>{heading}</h5>'
                for cell, sheet in held:
                    about = f"{title} of {cell.row}, {track.heading}"
                    yield _strip(cell.row, about, sheet, fit, row_id(cell))
                yield "</div>"
        yield "</div>"
    yield "</div>"


def _sheet(exhibits: Exhibits, cell: TableCell, title: str) -> Sheet | None:
    return exhibits.get(row_key(cell), Exhibit()).sheets.get(title)


def _hint(title: str, originals: Sheet | None, fit: Fit) -> str:
    less = [
        *([f"the first {fit.most} of each row"] if fit.most else []),
        *(["grey in 16 shades"] if fit.bits < 8 else []),
    ]
    small = f"{', '.join(less).capitalize()}, so that the page stays small. " if less else ""
    which = PICTURES.get(title, "")
    if title == RECONSTRUCTIONS and originals is not None:
        count = len(originals[: fit.most])
        which = f"The same {count} test images, the first of each class in turn."
    return f"{small}{which} By the first seed of every row, best row first."


def _strip(name: str, about: str, sheet: Sheet, fit: Fit, row: str = "") -> str:
    shown = sheet[: fit.most]
    count, _, height, width = shown.shape
    link = f'<a href="#{row}" data-row="{row}">{text(name)}</a>' if row else f"<b>{text(name)}</b>"
    return (
        f'<div class="strip"{f" data-row={row}" if row else " data-originals"}>{link}'
        f'<img alt="{text(about)}" width="{count * width}" height="{height}" '
        f'src="{data_uri(shown, fit.bits)}"></div>'
    )
