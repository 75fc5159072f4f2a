"""The card of a champion as Markdown, rendered from card.json alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.spec import to_json_types
from bench.core.tasks import FURTHER_TASKS, TASKS, is_reference
from bench.core.text import for_markdown
from bench.core.track import REAL_BITS
from bench.core.view import Picture, Section, Table, markdown, table_of
from bench.data.table import DATASETS
from bench.leaderboard.wording import rank_words, share_text, shown_score, whole, with_spread
from bench.metrics import METRICS, metrics_of, short_title
from bench.metrics.quantised import coarse_id
from bench.models.zoo import MODELS
from bench.registry.cards import CARD, Card, Summary


def card_text(card: Card, side_by_side: str = "") -> str:
    """The card in Markdown; `side_by_side`: the picture of all rows of its table, relative to it,
    if there is one."""
    return "\n".join(map(markdown, sections(card, side_by_side)))


def sections(card: Card, side_by_side: str = "") -> Iterator[Section]:
    """The card as a page."""
    title = f"{for_markdown(card.summary.row)}, champion of {for_markdown(card.track)}"
    yield Section(title, (_what(card),), level=1)
    yield _scores(card)
    yield from _further_scores(card)
    yield from _classes(card)
    pictures = [Picture(Path(name).stem.replace("_", " "), name) for name in card.pictures]
    if side_by_side:
        pictures.insert(0, Picture("The same test images by every row of its table", side_by_side))
    if pictures:
        # A heading only where tables of further tasks or of all rows stand before: cards of earlier
        # versions, which have neither, keep their text.
        heading = "Pictures" if side_by_side or _measures_more(card) else ""
        yield Section(heading, pictures=tuple(pictures))
    yield Section("Use it", _use(card))
    yield Section("Data", (_data(card),))
    yield Section("Recipe", (_recipe(card),))
    yield Section("Limits", (_limits(card),))
    yield Section("Proof", (_proof(card),))


def _what(card: Card) -> str:
    shape = " x ".join(map(str, card.image_shape))
    row = MODELS.get(card.spec.model)
    line = f" ({row.line})" if row else ""
    return TEXTS[card.spec.task].what(card, line, shape)


def _what_classifier(card: Card, line: str, shape: str) -> str:
    return (
        f"An image classifier: `{card.spec.model}`{line}. It tells images of {shape} (channels x "
        f"height x width) into {len(card.class_names)} classes, with "
        f"{whole(card.facts['parameters'])} parameters and "
        f"{card.facts['multiply_adds'] / 1e6:.2f} million multiply-adds an image. Its features "
        f"are the {whole(card.facts['feature_size'])} numbers of the layer before the last."
    )


def _what_autoencoder(card: Card, line: str, shape: str) -> str:
    return (
        f"An image autoencoder: `{card.spec.model}`{line}. It turns images of {shape} (channels x "
        f"height x width) into codes of {whole(card.facts['code_size'])} numbers and back, with "
        f"{whole(card.facts['parameters'])} parameters and "
        f"{card.facts['multiply_adds'] / 1e6:.2f} million multiply-adds an image.{_bits(card)}"
    )


def _bits(card: Card) -> str:
    """The bits of a code as it is sent, where its scores say what fewer bits cost."""
    metric = card.spec.selection_metric
    name = coarse_id(metric)
    if name not in card.scores["test"]:
        return ""
    bits = card.facts.get("code_bits") or REAL_BITS * card.facts["code_size"]
    values = (shown_score(card.scores["test"][each], metric) for each in (name, metric))
    at_8, plain = values
    return (
        f" A code is sent as {whole(bits)} bits; with 8 bits per number the test "
        f"{short_title(metric)} of these weights is {at_8} instead of {plain}."
    )


def _scores(card: Card) -> Section:
    """The metrics of its task on both parts: over the seeds, and for the weights in the folder."""
    own = [name for name in card.scores["test"] if name not in METRICS or not METRICS[name].further]
    metric = card.spec.selection_metric
    val, test = card.summary.val_interval, card.summary.test_interval
    ends = (
        f"{short_title(metric)}: 95 % interval over seeds and images "
        f"{shown_score(val[0], metric)} to {shown_score(val[1], metric)} on validation, "
        f"{shown_score(test[0], metric)} to {shown_score(test[1], metric)} on test. {_seeds(card)}"
    )
    more = f"Every measure, also of the tasks below, stands in [{CARD}]({CARD})."
    facts = () if len(own) == len(card.scores["test"]) else (more,)
    return Section("Scores", facts, table=_table(card, own), notes=(ends, _standing(card)))


def _measures_more(card: Card) -> bool:
    """Whether it was measured in further tasks."""
    return any(name in METRICS and METRICS[name].further for name in card.scores["test"])


def _further_scores(card: Card) -> Iterator[Section]:
    """The most important measures of each further task, and what they are to be compared with."""
    for task in FURTHER_TASKS.values():
        found = [
            name
            for name, metric in metrics_of(task.id).items()
            if name in card.scores["test"] and not metric.detail
        ]
        if found:
            yield Section(task.title, (task.question,), table=_table(card, found), level=3)


def _table(card: Card, names: Iterable[str]) -> Table:
    rows = [
        (
            short_title(name),
            *(_mean(card.summary, f"{part}_{name}", name) for part in ("val", "test")),
            shown_score(card.scores["test"][name], name),
        )
        for name in names
    ]
    header = ("", ">validation, over seeds", ">test, over seeds", ">test, these weights")
    return table_of(header, rows)


def _solved(card: Card) -> bool:
    row = MODELS.get(card.spec.model)
    return row is not None and row.closed_form


def _seeds(card: Card) -> str:
    if _solved(card):
        return "It is solved, not trained: no seed changes it."
    return (
        f"Seeds {card.summary.seeds}: {card.summary.runs}; ± is the standard deviation over seeds."
    )


def _mean(summary: Summary, column: str, metric: str) -> str:
    if column not in summary.means:
        return "–"
    return with_spread(summary.means[column], summary.deviations.get(column), metric)


def _standing(card: Card) -> str:
    over = card.summary.over_pca
    against = (
        "No other kind of row stands in its table for comparison."
        if not TASKS[card.spec.task].reference
        else f"Test MSE against PCA with the same code size: {over} (positive is better)."
        if over != "–"
        else "It is PCA itself, the reference of its table."
        if is_reference(card.spec.model)
        else "The table has no PCA to compare with."
    )
    badges = f" Its row wears: {card.summary.badges}." if card.summary.badges else ""
    against = f"{_place(card.summary)}{against}"
    if card.challenger is None:
        return f"{against}{badges} There is no challenger."
    metric = card.spec.selection_metric
    other = _mean(card.challenger, f"val_{metric}", metric)
    return (
        f"{against}{badges} Challenger: {card.challenger.row}, validation "
        f"{short_title(metric)} {other}, {rank_words(card.challenger.ranks)}."
    )


def _place(row: Summary) -> str:
    """Where a row stands in its table; empty for cards from before ranges of ranks."""
    if row.ranks is None:
        return ""
    place = rank_words(row.ranks)
    return (
        f"{place[0].upper()}{place[1:]}; the best of its table in {share_text(row.best_share)} of "
        "the draws of other seeds and images. "
    )


def _use(card: Card) -> tuple[str, ...]:
    folder = f"registry/{card.folder}"
    text = TEXTS[card.spec.task]
    here = (
        f"```python\nfrom bench.registry import {text.load}\n\n"
        f'model = {text.load}("{folder}")\n'
        + text.example.format(shape=" x ".join(map(str, card.image_shape)))
        + "\n```"
    )
    if not card.weights.committed:
        here = f"The weights ({card.weights.bytes / 2**20:.0f} MiB) are too large to lie here."
    return (
        here,
        "Through MLflow, once `bench promote` has told the local Model Registry:",
        "```python\nimport mlflow\n\n"
        'mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")  # the workspace as current folder\n'
        f'model = mlflow.pyfunc.load_model("models:/{card.track}@champion")\n'
        f"{text.output}\n"
        "```",
    )


def _data(card: Card) -> str:
    known = DATASETS.get(card.spec.dataset_label)
    about = (
        f"{known.title} ({known.source}). Licence: {known.licence}."
        if known
        else "A data set of its owner's; its licence is the owner's matter."
    )
    return (
        f"`{card.spec.dataset_label}`: {about} {whole(card.facts['train_images'])} training "
        f"images; digest of the data `{card.spec.data_digest}`, of the split `{card.split_digest}`."
    )


def _recipe(card: Card) -> str:
    spec = card.spec
    recipe = ", ".join(f"{key} {value}" for key, value in to_json_types(spec.train).items())
    own = ", ".join(f"{key} {value}" for key, value in spec.hyperparameters.items())
    if _solved(card):
        return f"Solved from the training images, not trained. Protocol `{spec.protocol}`."
    return (
        f"Protocol `{spec.protocol}` (fingerprint `{spec.protocol_fingerprint}`), recipe "
        f'"{spec.recipe}": {recipe}.' + (f" Its own: {own}." if own else "")
    )


def _classes(card: Card) -> Iterator[Section]:
    """For a classifier: scores per class, and the most frequent confusions."""
    if not card.classes:
        return
    rows = [
        (
            for_markdown(row.name),
            f"{row.images:,}",
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.f1:.3f}",
        )
        for row in card.classes
    ]
    mistaken = "; ".join(
        f"{for_markdown(row.label)} called {for_markdown(row.predicted)} ({row.images})"
        for row in card.confusions
    )
    yield Section(
        facts=("By class on the test images (0/0 counts as 0), these weights:",),
        table=table_of(("class", ">images", ">precision", ">recall", ">F1"), rows),
        notes=(f"Most frequent confusions: {mistaken or 'none'}.",),
    )


_FOR_CLASSIFIERS = (
    "calls every image one of its "
    "classes, also one that is none of them, often with confidence. The scores hold for "
    "this protocol's budget: a longer or tuned training can change the order. Nothing here "
    "was tested for decisions about people."
)
_FOR_AUTOENCODERS = (
    "reconstructs other images "
    "worse, often silently. {compared} hold for this protocol's budget: a longer or "
    "tuned training can change the order. Nothing here was tested for decisions about people."
)
_PIXELS_ALONE = (
    "The scores compare pixels; they say nothing about whether codes or samples are useful for a "
    "task. They"
)
_PIXELS_AND_TASKS = (
    "Errors compare pixels: a code with a lower one need not be better for classes, search or "
    "samples. The scores"
)


def _limits(card: Card) -> str:
    compared = _PIXELS_AND_TASKS if _measures_more(card) else _PIXELS_ALONE
    limits = TEXTS[card.spec.task].limits.format(compared=compared)
    return f"It was trained on `{card.spec.dataset_label}` alone and {limits}"


def _proof(card: Card) -> str:
    about = card.environment
    machine = ", ".join(
        f"{name} {about[name]}"
        for name in ("bench", "torch", "python", "device", "threads")
        if about.get(name)
    )
    commit = f", commit {about['git_commit']}" if about.get("git_commit") else ""
    if about.get("bench_digest"):
        commit += f", digest of bench/ `{about['bench_digest']}`"
    seed = "" if _solved(card) else f" (seed {card.spec.seed}, the median on validation)"
    return (
        f"Run `{card.run_key}`{seed}, scores "
        f"`{card.evaluation_digest}`, made with {machine}{commit}. SHA-256 of the weights: "
        f"`{card.weights.sha256}`. Recompute its scores with `bench verify {card.track}`. "
        "Everything in machine-readable form: [card.json](card.json)."
    )


@dataclass(frozen=True)
class TaskText:
    """What a card says by task: what the model is, how it is loaded and called, its limits.

    `load`, `example`: the function and calls in Python; `output`: the call through MLflow.
    """

    what: Callable[[Card, str, str], str]
    load: str
    example: str
    output: str
    limits: str


TEXTS: Mapping[str, TaskText] = {
    "reconstruction": TaskText(
        _what_autoencoder,
        "load_champion",
        "codes = model.encode_images(x)      # x: float32 tensor N x {shape} in [0, 1]\n"
        "x_hat = model.decode_images(codes)  # the same shape, in [0, 1]",
        'x_hat = model.predict(images)  # float32 array; params={"output": "code"} gives codes',
        _FOR_AUTOENCODERS,
    ),
    "classification": TaskText(
        _what_classifier,
        "load_classifier",
        "probabilities = model(x).softmax(dim=1)  # x: float32 tensor N x {shape} in [0, 1]\n"
        "features = model.features(x)             # the layer before the last",
        'p = model.predict(images)  # float32 array; params={"output": "features"} gives features',
        _FOR_CLASSIFIERS,
    ),
}
"""The text of cards, by task."""
