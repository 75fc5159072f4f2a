"""What tuning gained: one report over all studies of a command."""

from typing import TYPE_CHECKING, Any

from bench.cli import console
from bench.core.store import open_store

if TYPE_CHECKING:
    from bench.sweep.running import StudyOutcome


def show(outcomes: list["StudyOutcome"], as_json: bool) -> None:
    """What tuning gained, measured with fresh seeds only: the best score of a search is biased."""
    from bench.registry.own import standings
    from bench.sweep.report import report

    rows = report(outcomes)
    if as_json:
        console.print_json(rows)
    else:
        console.print_table(
            "validation means over the protocol's seeds, as in the leaderboard, which has the test "
            "scores (trials have the search's own seed)",
            (
                "study",
                ">trials",
                "winner",
                ">default, all seeds",
                ">tuned, all seeds",
                ">gain",
                ">rank",
                "what mattered",
            ),
            [_cells(row) for row in rows],
        )
    missed = sum(outcome.missed for outcome in outcomes)
    if missed:
        console.say(f"{missed} trials are not in MLflow yet; repeat the command to send them")
    last = outcomes[-1]
    rows_of = "its row" if last.is_default else "both rows"
    console.say(
        f"see {rows_of} with: bench leaderboard -p {last.plan.request.protocol_reference}\n"
        f"train the winner again with: {rows[-1]['repeat_winner']}"
    )
    specs = (record.spec for outcome in outcomes for record in outcome.records.values())
    for line in standings(open_store(), specs):
        console.say(line)
    if last.link:
        console.say(f"look at the trials with: bench ui, then {last.link}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    changed = " ".join(
        f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in row["changed"].items()
    )
    gain = row["gain_percent"]
    before, after = row["rank_before"], row["rank_after"]
    # A single study has no rank.
    ranks = f"{before or '-'} to {after or '-'}" if before or after else "-"
    mattered = ", ".join(f"{k} {v:.2f}" for k, v in list(row["importance"].items())[:2])
    return (
        row["study"],
        f"{row['trials']} ({row['complete']} complete, {row['pruned']} pruned, "
        f"{row['diverged']} diverged)",
        changed or ("the default recipe" if row["winner_settings"] else "none"),
        *(f"{row[k]:.5f}" if row[k] is not None else "-" for k in ("default_mean", "tuned_mean")),
        "-" if gain is None else f"{gain:+.1f} %",
        ranks,
        mattered or "too few trials",
    )
