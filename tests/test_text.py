"""Text from outside is shown as it is: it formats no page, and acts on no terminal."""

import re

import pytest
from matplotlib.figure import Figure

from bench.cli import console
from bench.core.text import as_code, for_figure, for_markdown, for_terminal

HOSTILE = "a|b\n<script>x</script>\x1b[2J\u202eevil [x](http://y) `c` *d* _e_\r"


def test_markdown_is_not_formatted_by_a_name() -> None:
    shown = for_markdown(HOSTILE)
    assert "\n" not in shown
    assert shown == (
        r"a\|b &lt;script&gt;x&lt;/script&gt;\\x1b\[2J\\u202eevil "
        r"\[x\](http://y) \`c\` \*d\* \_e\_"
    )
    for plain in ("T-shirt/top", "fashion_mnist_mini", "csv.mydigits-1a2b3c", "Ankle boot", "été"):
        assert for_markdown(plain) == plain


@pytest.mark.parametrize(
    "mark", ["\x1b", "\x07", "\r", "\x9b", "\x7f", "\u202e", "\u2066", "\u200f", "\u2028", "\ufeff"]
)
def test_no_mark_reaches_the_terminal(mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"a{mark}b"
    assert mark not in for_terminal(text)
    assert mark not in for_markdown(text)
    console.say(text)
    console.show(text)
    console.print_table(text, ("what",), [(text,)])
    with console.RunProgress(total=1) as progress:
        progress.note(text)
    told = capsys.readouterr()
    assert mark not in told.out + told.err


def test_square_brackets_are_no_style(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table("[bold]title[/bold]", ("what",), [("[red]x[/red] [/odd]",)])
    shown = capsys.readouterr().out
    assert "[bold]title[/bold]" in shown
    assert "[red]x[/red] [/odd]" in shown


def test_lines_and_other_alphabets_stay() -> None:
    assert for_terminal("one\n\ttwo: żółw 亀") == "one\n\ttwo: żółw 亀"


NAMES = ("$", "a$b$", r"$\frac{$", r"\$x\$", "_hidden", "a\nb", "a\x1b[2J\u202eb", "$$", "a^{$_$}")


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_shows_a_name_and_no_formula(name: str) -> None:
    figure = Figure()
    text = figure.text(0.5, 0.5, for_figure(name))
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], label=for_figure(name))
    assert len(ax.legend().get_texts()) == 1
    figure.canvas.draw()
    shown, formula = text._preprocess_math(text.get_text())  # type: ignore[attr-defined]
    assert not formula
    assert shown.strip() == for_terminal(" ".join(name.split()))


@pytest.mark.parametrize("name", ["a`b", "``", "`a", "a\nb", "plain --x 'y z'"])
def test_code_in_markdown_ends_where_it_should(name: str) -> None:
    code = as_code(name)
    fence = re.match("`+", code)
    assert fence is not None and "\n" not in code
    assert fence[0] not in code[len(fence[0]) : -len(fence[0])]
    assert name.replace("\n", " ") in code
