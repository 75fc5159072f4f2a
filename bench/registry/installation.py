"""Put champions into the folders of `registry/`: a new one, a renewed card, the previous one.

These functions work on the copy that `changes.changing` puts in place.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BadInput
from bench.core.identity import sha256_of_file
from bench.core.spec import RunRecord
from bench.core.store import Store, child, write_atomically
from bench.leaderboard.cells import TableCell
from bench.records.files import WEIGHTS, Arrays, read_arrays, read_weights, record_folder
from bench.registry.cards import (
    CARD,
    CARD_TEXT,
    Card,
    Weights,
    card_of,
    read_card,
    with_standing,
    without_path,
)
from bench.registry.champions import (
    PREVIOUS,
    card_page,
    champion,
    champions,
    fits,
    previous,
    text_of,
)

PICTURES = (
    *("reconstructions", "loss_curves", "latent_map", "samples", "interpolation"),
    *("confusion_matrix", "misclassified", "class_report", "reliability"),
)
"""A record's figures among these are drawn: for a classifier the last four and its curves."""


@dataclass(frozen=True)
class ChampionRank:
    """A champion's standing: its cell of the ranked table, the challenger's, its ledger rows."""

    cell: TableCell
    challenger: TableCell | None
    rows: tuple[str, ...]


def install(
    store: Store, record: RunRecord, track: str, standing: ChampionRank, keep_previous: bool
) -> Card:
    """Make a record the champion of a track and keep the incumbent in `previous/`.

    `keep_previous`: the incumbent is an older version of the same row, so the content of
    `previous/` is kept instead.
    """
    size = (record_folder(store.records, record.run_key) / WEIGHTS).stat().st_size
    read_weights(store.records, record)  # checks the digest
    weights = Weights(record.weights_sha256, size, fits(size))
    arrays = read_arrays(store.records, record)
    bare = card_of(record, track, weights, arrays)
    final = child(store.registry, bare.folder)
    with _building(final) as building:
        if weights.committed:
            source = record_folder(store.records, record.run_key) / WEIGHTS
            write_atomically(building / WEIGHTS, source.read_bytes())
        pictures = _draw(record, arrays, building)
        card = with_standing(
            dataclasses.replace(bare, pictures=pictures),
            standing.cell,
            standing.challenger,
            standing.rows,
        )
        write_card(building, card)
        if (final / CARD).exists():
            older = final / PREVIOUS if keep_previous else final
            _copy_champion(older, building / PREVIOUS)
    return card


def _draw(record: RunRecord, arrays: Arrays, folder: Path) -> dict[str, str]:
    """Draw the record's figures into `folder`; returns their SHA-256 by file name."""
    from bench.figures import draw_files

    files = draw_files(record, arrays)
    drawn = {}
    for name in PICTURES:
        if name in files:
            path = folder / f"{name}.png"
            write_atomically(path, files[name])
            drawn[path.name] = sha256_of_file(path)
    return drawn


def write_card(folder: Path, card: Card) -> None:
    """Write a card as JSON and as Markdown."""
    write_atomically(folder / CARD, card.to_json())
    write_atomically(folder / CARD_TEXT, card_page(folder, card).encode())


def renew_texts(registry: Path) -> list[str]:
    """Write the texts of cards that say something else, since a picture of their table came or
    went; returns their files."""
    changed = []
    for card in champions(registry).values():
        folder = child(registry, card.folder)
        if text_of(folder) != (text := card_page(folder, card)):
            write_atomically(folder / CARD_TEXT, text.encode())
            changed.append(f"registry/{(folder / CARD_TEXT).relative_to(registry)}")
    return changed


def update_standing(registry: Path, card: Card, standing: ChampionRank) -> bool:
    """Rewrite the card if its place in the table changed; returns whether it did."""
    renewed = with_standing(card, standing.cell, standing.challenger, standing.rows)
    folder = registry / card.folder
    if renewed == card and text_of(folder) == card_page(folder, card):
        return False
    write_card(folder, renewed)
    return True


def remove_paths(registry: Path) -> list[str]:
    """Rewrite cards of earlier versions that hold the path of own images; returns their files."""
    changed = []
    for champion_card in champions(registry).values():
        folder = child(registry, champion_card.folder)
        cards = {folder: champion_card, folder / PREVIOUS: previous(registry, champion_card)}
        for place, card in cards.items():
            if card is not None and without_path(card) != card:
                write_card(child(registry, str(place.relative_to(registry))), without_path(card))
                changed.append(f"registry/{(place / CARD).relative_to(registry)}")
    return changed


def swap_back(registry: Path, track: str) -> tuple[Card, Card]:
    """Exchange a track's champion with the one in `previous/`; returns (now, before).

    Doing it twice changes nothing. Raises BadInput if there is no previous champion.
    """
    card = champion(registry, track)
    older = previous(registry, card)
    if older is None:
        raise BadInput(f"{track} has had one champion only: there is nothing to roll back to")
    final = registry / card.folder
    with _building(final) as building:
        _copy_champion(final / PREVIOUS, building)
        _copy_champion(final, building / PREVIOUS)
    return older, card


def _copy_champion(source: Path, target: Path) -> None:
    """Copy a champion's own files, without its `previous/`."""
    if source.exists():
        target.mkdir(exist_ok=True)
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                write_atomically(target / path.name, path.read_bytes())
        if (source / CARD).exists():
            card = read_card(source / CARD, str(source / CARD))
            write_atomically(target / CARD_TEXT, card_page(target, card).encode())


@contextlib.contextmanager
def _building(final: Path) -> Iterator[Path]:
    """A folder that replaces `final`; both are in the copy, which a failure removes."""
    building = final.with_name(f".new-{final.name}")
    building.mkdir(parents=True)
    yield building
    if final.exists():
        shutil.rmtree(final)
    building.rename(final)
