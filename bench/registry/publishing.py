"""Tables from local records and the ledger: show them, write everything that changes, check it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.errors import BadInput, CheckFailed
from bench.core.store import Store, is_shipped, shipped
from bench.leaderboard.ledger import Ledger, current, ledger_of
from bench.leaderboard.merging import Merge
from bench.leaderboard.render import Board
from bench.registry.admission import require_believable
from bench.registry.card_checks import check_cards
from bench.registry.champions import check_champions
from bench.registry.changes import FRONT, changing, one_writer, unchanged
from bench.registry.checking import check_results, check_settings, other_seeds
from bench.registry.confirmations import (
    CONFIRMATIONS,
    ConfirmationRow,
    agreement,
    check_confirmations,
    encode_confirmations,
    read_confirmations,
)
from bench.registry.own import own_boards
from bench.registry.pages import (
    PAGE,
    boards_of,
    has_markers,
    no_markers,
    ranked,
    read_page,
    rendered,
    write_pages,
)
from bench.registry.results import (
    REFRESH,
    Scope,
    as_far_as_known,
    computed,
    local_source,
    merge_local,
    read_results,
    refuse_drift,
    reproduction,
    write_changed,
)
from bench.registry.scores import FOLDER, remove_leftovers, renewed
from bench.registry.studies import check_studies, new_studies

_QUOTED = 120
"""Characters of a page in a message; lines with pictures are long."""


@dataclass(frozen=True)
class TableUpdate:
    """The result of `look` or `write`: the tables, messages, the files written, and the tables
    committed with bench, if they are not those of the workspace itself; `own`, those of own models,
    which stand beside them; `newest`: data set and protocol of the last run in this workspace, if
    there is one."""

    boards: Sequence[Board]
    lines: Sequence[str]
    changed: Sequence[str] = ()
    committed: Sequence[Board] = ()
    own: Sequence[Board] = ()
    newest: tuple[str, str] | None = None


def look(store: Store, scope: Scope) -> TableUpdate:
    """The tables of local records and the ledger together; writes nothing."""
    with unchanged(store):
        results = read_results(store.registry)
        merged = merge_local(store, results, scope, refresh=False)
        shown, problem = as_far_as_known(store, results, merged.ledger)
        boards = boards_of(store, shown, scope)
    lines = [*reproduction(merged, results.ledger), *([problem] if problem else [])]
    lines += [f"drift: {drift}" for drift in merged.drifted]
    return TableUpdate(
        boards,
        lines,
        committed=_committed(store, scope),
        own=own_boards(store, scope),
        newest=_newest(_local(merged)),
    )


def _local(merged: Merge) -> Ledger:
    """The rows of this workspace's own runs."""
    return [*merged.added, *merged.reproduced]


def _newest(local: Ledger) -> tuple[str, str] | None:
    last = max(local, key=lambda row: (row.finished, row.run_key), default=None)
    return (last.dataset, last.protocol) if last else None


def _committed(store: Store, scope: Scope) -> list[Board]:
    ours = shipped()
    if is_shipped(store):
        return []
    with unchanged(ours):
        return boards_of(ours, read_results(ours.registry), scope)


def write(store: Store, scope: Scope, refresh: bool) -> TableUpdate:
    """Merge local records into the ledger and write every file that changes.

    Raises CheckFailed for drift (unless `refresh`), for records that are not believed (`admission`)
    and for files changed by hand, BadInput if records are missing for a comparison; nothing is
    written then.
    """
    with one_writer(store):
        return _write(store, scope, refresh)


def _write(store: Store, scope: Scope, refresh: bool) -> TableUpdate:
    before = read_results(store.registry)
    merged = merge_local(store, before, scope, refresh)
    if not refresh:
        refuse_drift(merged.drifted)
    lines: list[str] = []
    if is_shipped(store):
        check_settings(merged.ledger)
        merged, lines = _complete(merged)
    notes = require_believable(store, before, merged.ledger)
    index, new = renewed(store.registry, before.scores, merged.ledger, local_source(store))
    results = computed(store, dataclasses.replace(before, scores=index), merged.ledger, new)
    new |= new_studies(store, merged.ledger)
    lines += [*reproduction(merged, before.ledger), *notes]
    if merged.refreshed:
        lines.append(f"{merged.refreshed} rows were refreshed")
    elif merged.better:
        lines.append(f"the committed runs stay; to take the better ones: {REFRESH}")
    if merged.renamed:
        lines.append(f"{merged.renamed} rows say a larger budget of their study now")
    with changing(store) as staged:
        files = {f"registry/{name}": content for name, content in results.files().items()}
        changed = write_changed(staged.committed, files)
        changed += write_changed(staged.committed, {f"registry/{k}": v for k, v in new.items()})
        changed += remove_leftovers(staged.registry, index, results.ledger)
        if is_shipped(store):
            check_studies(staged.registry, results.ledger)
        changed += write_pages(staged, results)
    notices = [] if has_markers(store) else [no_markers(store)]
    boards = boards_of(store, results, scope)
    return TableUpdate(boards, [*lines, *notices], changed, newest=_newest(_local(merged)))


