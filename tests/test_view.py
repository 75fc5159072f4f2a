"""The two renderers of the view model: one section gives the same table in a file and on screen."""

import re

import pytest

from bench.cli import console
from bench.core.view import Column, Picture, Section, Table, markdown, table_of

TABLE = table_of(
    ("variant", ">MSE", "notes"),
    [("fc_ae", "0.0123", ""), ("cnn_ae, tuned (3 trials)", "−1.5 %", "a|b [bold]c[/bold]")],
)
SECTION = Section(
    "quick on [mine]",
    ("One fact.",),
    (Picture("A picture", "a.png", "a.png drawn from 1"),),
    TABLE,
    ("A note.",),
)


def from_markdown(text: str) -> Table:
    """The only table in a page."""
    header, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in (header, rule, *rows)]
    titles, rules, *cells = [[cell.strip().replace("\\|", "|") for cell in row] for row in split]
    columns = tuple(Column(title, mark == "--:") for title, mark in zip(titles, rules, strict=True))
    return Table(columns, tuple(map(tuple, cells)))


def on_screen(section: Section, capsys: pytest.CaptureFixture[str]) -> tuple[str, list[list[str]]]:
    """What a section prints, and the cells of its table with the header first."""
    console.print_section(section)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line[:1] in "┃│" and line]
    return out, [[cell.strip() for cell in re.split("[┃│]", line)[1:-1]] for line in lines]


def test_both_renderers_show_the_same_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert from_markdown(markdown(SECTION)) == TABLE
    out, (header, *rows) = on_screen(SECTION, capsys)
    assert header == [column.title for column in TABLE.columns]
    # A cell with a bar in it is split by no one: the bar of a table on a terminal is another one.
    assert [tuple(row) for row in rows] == list(TABLE.rows)
    assert re.search(r"│ +0\.0123 │", out)
    assert "quick on [mine]" in out


def test_the_parts_of_a_section_come_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = markdown(SECTION)
    assert text.startswith("## quick on [mine]\n\nOne fact.\n\n![A picture](a.png)\n<!-- a.png ")
    assert text.endswith("|\n\nA note.\n")
    out, _ = on_screen(SECTION, capsys)
    assert out.index("One fact.") < out.index("fc_ae") < out.index("A note.")
    plain, _ = on_screen(Section("Title", ("Fact.",)), capsys)
    assert plain == "Title\nFact.\n"


def test_a_row_that_does_not_fit_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells in 3 columns"):
        table_of(("a", "b", "c"), [("x",)])
