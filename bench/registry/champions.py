"""The folders of the champions: `registry/<data set>/<protocol>.<track>/`.

Each holds weights.safetensors (up to 16 MiB), card.json, card.md and pictures, and the same for
the previous champion in `previous/`. Functions that write work on the copy that
`changes.changing` puts in place.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import BadInput, CheckFailed, unknown_name
from bench.core.identity import sha256_of_file
from bench.core.spec import RunRecord
from bench.core.store import Store, child, shipped, write_atomically
from bench.core.text import ODD_BYTES
from bench.core.track import Track
from bench.leaderboard.ranking import TableCell
from bench.leaderboard.render import Champion
from bench.leaderboard.wording import short_title, shown_score
from bench.records.feature_cards import FEATURES
from bench.records.files import (
    WEIGHTS,
    Arrays,
    read_arrays,
    read_safetensors,
    read_weights,
    record_folder,
)
from bench.registry.card_text import card_text
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
from bench.registry.changes import unchanged

PREVIOUS, SIDE_BY_SIDE = "previous", "side_by_side.png"
MOST_BYTES = 16 * 2**20
PICTURES = (
    *("reconstructions", "loss_curves", "latent_map", "samplers", "samples", "interpolation"),
    *("confusion_matrix", "misclassified", "class_report", "reliability"),
)
"""A record's figures among these are drawn: for a classifier the last four and its curves, of
samples those of one sampler only where there are not all of them beside each other."""


def fits(size: int) -> bool:
    """Whether weights of so many bytes are committed beside the card."""
    return size <= MOST_BYTES


@dataclass(frozen=True)
class ChampionRank:
    """A champion's standing: its cell of the ranked table, the challenger's, its ledger rows."""

    cell: TableCell
    challenger: TableCell | None
    rows: tuple[str, ...]


def champions(registry: Path) -> dict[str, Card]:
    """The cards of all champions by track; CheckFailed names a card that was changed."""
    found = {}
    for path in sorted(registry.glob(f"*/*/{CARD}")):
        if path.parent.name.startswith(".") or path.parent.parent.name == FEATURES:
            continue
        card = read_card(path, f"registry/{path.relative_to(registry)}")
        if registry / card.folder != path.parent:
            raise CheckFailed(
                f"registry/{path.relative_to(registry)} is the card of {card.folder}; "
                "restore the committed file"
            )
        child(registry, card.folder)
        found[card.track] = card
    return found


def with_shipped(store: Store) -> list[Store]:
    """Where champions and tables are found: in the workspace first, then in what is committed with
    bench."""
    ours = shipped()
    same = not ours.registry.is_dir() or ours.registry.resolve() == store.registry.resolve()
    return [store] if same else [store, ours]


def find_champion(store: Store, track: str) -> tuple[Store, Card]:
    """The card of a track's champion, named in full or by its end, and the store that holds it.

    `quick.d32` is enough if it fits one track only. Raises BadInput for a name that fits none or
    several, with the nearest names.
    """
    name = track.replace("/", ".")
    listed: dict[str, tuple[Store, Card]] = {}
    for each in with_shipped(store):
        with unchanged(each):
            for title, card in champions(each.registry).items():
                listed.setdefault(title, (each, card))
    fitting = [title for title in listed if f".{title}".endswith(f".{name}")]
    if name in listed:
        fitting = [name]
    if not listed:
        raise BadInput(f"no champions in {store.registry} yet; make them with: bench promote")
    if not fitting:
        raise unknown_name("track", name, listed)
    if len(fitting) > 1:
        raise BadInput(f"'{track}' is the end of several tracks: {', '.join(fitting)}; name one")
    return listed[fitting[0]]


def largest_track(store: Store, name: str) -> str:
    """The track of a protocol's champion with the largest code of real numbers, of those in the
    workspace, else of those committed with bench; any other name is returned as it is."""
    for each in with_shipped(store):
        with unchanged(each):
            cards = champions(each.registry).values()
        tracks = {
            track.size: card.track
            for card in cards
            if card.spec.protocol == name and (track := Track.parse(card.track_name)).on_size_axis
        }
        if tracks:
            return tracks[max(tracks)]
    return name


def served_champion(store: Store, name: str) -> tuple[Path, Card]:
    """The weights and the card of the champion that a track, its end or a protocol names.

    Raises BadInput as `find_champion`, and if the weights are not in the registry; CheckFailed if
    they were changed.
    """
    place, card = find_champion(store, largest_track(store, name))
    folder = place.registry / card.folder
    with unchanged(place):
        if not card.weights.committed:
            raise BadInput(f"the weights of {card.track} are too large and not stored in {folder}")
        champion_weights(folder, card)
    return folder / WEIGHTS, card


def champion(registry: Path, track: str) -> Card:
    """The card of a track's champion; the track is named as in tables or as its folder.

    Raises BadInput with the nearest names if there is none.
    """
    cards = champions(registry)
    track = track.replace("/", ".", 1)
    if not cards:
        raise BadInput(f"no champions in {registry} yet; make them with: bench promote")
    if track not in cards:
        raise unknown_name("track", track, cards)
    return cards[track]


def previous(registry: Path, card: Card) -> Card | None:
    """The card of the champion before this one, if one is kept."""
    path = registry / card.folder / PREVIOUS / CARD
    return read_card(path, f"registry/{path.relative_to(registry)}") if path.exists() else None


def describe_champions(store: Store) -> list[dict[str, Any]]:
    """One row per track: champion, its mean test score, challenger, previous champion.

    Those of the workspace, then those committed with bench.
    """
    return [row for each in with_shipped(store) for row in _described(each, each == store)]


def _described(store: Store, own: bool) -> list[dict[str, Any]]:
    with unchanged(store):
        cards = champions(store.registry)
        before = {track: previous(store.registry, card) for track, card in cards.items()}
    rows = []
    for track, card in cards.items():
        metric = card.spec.selection_metric
        older = before[track]
        test = card.summary.means[f"test_{metric}"]
        rows.append(
            {
                "track": track,
                "champion": card.summary.row,
                "metric": metric,
                "test_mean": test,
                "test": f"{short_title(metric)} {shown_score(test, metric)}",
                "over_pca": card.summary.over_pca,
                "challenger": card.challenger.row if card.challenger else None,
                "previous": older.summary.row if older else None,
                "run_key": card.run_key,
                "folder": f"registry/{card.folder}",
                "committed_with_bench": not own,
            }
        )
    return rows


def shown_champions(cards: Mapping[str, Card]) -> dict[str, Champion]:
    """The champions as shown in the tables."""
    return {
        track: Champion(
            card.summary.row, card.challenger.row if card.challenger else "", card.folder
        )
        for track, card in cards.items()
    }


def champion_weights(folder: Path, card: Card) -> Arrays:
    """The weights next to a card, after checking their digest; CheckFailed if it differs."""
    return read_safetensors(folder / WEIGHTS, card.weights.sha256)


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
    if "samplers" in files:
        files.pop("samples", None)
    for name in PICTURES:
        if name in files:
            path = folder / f"{name}.png"
            write_atomically(path, files[name])
            drawn[path.name] = sha256_of_file(path)
    return drawn


def write_card(folder: Path, card: Card) -> None:
    """Write a card as JSON and as Markdown."""
    write_atomically(folder / CARD, card.to_json())
    write_atomically(folder / CARD_TEXT, _page(folder, card).encode())


def _page(folder: Path, card: Card) -> str:
    """The text of a card in a folder. The picture of all rows of its table lies beside that of a
    track; a champion in `previous/` is of an earlier table."""
    picture = folder.parent / f"{Path(card.folder).name}.{SIDE_BY_SIDE}"
    return card_text(card, f"../{picture.name}" if picture.exists() else "")


def renew_texts(registry: Path) -> list[str]:
    """Write the texts of cards that say something else, since a picture of their table came or
    went; returns their files."""
    changed = []
    for card in champions(registry).values():
        folder = child(registry, card.folder)
        if _text(folder) != (text := _page(folder, card)):
            write_atomically(folder / CARD_TEXT, text.encode())
            changed.append(f"registry/{(folder / CARD_TEXT).relative_to(registry)}")
    return changed


def update_standing(registry: Path, card: Card, standing: ChampionRank) -> bool:
    """Rewrite the card if its place in the table changed; returns whether it did."""
    renewed = with_standing(card, standing.cell, standing.challenger, standing.rows)
    folder = registry / card.folder
    if renewed == card and _text(folder) == _page(folder, card):
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


def _text(folder: Path) -> str:
    path = folder / CARD_TEXT
    return path.read_text(encoding="utf-8", errors=ODD_BYTES) if path.exists() else ""


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
            write_atomically(target / CARD_TEXT, _page(target, card).encode())


@contextlib.contextmanager
def _building(final: Path) -> Iterator[Path]:
    """A folder that replaces `final`; both are in the copy, which a failure removes."""
    building = final.with_name(f".new-{final.name}")
    building.mkdir(parents=True)
    yield building
    if final.exists():
        shutil.rmtree(final)
    building.rename(final)


def check_champions(registry: Path) -> int:
    """Check every card's text, pictures and weights, also in `previous/`; returns their number.

    Raises CheckFailed naming the first file that does not match its card.
    """
    cards = champions(registry)
    for card in cards.values():
        check_folder(registry, registry / card.folder, card)
        older = previous(registry, card)
        if older is not None:
            check_folder(registry, registry / card.folder / PREVIOUS, older)
    return len(cards)


def check_folder(registry: Path, folder: Path, card: Card) -> None:
    """Check the text, the pictures and the weights of one folder against its card."""
    where = f"registry/{folder.relative_to(registry)}"
    if _text(folder) != _page(folder, card):
        raise CheckFailed(f"{where}/{CARD_TEXT} does not match card.json; fix: bench promote")
    wanted = dict(card.pictures)
    if card.weights.committed:
        wanted[WEIGHTS] = card.weights.sha256
    for name, sha256 in wanted.items():
        path = folder / name
        if not path.exists():
            raise CheckFailed(f"{where}/{name} is missing; restore the committed file")
        if sha256_of_file(path) != sha256:
            raise CheckFailed(
                f"{where}/{name} was changed: its SHA-256 is not the one in card.json; "
                "restore the committed file"
            )
