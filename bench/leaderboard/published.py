"""What others published on the same data sets and numbers of images, beside our best rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.core.track import Track
from bench.core.view import Section, table_of
from bench.leaderboard.cells import TableCell
from bench.leaderboard.wording import DASH, score, seeds
from bench.metrics import METRICS, short_title

MODELS_OF_OTHERS = ("AE", "UMAP-AE", "VAE")
TITLE = "Beside what others published"
NO_ROW = "no row yet"
_SOURCE = (
    'Sainburg, McInnes and Gentner, "Parametric UMAP embeddings for representation and '
    'semisupervised learning", Neural Computation 33(11), 2021, published test scores of an '
    "autoencoder (AE), of one with UMAP's loss on its codes (UMAP-AE) and of a variational one "
    "(VAE): 50,000 training, 10,000 validation and the 10,000 official test images, one run each."
)
_READING = (
    '"Ours" is the trained row of the tables above that is best on validation by the same '
    "measure, with its mean test score over seeds: the best of many variants, where theirs are "
    "three. PCA, which is solved, stands in a line of its own. Verdicts compare means, rounded to "
    "the published digits. 5-nearest-neighbour accuracy is that of standardised codes; settings of "
    "k-means and the order of the training images may differ from theirs."
)


@dataclass(frozen=True)
class Figures:
    """Published test scores by a metric of METRICS, for a data set and a code size.

    `values` are by MODELS_OF_OTHERS, as text with the published digits. They are compared with rows
    of the protocol that has the name of the data set.
    """

    dataset: str
    code_size: int
    metric: str
    values: Mapping[str, str]


PUBLISHED = (
    Figures("fashion_mnist", 2, "mse", {"AE": "0.0244", "UMAP-AE": "0.0240", "VAE": "0.0253"}),
    Figures("fashion_mnist", 64, "mse", {"AE": "0.0054", "UMAP-AE": "0.0092", "VAE": "0.0058"}),
    Figures(
        "fashion_mnist", 2, "knn_accuracy", {"AE": "0.734", "UMAP-AE": "0.756", "VAE": "0.716"}
    ),
    Figures(
        "fashion_mnist", 64, "knn_accuracy", {"AE": "0.876", "UMAP-AE": "0.803", "VAE": "0.883"}
    ),
    Figures("fashion_mnist", 2, "kmeans_nmi", {"AE": "0.482", "UMAP-AE": "0.660"}),
    Figures("fashion_mnist", 64, "kmeans_nmi", {"AE": "0.554", "UMAP-AE": "0.664"}),
    Figures("mnist", 2, "mse", {"AE": "0.0369", "UMAP-AE": "0.0360"}),
    Figures("mnist", 64, "mse", {"AE": "0.0016", "UMAP-AE": "0.0027"}),
    Figures("mnist", 2, "knn_accuracy", {"AE": "0.793", "VAE": "0.765"}),
    Figures("mnist", 64, "knn_accuracy", {"AE": "0.976", "VAE": "0.979"}),
)
"""Tables of Sainburg, McInnes, Gentner 2021."""


@dataclass(frozen=True)
class Compared:
    """Published figures, our best trained row and PCA's row for them; None: there is none."""

    figures: Figures
    best: TableCell | None
    pca: TableCell | None


def compared(cells: Iterable[TableCell]) -> list[Compared]:
    """Every published figure of the boards that these cells are on, with our rows for it."""
    cells = list(cells)
    boards = {(cell.board.dataset, cell.board.protocol) for cell in cells}
    return [
        Compared(figures, _best(own, figures.metric), _pca(own, figures.metric))
        for figures in PUBLISHED
        if (figures.dataset, figures.dataset) in boards
        for own in [list(_same(cells, figures))]
    ]


def _same(cells: Iterable[TableCell], figures: Figures) -> Iterator[TableCell]:
    """The ranked cells that the figures are to be compared with."""
    for cell in cells:
        board = cell.board.dataset, cell.board.protocol
        if (
            board == (figures.dataset, figures.dataset)
            and cell.track == Track("real", figures.code_size)
            and not cell.why_unranked
            and cell.has(f"test_{figures.metric}")
        ):
            yield cell


