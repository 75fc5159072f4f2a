"""What others published beside our rows: which row stands there, and how it is judged."""

import dataclasses
from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.core.store import shipped
from bench.core.view import markdown
from bench.leaderboard.cells import TableCell
from bench.leaderboard.ledger import current
from bench.leaderboard.published import (
    NO_ROW,
    PUBLISHED,
    TITLE,
    Figures,
    compared,
    narrow_section,
    section,
    verdict,
)
from bench.registry import publishing
from bench.registry.results import read_results

MSE_AT_2, MSE_AT_64 = PUBLISHED[:2]


@pytest.fixture(scope="module")
def solved() -> list[TableCell]:
    """The committed rows of PCA and the mean image on all of Fashion-MNIST and MNIST."""
    results = read_results(shipped().registry)
    table = publishing.ranked(current(results.ledger), results)
    return [
        cell
        for cell in table
        if cell.board.protocol in ("fashion_mnist", "mnist") and cell.closed_form
    ]


def trained(
    solved: Sequence[TableCell],
    row: str,
    val: float,
    test: float,
    *,
    metric: str = "mse",
    size: int = 2,
    **changes: object,
) -> TableCell:
    """A row with three seeds and these scores, on the board of Fashion-MNIST."""
    like = next(
        cell
        for cell in solved
        if cell.is_pca and cell.code_size == size and cell.board.dataset == "fashion_mnist"
    )
    means = {**like.means, f"val_{metric}": val, f"test_{metric}": test}
    told = {"model": "fc_ae", "row": row, "closed_form": False, "finished": 3, "means": means}
    return dataclasses.replace(like, **{**told, **changes})  # type: ignore[arg-type]


def at(cells: Sequence[TableCell], figures: Figures) -> TableCell | None:
    """Our row beside these figures."""
    return next(each.best for each in compared(cells) if each.figures == figures)


def test_without_a_trained_row_there_is_none_and_pca_has_its_line(
    solved: list[TableCell],
) -> None:
    found = section(solved)
    assert found is not None and found.table is not None and found.title == TITLE
    lines = [row for row in found.table.rows if row[:3] == ("fashion_mnist", "2", "MSE")]
    assert [row[7] for row in lines] == [NO_ROW, "pca"]
    assert lines[1][6:] == ("0.04565", "pca", "solved", "worse than all")
    assert len(found.table.rows) == 2 * len(PUBLISHED)


def test_the_row_that_is_best_on_validation_stands_there(solved: list[TableCell]) -> None:
    early = trained(solved, "early", 0.0240, 0.0250)
    lucky = trained(solved, "lucky", 0.0241, 0.0200)
    assert at([*solved, lucky, early], MSE_AT_2) == early
    assert at([*solved, lucky, early], MSE_AT_64) is None


def test_of_accuracies_the_highest_is_best(solved: list[TableCell]) -> None:
    figures = next(each for each in PUBLISHED if each.metric == "knn_accuracy")
    low = trained(solved, "low", 0.70, 0.80, metric="knn_accuracy")
    high = trained(solved, "high", 0.71, 0.74, metric="knn_accuracy")
    found = at([*solved, low, high], figures)
    assert found == high
    assert verdict(figures, high) == "better than AE and VAE, worse than UMAP-AE"


@pytest.mark.parametrize(
    "changes",
    [
        {"why_unranked": "2 seeds of at least 3"},
        {"closed_form": True},
        {"track": "d8"},
        {"protocol": "mine"},
        {"dataset": "fashion_mnist_mini"},
    ],
)
def test_rows_that_are_not_comparable_stand_nowhere(
    solved: list[TableCell], changes: dict[str, object]
) -> None:
    cell = trained(solved, "good", 0.01, 0.01)
    if "track" in changes:
        other = next(cell.track for cell in solved if str(cell.track) == changes["track"])
        cell = dataclasses.replace(cell, track=other)
    elif changes.keys() & {"protocol", "dataset"}:
        cell = dataclasses.replace(cell, board=cell.board._replace(**changes))
    else:
        cell = dataclasses.replace(cell, **changes)  # type: ignore[arg-type]
    assert at([*solved, cell], MSE_AT_2) is None


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (0.0239, "better than all"),
        (0.02444, "better than VAE, equal to AE, worse than UMAP-AE"),
        (0.0242, "better than AE and VAE, worse than UMAP-AE"),
        (0.0246, "better than VAE, worse than AE and UMAP-AE"),
        (0.03, "worse than all"),
    ],
)
def test_verdicts_compare_the_published_digits(
    solved: list[TableCell], test: float, words: str
) -> None:
    assert verdict(MSE_AT_2, trained(solved, "row", 0.02, test)) == words


def test_a_single_published_figure_is_named(solved: list[TableCell]) -> None:
    one = dataclasses.replace(MSE_AT_2, values={"AE": "0.0244"})
    assert verdict(one, trained(solved, "row", 0.02, 0.02)) == "better than AE"


def test_a_trained_row_shows_its_seeds(solved: list[TableCell]) -> None:
    cell = trained(solved, "cnn_ae", 0.0235, 0.0230)
    page = section([*solved, cell])
    assert page is not None
    assert "| 0.02300 | cnn_ae | 3 | better than all |" in markdown(page)
    narrow = narrow_section([*solved, cell])
    assert narrow is not None and narrow.table is not None
    assert narrow.notes[0] == "2, MSE: cnn_ae (3 seeds) is better than all"
    assert narrow.table.rows[0][5:] == ("0.0230", "0.0456")


def test_other_boards_have_no_such_section(solved: list[TableCell]) -> None:
    mini = [
        dataclasses.replace(cell, board=cell.board._replace(dataset="fashion_mnist_mini"))
        for cell in solved
    ]
    assert section(mini) is None and narrow_section(mini) is None


@pytest.mark.usefixtures("store")
def test_the_command_shows_them_for_these_protocols_alone() -> None:
    def shown(*arguments: str) -> str:
        return CliRunner().invoke(app, ["leaderboard", *arguments]).stdout

    assert TITLE in shown("--protocol", "mnist")
    assert TITLE not in shown("--protocol", "quick")
    # A choice of rows would leave out the best one.
    assert TITLE not in shown("--protocol", "mnist", "--model", "pca")


def test_the_committed_page_has_them() -> None:
    page = (shipped().registry / "README.md").read_text()
    assert f"## {TITLE}\n" in page
    assert page.index(f"## {TITLE}\n") < page.index("## How to read a row")
