"""The card of a champion, stored as `card.json`; card_text.py renders it as Markdown."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, ValidationError

from bench.core.errors import CheckFailed
from bench.core.identity import Name, digest
from bench.core.paths import regular
from bench.core.spec import RunRecord, RunSpec
from bench.core.strict import STRICT, adapter
from bench.core.track import TrackName
from bench.leaderboard.cells import TableCell
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.wording import margin
from bench.records.classes import Arrays, ClassScores, Confusion, class_scores, top_confusions

CARD, CARD_TEXT = "card.json", "card.md"
CARD_SCHEMA = 2


@dataclass(frozen=True)
class Weights:
    """The weights file: its digest, its size, and whether it is stored next to the card."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    sha256: str
    bytes: int
    committed: bool


@dataclass(frozen=True)
class Summary:
    """A row of the table when the card was written. Scores by column of the ledger
    (`val_mse`, `test_ssim`, ...), means and standard deviations over `seeds`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    row: str
    configuration: str
    ranks: tuple[int, int] | None
    best_share: float | None
    seeds: str
    runs: str
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    val_interval: tuple[float, float]
    test_interval: tuple[float, float]
    over_pca: str
    badges: str


@dataclass(frozen=True)
class Card:
    """Everything about a champion. `rows` are the digests of its cell's ledger rows; `scores`
    and `facts` are those of the run whose weights were kept, `classes` and `confusions` those of a
    classifier on the test images; `digest` covers the rest."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int
    track: str
    track_name: TrackName
    run_key: str
    evaluation_digest: str
    spec: RunSpec
    weights: Weights
    scores: Mapping[str, Mapping[str, float]]
    facts: Mapping[str, float]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    split_digest: str
    environment: Mapping[str, str]
    pictures: Mapping[Name, str]
    rows: tuple[str, ...]
    summary: Summary
    challenger: Summary | None
    digest: str = ""
    classes: tuple[ClassScores, ...] = ()
    confusions: tuple[Confusion, ...] = ()

    @property
    def folder(self) -> str:
        """Its folder, relative to registry/."""
        return f"{self.spec.dataset_label}/{self.spec.protocol}.{self.track_name}"

    def to_json(self) -> bytes:
        """The content of card.json."""
        return adapter(Card).dump_json(self, indent=1) + b"\n"


def sealed(card: Card) -> Card:
    """The card with its digest filled in."""
    values = adapter(Card).dump_python(dataclasses.replace(card, digest=""), mode="json")
    return dataclasses.replace(card, digest=digest(values))


def read_card(path: Path, where: str) -> Card:
    """Read a card; CheckFailed names `where` if it was edited or is damaged."""
    content = regular(path).read_bytes()
    try:
        card: Card = adapter(Card).validate_json(_of_today(content))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"])) or "file"
        raise CheckFailed(
            f"{where} is damaged or of another version ({key}: {error.errors()[0]['msg']}); "
            "restore the committed file"
        ) from None
    # Digest of the file's own keys: settings added since have defaults and are not in it.
    if digest({**json.loads(content), "digest": ""}) != card.digest:
        raise CheckFailed(
            f"{where} was changed by hand: its content does not match its digest; "
            "restore the committed file"
        )
    return card


def _of_today(content: bytes) -> bytes:
    """The content of a card with today's keys: schema 1 had a rank instead of a range of ranks."""
    try:
        values = json.loads(content)
        if values["schema_version"] > 1:
            return content
        for summary in filter(None, (values["summary"], values["challenger"])):
            del summary["rank"]
            summary |= {"ranks": None, "best_share": None}
    except (ValueError, KeyError, TypeError, AttributeError):
        return content  # damaged: validation says how
    return json.dumps(values).encode()


def without_path(card: Card) -> Card:
    """The card with its images known by label and digest, not by a path of one machine."""
    spec = known_by_label(card.spec)
    return card if spec == card.spec else sealed(dataclasses.replace(card, spec=spec))


def known_by_label(spec: RunSpec) -> RunSpec:
    """A spec with its images known by label and digest, not by a path of one machine."""
    own = ":" in spec.dataset
    kept = spec.definition.kept(spec.dataset_label) if spec.definition else None
    dataset = spec.dataset_label if own else spec.dataset
    return dataclasses.replace(spec, dataset=dataset, definition=kept)


def summary_of(cell: TableCell) -> Summary:
    """A row of the ranked table, for a card."""
    return Summary(
        row=cell.row,
        configuration=cell.configuration,
        ranks=cell.ranks,
        best_share=None if math.isnan(cell.best_share) else rounded(cell.best_share),
        seeds=",".join(map(str, cell.seeds)),
        runs=f"{cell.started} started, {cell.finished} finished, {cell.diverged} diverged",
        means=_known(cell.means),
        deviations={} if cell.closed_form else _known(cell.deviations),
        val_interval=cell.interval,
        test_interval=cell.test_interval,
        over_pca=margin(cell),
        badges=cell.badge_text,
    )


def _known(values: Mapping[str, float]) -> dict[str, float]:
    """Those that are known, with nine digits as in the ledger, so that averages have the same
    bytes on every machine."""
    return {key: rounded(value) for key, value in values.items() if not math.isnan(value)}


def card_of(record: RunRecord, track: str, weights: Weights, arrays: Arrays) -> Card:
    """The part of a card that comes from a record; `with_standing` fills in its standing, the
    caller its pictures."""
    nothing = Summary("", "", None, None, "", "", {}, {}, (0.0, 0.0), (0.0, 0.0), "–", "")
    return Card(
        schema_version=CARD_SCHEMA,
        track=track,
        track_name=str(record.track),
        run_key=record.run_key,
        evaluation_digest=record.evaluation_digest,
        spec=known_by_label(record.spec),
        weights=weights,
        scores=record.scores,
        facts=record.facts,
        image_shape=record.image_shape,
        class_names=record.class_names,
        split_digest=record.split_digest,
        environment=record.environment,
        pictures={},
        rows=(),
        summary=nothing,
        challenger=None,
        classes=class_scores(record, arrays),
        confusions=top_confusions(record, arrays),
    )


def with_standing(
    card: Card, cell: TableCell, challenger: TableCell | None, rows: tuple[str, ...]
) -> Card:
    """The card with its row of the table, its challenger's, and the digests of its ledger rows."""
    return sealed(
        dataclasses.replace(
            card,
            summary=summary_of(cell),
            challenger=summary_of(challenger) if challenger else None,
            rows=rows,
        )
    )