def _best(cells: Sequence[TableCell], metric: str) -> TableCell | None:
    """The trained row with the best mean on validation, whatever its test score; ties by name."""
    sign = -1 if METRICS[metric].higher_is_better else 1
    column = f"val_{metric}"
    trained = [cell for cell in cells if not cell.closed_form and cell.has(column)]
    return min(trained, key=lambda cell: (sign * cell.mean(column), cell.row), default=None)


def _pca(cells: Sequence[TableCell], metric: str) -> TableCell | None:
    return next((cell for cell in cells if cell.is_pca and cell.has(f"val_{metric}")), None)


def verdict(figures: Figures, cell: TableCell) -> str:
    """`better than AE and VAE, worse than UMAP-AE`: a row's mean test score, rounded to the
    published digits, against each published one."""
    mean = cell.mean(f"test_{figures.metric}")
    higher = METRICS[figures.metric].higher_is_better
    found: dict[str, list[str]] = {"better than": [], "equal to": [], "worse than": []}
    for model, value in figures.values.items():
        ours, theirs = float(f"{mean:.{len(value.partition('.')[2])}f}"), float(value)
        words = "equal to" if ours == theirs else "better than"
        found[words if ours == theirs or (ours > theirs) == higher else "worse than"].append(model)
    return ", ".join(
        f"{words} {'all' if len(models) == len(figures.values) > 1 else _and(models)}"
        for words, models in found.items()
        if models
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def section(cells: Iterable[TableCell]) -> Section | None:
    """The section of registry/README.md; None if no board has published figures."""
    found = compared(cells)
    if not found:
        return None
    header = ["data set", ">code size", "test score", *(f">{name}" for name in MODELS_OF_OTHERS)]
    header += [">ours", "variant", ">seeds", "verdict"]
    return Section(TITLE, (_SOURCE, _READING), table=table_of(header, _lines(found)))


def _lines(found: Iterable[Compared]) -> Iterator[list[str]]:
    for each in found:
        figures = each.figures
        first = [figures.dataset, str(figures.code_size), short_title(figures.metric)]
        values = [figures.values.get(name, DASH) for name in MODELS_OF_OTHERS]
        if each.best is None:
            yield [*first, *values, DASH, NO_ROW, DASH, DASH]
        for cell in filter(None, (each.best, each.pca)):
            ours = score(cell, f"test_{figures.metric}", figures.metric)
            yield [*first, *values, ours, cell.row, seeds(cell), verdict(figures, cell)]


def narrow_section(cells: Iterable[TableCell]) -> Section | None:
    """The same in 80 characters, variants and verdicts below the table; None as `section`."""
    found = compared(cells)
    if not found:
        return None
    header = [">size", "test score", *(f">{name}" for name in MODELS_OF_OTHERS)]
    header += [">ours", ">PCA"]
    rows, notes = [], []
    for each in found:
        figures, column = each.figures, f"test_{each.figures.metric}"
        name = _NARROW.get(figures.metric, short_title(figures.metric))
        rows.append(
            [
                str(figures.code_size),
                name,
                *(figures.values.get(model, DASH) for model in MODELS_OF_OTHERS),
                f"{each.best.mean(column):.4f}" if each.best else DASH,
                f"{each.pca.mean(column):.4f}" if each.pca else DASH,
            ]
        )
        if each.best:
            counted = f"{seeds(each.best)} seeds"
            notes.append(
                f"{figures.code_size}, {name}: {each.best.row} ({counted}) is "
                f"{verdict(figures, each.best)}"
            )
    title = f"{TITLE} (Sainburg, McInnes, Gentner 2021; one run each)"
    return Section(title, table=table_of(header, rows), notes=tuple(notes))


_NARROW = {"knn_accuracy": "5-NN", "kmeans_nmi": "NMI"}
