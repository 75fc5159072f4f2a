"""Names that earlier versions gave to own data in `registry/`, converted to today's.

Labels of own data had no digits of the content (`npz.photos`). Tables, comparisons and champions
keep their numbers: only names, and the digests over them, change. Nothing is computed again.
"""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping

from bench.core.errors import CheckFailed
from bench.core.identity import own_label
from bench.core.repairs import Care, Finding
from bench.core.store import Store, child
from bench.data import DATASETS
from bench.leaderboard.competitions import Competition, competitions
from bench.leaderboard.ledger import LedgerRow, ledger_of
from bench.leaderboard.significance import IntervalRow, PairRow, Significance
from bench.registry.cards import Card, sealed, without_path
from bench.registry.champions import PREVIOUS, champions, previous
from bench.registry.changes import changing, one_writer, remove_folder, unchanged
from bench.registry.installation import write_card
from bench.registry.pages import write_pages
from bench.registry.results import Results, read_results, write_changed
from bench.registry.scores import relabelled


def mend_names(care: Care) -> Iterator[Finding]:
    """Names of earlier versions. Raises as `convert_names` does."""
    if names := _without_digits(care.store):
        yield care.settle(
            "names of own data in the registry",
            ", ".join(sorted(names)),
            "given the digits of their content",
            convert_names,
            care.store,
        )


def convert_names(store: Store) -> int:
    """Give names of own data the digits of their content; returns how many were without.

    Raises BadInput if the registry cannot be written, CheckFailed if it was changed by hand.
    """
    if not _without_digits(store):
        return 0
    with one_writer(store):
        before = read_results(store.registry)
        names = _without_digits(store)
        digests = {row.row_digest: _renamed(row).row_digest for row in before.ledger}
        with changing(store) as staged:
            scores = relabelled(staged.registry, before.scores, before.ledger, _renamed)
            after = Results(ledger_of(map(_renamed, before.ledger)), _known(before), scores=scores)
            for card in champions(staged.registry).values():
                _convert_champion(staged, card, digests)
            files = {f"registry/{name}": content for name, content in after.files().items()}
            write_changed(staged.committed, files)
            for name in names:
                shutil.rmtree(staged.registry / name, ignore_errors=True)
            write_pages(staged, after)
        # Last: if a kill comes before, the names are still to be converted.
        for name in names:
            if (store.registry / name).exists():
                remove_folder(store, name)
    return len(names)


def _without_digits(store: Store) -> set[str]:
    """The labels of own data in rows and champions of earlier versions."""
    with unchanged(store):
        rows = {(row.dataset, row.data_digest) for row in read_results(store.registry).ledger}
        cards = champions(store.registry).values()
    specs = {(card.spec.dataset_label, card.spec.data_digest) for card in cards}
    return {label for label, digest in rows | specs if _label(label, digest) != label}


def _renamed(row: LedgerRow) -> LedgerRow:
    return dataclasses.replace(row, dataset=_label(row.dataset, row.data_digest))


def _label(label: str, digest: str) -> str:
    return label if label in DATASETS else own_label(label, digest)


def _known(before: Results) -> Significance:
    """Intervals and comparisons under the new names: each knows its rows by a digest."""
    names: dict[str, tuple[str, str]] = {}
    for found in competitions(before.ledger):
        now = Competition(found.track, [_renamed(row) for row in found.rows])
        names[found.digest] = now.first.dataset, now.digest
    known = before.known
    used = {row.rows_digest for row in known.cells} | {row.rows_digest for row in known.pairs}
    if used - names.keys():
        raise CheckFailed(
            "registry/cells.csv or comparisons.csv has rows of other runs than results.csv; fix "
            "it with: bench leaderboard --write"
        )

    def cell(row: IntervalRow) -> IntervalRow:
        dataset, digest = names[row.rows_digest]
        return dataclasses.replace(row, dataset=dataset, rows_digest=digest)

    def pair(row: PairRow) -> PairRow:
        dataset, digest = names[row.rows_digest]
        return dataclasses.replace(row, dataset=dataset, rows_digest=digest)

    return Significance(tuple(map(cell, known.cells)), tuple(map(pair, known.pairs)))


def _convert_champion(store: Store, card: Card, digests: Mapping[str, str]) -> None:
    """Move a champion to the folder of its new name, with the one in `previous/`."""
    renamed = _card(card, digests)
    if renamed.folder == card.folder:
        return
    folder = child(store.registry, renamed.folder)
    if folder.exists():
        return  # a kill came before the old folder was removed
    older = previous(store.registry, card)
    folder.parent.mkdir(exist_ok=True)
    child(store.registry, card.folder).rename(folder)
    write_card(folder, renamed)
    if older is not None:
        write_card(folder / PREVIOUS, _card(older, digests))


def _card(card: Card, digests: Mapping[str, str]) -> Card:
    """The card under the new name. A previous champion's rows may have left the ledger."""
    label = _label(card.spec.dataset_label, card.spec.data_digest)
    spec = dataclasses.replace(card.spec, dataset_label=label)
    return sealed(
        dataclasses.replace(
            without_path(dataclasses.replace(card, spec=spec)),
            track=f"{label}.{card.spec.protocol}.{card.track_name}",
            rows=tuple(digests.get(row, row) for row in card.rows),
        )
    )
