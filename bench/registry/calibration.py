"""Simulating the rule of the tables from the committed scores (`bench simulate-ranks`)."""

from collections.abc import Callable, Sequence

from bench.core.errors import BadInput
from bench.core.store import Store
from bench.leaderboard.calibration import CalibrationRow, calibration_row
from bench.leaderboard.competitions import competitions
from bench.leaderboard.ledger import current
from bench.leaderboard.pair_tests import LEAST_ROWS
from bench.leaderboard.significance import family_evidence
from bench.leaderboard.simulation import PLANS, TRUTHS, plan_text, simulate
from bench.registry.changes import changing, one_writer
from bench.registry.pages import write_pages
from bench.registry.results import Scope, read_results, scores_reader, write_changed
from bench.registry.scores import Kept


def calibrate(
    store: Store, scope: Scope, tables: int, seed: int, progress: Callable[[str], None]
) -> list[CalibrationRow]:
    """Simulate every table within `scope` that has enough trained rows; writes nothing.

    `progress` is told each step. Raises BadInput if there is no such table, or its scores are
    neither committed nor on this machine.
    """
    results = read_results(store.registry)
    scores_of = scores_reader(store, Kept(store.registry, results.scores))
    found = []
    for competition in competitions(current(results.ledger)):
        if scope.holds(competition.first) and competition.first.ranked:
            evidence = family_evidence(competition, scores_of)
            if evidence is not None and evidence.trained.sum() >= LEAST_ROWS:
                found.append((competition, evidence))
    if not found:
        raise BadInput(
            f"no table here has {LEAST_ROWS} trained rows with ranks to simulate; make one with: "
            "bench run, then bench leaderboard --write"
        )
    rows: list[CalibrationRow] = []
    steps = [(c, e, truth, plan) for c, e in found for truth in TRUTHS for plan in PLANS]
    for done, (competition, evidence, truth, plan) in enumerate(steps):
        progress(f"[{done}/{len(steps)}] {competition.title}: {truth}, {plan_text(plan)} seeds")
        outcomes = simulate(evidence, truth, plan, tables, seed)
        rows += [calibration_row(competition, outcome) for outcome in outcomes]
    return rows


def write_calibration(store: Store, rows: Sequence[CalibrationRow]) -> list[str]:
    """Store the outcome with the tables and render the pages; returns the files written."""
    with one_writer(store):
        results = read_results(store.registry).with_calibration(rows)
        with changing(store) as staged:
            files = {f"registry/{name}": content for name, content in results.files().items()}
            changed = write_changed(staged.committed, files)
            return changed + write_pages(staged, results)
