"""The folders of the champions: `registry/<data set>/<protocol>.<track>/`.

Each holds weights.safetensors (up to 16 MiB), card.json, card.md and pictures, and the same for
the previous champion in `previous/`. Here they are found and checked; `installation` writes them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.core.errors import BadInput, CheckFailed, unknown_name
from bench.core.identity import sha256_of_file
from bench.core.paths import regular
from bench.core.store import Store, child, shipped
from bench.core.text import ODD_BYTES
from bench.core.track import Track
from bench.leaderboard.render import Champion
from bench.leaderboard.wording import shown_score
from bench.metrics import short_title
from bench.records.feature_cards import FEATURES
from bench.records.files import WEIGHTS, Arrays, read_safetensors
from bench.registry.card_text import card_text
from bench.registry.cards import CARD, CARD_TEXT, Card, read_card
from bench.registry.changes import unchanged

PREVIOUS, SIDE_BY_SIDE = "previous", "side_by_side.png"
MOST_BYTES = 16 * 2**20


def fits(size: int) -> bool:
    """Whether weights of so many bytes are committed beside the card."""
    return size <= MOST_BYTES


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
        if card.track != card.folder.replace("/", ".", 1):
            raise CheckFailed(
                f"registry/{path.relative_to(registry)} names the track {card.track!r}, which is "
                "not that of its folder; restore the committed file"
            )
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
    return (
        read_card(path, f"registry/{path.relative_to(registry)}")
        if regular(path).exists()
        else None
    )


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


def card_page(folder: Path, card: Card) -> str:
    """The text of a card in a folder. The picture of all rows of its table lies beside that of a
    track; a champion in `previous/` is of an earlier table."""
    picture = folder.parent / f"{Path(card.folder).name}.{SIDE_BY_SIDE}"
    return card_text(card, f"../{picture.name}" if picture.exists() else "")


def text_of(folder: Path) -> str:
    """The card beside card.json as Markdown; empty: there is none."""
    path = folder / CARD_TEXT
    return path.read_text(encoding="utf-8", errors=ODD_BYTES) if regular(path).exists() else ""


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
    if text_of(folder) != card_page(folder, card):
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
