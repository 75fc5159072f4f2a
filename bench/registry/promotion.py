"""Choosing champions: one per track, replaced only by a row that is significantly better.

The rules:

1. Candidates are the ranked rows of a track, best first; `mean_image`, over-complete codes and
   protocols that are not ranked have none.
2. A track without a champion takes the best candidate.
3. A champion is replaced by the best candidate that is significantly better on validation (Holm,
   5 %), or, if its own row is no longer in the table (a raised revision, changed settings), by
   the best candidate.
4. A rolled-back champion stays back: while it is in `previous/` with unchanged results, only
   `bench registry rollback` restores it.
5. The challenger is the best candidate besides the champion.
6. A row whose weights or images are not on this machine is ranked but not promoted: the track
   keeps its champion, with that row as challenger.
7. A new champion is recomputed from its weights first (`admission`), which must give the scores
   per image of the registry: a run that was trained again may be another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.leaderboard.cells import TableCell
from bench.leaderboard.competitions import Competition, competitions
from bench.leaderboard.ledger import current
from bench.leaderboard.ranking import is_better
from bench.leaderboard.significance import Significance
from bench.models.zoo import MODELS
from bench.registry.admission import records_to_promote, require_champion
from bench.registry.card_checks import why_other
from bench.registry.cards import Card
from bench.registry.champions import champion, champions, previous
from bench.registry.changes import changing, mend_registry, one_writer, unchanged
from bench.registry.installation import (
    ChampionRank,
    install,
    remove_paths,
    swap_back,
    update_standing,
)
from bench.registry.pages import ranked, write_pages
from bench.registry.results import Results, Scope, read_results
from bench.tracking import tracking_is_off

Action = Literal["first", "replace", "refresh", "keep", "none"]
_NOT_TOLD = (
    "MLflow's registry was not told: tracking is off (BENCH_TRACKING=off); to tell it, turn "
    "tracking on and promote again"
)


@dataclass(frozen=True)
class Decision:
    """What happens to a track, and why."""

    track: str
    action: Action
    why: str
    champion: TableCell | None = None
    challenger: TableCell | None = None
    before: str = ""

    def standing(self, rows: dict[str, tuple[str, ...]]) -> ChampionRank:
        """The standing written to the champion's card."""
        assert self.champion is not None
        return ChampionRank(self.champion, self.challenger, rows[self.champion.configuration])


@dataclass(frozen=True)
class Promotion:
    """What `promote` did: one decision per track, the files written, and messages about MLflow."""

    decisions: Sequence[Decision]
    changed: Sequence[str]
    lines: Sequence[str]


def promote(store: Store, scope: Scope, dry_run: bool = False) -> Promotion:
    """Decide every track within `scope`; write champions and pages, and update MLflow.

    Unchanged champions are not touched, so a clone that reproduces stays clean. Raises CheckFailed
    if the records of a new champion are not what its weights give; nothing is written then.
    """
    silent = tracking_is_off()  # raises if that is unclear, before anything is written
    if dry_run:
        with unchanged(store):
            decided, records = _decide_all(store, scope, read_results(store.registry))
        _chosen(store, records)
        return Promotion([decision for _, decision in decided], (), ())
    mend_registry(store)
    if not any(map(scope.holds, read_results(store.registry).ledger)):
        return Promotion((), (), ())
    with one_writer(store):
        results = read_results(store.registry)
        decided, records = _decide_all(store, scope, results)
        chosen = _chosen(store, records)
        with changing(store) as staged:
            changed = remove_paths(staged.registry)
            for competition, decision in decided:
                record = chosen.get(decision.track)
                changed += _carry_out(staged, competition, decision, record)
            # Where no card changes, the pages are those of the last `leaderboard --write`.
            changed += write_pages(staged, results) if changed else []
        # Also under the lock, so that MLflow's aliases are those of the last promotion.
        lines = _tell_mlflow(store, decided, silent)
    return Promotion([decision for _, decision in decided], list(dict.fromkeys(changed)), lines)


def _decide_all(
    store: Store, scope: Scope, results: Results
) -> tuple[list[tuple[Competition, Decision]], dict[str, list[RunRecord]]]:
    """The decision for each track within `scope`, and the records of the cells that become
    champions, first the one that stands for its cell."""
    decided: list[tuple[Competition, Decision]] = []
    records: dict[str, list[RunRecord]] = {}
    for competition in competitions(current(results.ledger, _fingerprint(scope))):
        if not scope.holds(competition.first):
            continue
        decision = _decide(store, competition, results)
        if decision.action in ("first", "replace", "refresh"):
            assert decision.champion is not None
            rows = competition.cells[decision.champion.configuration]
            found, why = records_to_promote(store, rows, results)
            if why:
                card = champions(store.registry).get(competition.title)
                decision = _put_off(competition, results, decision, card, why)
            else:
                records[decision.track] = found
        decided.append((competition, decision))
    return decided, records


def _chosen(store: Store, records: dict[str, list[RunRecord]]) -> dict[str, RunRecord]:
    """The record that stands for each new champion, by track, after recomputing it."""
    chosen = {}
    for track, of_cell in records.items():
        require_champion(store, of_cell, of_cell[0])
        chosen[track] = of_cell[0]
    return chosen


def _put_off(
    competition: Competition, results: Results, decision: Decision, card: Card | None, lacking: str
) -> Decision:
    """What happens instead if the new champion lacks something on this machine."""
    assert decision.champion is not None
    why = f"{decision.champion.row}: {decision.why}, but {lacking}"
    rows = row_digests(competition)
    if card is not None and rows.get(card.summary.configuration) == card.rows:
        own = [
            cell
            for cell in ranked(competition.rows, results)
            if cell.configuration == card.summary.configuration
        ]
        return Decision(competition.title, "keep", why, own[0], decision.champion)
    # The card is of other results than the table: only its weights could renew it.
    return Decision(competition.title, "none", why, before=card.summary.row if card else "")