def _complete(merged: Merge) -> tuple[Merge, list[str]]:
    """Without the new rows of cells that need other seeds, which `check` refuses, and what to say
    of these: tables of long trainings can be committed while they go on."""
    added = {row.key for row in merged.added}
    held: set[tuple[str, ...]] = set()
    lines = []
    for rows, why in other_seeds(merged.ledger):
        if new := {row.key for row in rows} & added:
            held |= new
            first = rows[0]
            lines.append(
                f"{first.model} d={first.latent_dim} ({first.protocol}, {first.dataset}) is held "
                f"back: {why}; {len(new)} rows are written when it has its seeds"
            )
    return dataclasses.replace(
        merged,
        ledger=ledger_of(row for row in merged.ledger if row.key not in held),
        added=[row for row in merged.added if row.key not in held],
    ), lines


def confirm(store: Store, scope: Scope) -> tuple[list[ConfirmationRow], list[str]]:
    """Add what this machine reproduced to the confirmations; returns the new rows and the files
    written. Raises as `agreement`, and BadInput if all of it was added before."""
    with one_writer(store):
        known = read_confirmations(store.registry)
        there = {row.key for row in known}
        new = [row for row in agreement(store, scope) if row.key not in there]
        if not new:
            raise BadInput(
                "this commit was confirmed today on this family of processors already; nothing "
                "was written"
            )
        results = read_results(store.registry)
        with changing(store) as staged:
            content = encode_confirmations([*known, *new])
            changed = write_changed(staged.committed, {f"registry/{CONFIRMATIONS}": content})
            changed += write_pages(staged, results)
    return new, changed


def check(store: Store) -> list[str]:
    """Check everything in `registry/` and the README's block against the committed files alone.

    Returns what was checked; raises CheckFailed naming the file and the first line that differs.
    """
    with unchanged(store):
        return _check(store)


def _check(store: Store) -> list[str]:
    results, without = check_results(store.registry, shipped=is_shipped(store))
    count = check_champions(store.registry)
    table = ranked(current(results.ledger), results)
    check_confirmations(store.registry, results.ledger)
    if is_shipped(store):
        check_studies(store.registry, results.ledger)
    moved = check_cards(store.registry, results, table)
    for name, text in rendered(store, results).items():
        _compare(name, read_page(store.committed / name), text)
    # Without its markers the README's table would not be checked.
    if (store.committed / FRONT).exists() and not has_markers(store):
        raise CheckFailed(no_markers(store))
    lines = [f"{len(results.ledger)} rows, {count} champions and {PAGE} agree with each other"]
    if moved:
        lines.append(
            f"the cards of {', '.join(moved)} do not say the place that the table gives now; renew "
            "them: bench promote"
        )
    if without:
        lines.append(
            f"{without} ranked runs have no scores in registry/{FOLDER}/: comparisons with them "
            f"stand as they were computed; run them again, then: {REFRESH}"
        )
    return lines


def _compare(name: str, found: str, expected: str) -> None:
    """Raise CheckFailed at the first line that differs, quoting the differing words."""
    if found == expected:
        return
    old, new = found.splitlines(), expected.splitlines()
    for number in range(max(len(old), len(new))):
        here = old[number] if number < len(old) else ""
        there = new[number] if number < len(new) else ""
        if here != there or number >= min(len(old), len(new)):
            says, gives = _first_difference(here, there)
            raise CheckFailed(
                f"{name} line {number + 1} says '{says[:_QUOTED]}' where the ledger gives "
                f"'{gives[:_QUOTED]}'; "
                "write it again with: bench leaderboard --write"
            )
    raise CheckFailed(f"{name} differs in its line ends; write it: bench leaderboard --write")


def _first_difference(here: str, there: str) -> tuple[str, str]:
    """The first table cell, or else word, in which two lines differ."""
    separator = " | " if there.startswith("|") else " "
    ours, theirs = here.split(separator), there.split(separator)
    for a, b in zip(ours, theirs, strict=False):
        if a != b:
            return a.strip(), b.strip()
    return here.strip(), there.strip()