def _tell_mlflow(
    store: Store, decided: Sequence[tuple[Competition, Decision]], silent: bool
) -> Sequence[str]:
    """Mirror the tracks that have a champion in MLflow's registry; returns messages."""
    held = [
        (competition, decision)
        for competition, decision in decided
        if decision.champion is not None
    ]
    if not held or silent:
        return [_NOT_TOLD] if held else []
    from bench.registry.mirror import tell_mlflow

    return [
        line
        for competition, decision in held
        for line in tell_mlflow(store, competition, decision.challenger)
    ]


def _fingerprint(scope: Scope) -> str:
    return scope.protocol.fingerprint if scope.protocol else ""


def rollback(store: Store, track: str) -> tuple[Card, Card, list[str]]:
    """Restore a track's previous champion; returns (champion now, champion before, messages).

    A second rollback undoes the first. Needs no local record. Raises BadInput for an unknown
    track and for one that never had another champion.
    """
    silent = tracking_is_off()  # raises if that is unclear, before anything is written
    with one_writer(store):
        results = read_results(store.registry)
        champion(store.registry, track)  # refuses an unknown one
        with changing(store) as staged:
            remove_paths(staged.registry)
            now, before = swap_back(staged.registry, track)
            write_pages(staged, results)
        if silent:
            return now, before, [_NOT_TOLD]
        from bench.registry.mirror import tell_rollback

        return now, before, tell_rollback(store, now)


def _decide(store: Store, competition: Competition, results: Results) -> Decision:
    card = champions(store.registry).get(competition.title)
    return decide(competition, results, card, previous(store.registry, card) if card else None)


def decide(
    competition: Competition, results: Results, card: Card | None, older: Card | None
) -> Decision:
    """Apply the rules at the top of this module to one track.

    `card` is that of its champion, `older` that of the champion in `previous/`.
    """
    cells = ranked(competition.rows, results)
    candidates = [cell for cell in cells if _may_be_champion(cell)]
    if not candidates:
        reasons = {cell.why_unranked or "no row may be champion" for cell in cells}
        return Decision(competition.title, "none", "; ".join(sorted(reasons)))
    if card is None:
        return _decision(competition, "first", "the first of its track", candidates[0], candidates)
    own = [cell for cell in candidates if cell.configuration == card.summary.configuration]
    contenders = _contenders(competition, candidates, own, results.known)
    if not contenders or _is_held_back(competition, older, contenders[0]):
        return _stays(competition, card, own, candidates, contenders)
    why = (
        f"significantly better on validation than {card.summary.row}"
        if own
        else f"the row of {card.summary.row} is no longer in the table"
    )
    return _decision(competition, "replace", why, contenders[0], candidates, card.summary.row)


def _stays(
    competition: Competition,
    card: Card,
    own: Sequence[TableCell],
    candidates: Sequence[TableCell],
    held_back: Sequence[TableCell],
) -> Decision:
    """The champion stays: no row is better, or the better one was rolled back."""
    why = "already champion: no row is significantly better"
    if held_back:
        why = (
            f"{held_back[0].row} was rolled back; restore it with: "
            f"bench registry rollback {competition.title}"
        )
    if not own:
        return Decision(competition.title, "none", why)
    if card.rows != row_digests(competition)[card.summary.configuration]:
        return _decision(competition, "refresh", "its results were refreshed", own[0], candidates)
    if other := why_other(card, competition.rows):
        return _decision(competition, "refresh", other, own[0], candidates)
    return _decision(competition, "keep", why, own[0], candidates)


def _may_be_champion(cell: TableCell) -> bool:
    model = MODELS.get(cell.model)
    return (
        cell.ranks is not None
        and model is not None
        and model.may_be_champion
        and not cell.track.overcomplete
    )


def _contenders(
    competition: Competition,
    candidates: Sequence[TableCell],
    own: Sequence[TableCell],
    known: Significance,
) -> list[TableCell]:
    """Candidates to replace the champion, best first; all of them if its row is gone."""
    if not own:
        return list(candidates)
    incumbent, found = own[0].configuration, known.of(competition)
    return [cell for cell in candidates if is_better(found, cell.configuration, incumbent)]


def _is_held_back(competition: Competition, older: Card | None, cell: TableCell) -> bool:
    """Whether the cell is the champion in `previous/`, with unchanged results."""
    configuration = cell.configuration
    return (
        older is not None
        and older.summary.configuration == configuration
        and older.rows == row_digests(competition)[configuration]
    )


def row_digests(competition: Competition) -> dict[str, tuple[str, ...]]:
    """The digests of each cell's ledger rows, by configuration."""
    return {key: tuple(row.row_digest for row in rows) for key, rows in competition.cells.items()}


def _decision(
    competition: Competition,
    action: Action,
    why: str,
    champion: TableCell,
    candidates: Sequence[TableCell],
    before: str = "",
) -> Decision:
    others = [cell for cell in candidates if cell.configuration != champion.configuration]
    return Decision(competition.title, action, why, champion, others[0] if others else None, before)


def _carry_out(
    store: Store, competition: Competition, decision: Decision, record: RunRecord | None
) -> list[str]:
    """Write what a decision changes; returns the changed paths."""
    if decision.champion is None:
        return []
    standing = decision.standing(row_digests(competition))
    if record is not None:
        card = install(store, record, competition.title, standing, decision.action == "refresh")
        return [f"registry/{card.folder}"]
    card = champions(store.registry)[competition.title]
    changed = update_standing(store.registry, card, standing)
    return [f"registry/{card.folder}/card.json"] if changed else []
