"""`calibration.csv`: how the rule of the tables does in simulated ones, and its section."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.core.identity import Name
from bench.core.view import Section, table_of
from bench.leaderboard.competitions import Competition, competitions
from bench.leaderboard.csv_rows import CsvRow, TrackText, rounded
from bench.leaderboard.ledger import Ledger
from bench.leaderboard.pair_tests import SHIPPED
from bench.leaderboard.simulation import NEAR, Outcome
from bench.leaderboard.statistics import ALPHA

LEAST_POWER, MOST_SEEDS, MOST_INVERSIONS = 0.83, 5.5, 0.4
"""What the rule was to reach with adaptive seeds, on average over tracks; false claims stay at or
below ALPHA within two Monte Carlo errors."""


@dataclass(frozen=True)
class CalibrationRow(CsvRow):
    """The outcome of simulated tables of one track; see `simulation.Outcome`. `rows_digest` is
    that of the ledger rows whose variances were taken for true."""

    dataset: Name
    protocol: Name
    track: TrackText
    test: str
    truth: str
    seeds: str
    tables: int
    false_claims: float
    inversions: float
    mean_seeds: float
    rows_digest: str
    power: float | None = None

    @property
    def monte_carlo_error(self) -> float:
        """Standard error of `false_claims`."""
        return math.sqrt(self.false_claims * (1 - self.false_claims) / self.tables)


def calibration_row(competition: Competition, outcome: Outcome) -> CalibrationRow:
    """The row of the file for an outcome."""
    first = competition.first
    return CalibrationRow(
        dataset=first.dataset,
        protocol=first.protocol,
        track=competition.track,
        test=outcome.test,
        truth=outcome.truth,
        seeds=outcome.plan,
        tables=outcome.tables,
        false_claims=rounded(outcome.false_claims),
        inversions=rounded(outcome.inversions),
        mean_seeds=rounded(outcome.seeds),
        rows_digest=competition.digest,
        power=None if math.isnan(outcome.power) else rounded(outcome.power),
    )


def calibration_section(rows: Sequence[CalibrationRow], ledger: Ledger) -> Iterator[Section]:
    """How often the rule is wrong and how much it sees, below the rules; `ledger`: the rows shown.

    One row per truth and number of seeds, a mean over tracks; then the tests that were compared.
    """
    if not rows:
        return
    digests = {competition.digest for competition in competitions(ledger)}
    stale = any(row.rows_digest not in digests for row in rows)
    tracks = list(dict.fromkeys(str(row.track) for row in rows))
    low, high = (f"{100 * share:g}" for share in NEAR)
    facts = [
        f"`bench simulate-ranks` made {rows[0].tables:,} tables for each truth, number of seeds "
        f"and track ({' and '.join(tracks)} of {rows[0].protocol} on {rows[0].dataset}) from the "
        "measured variances over seeds and the measured covariance of the images. *False claims*: "
        "the share of tables in which a row is called better than one that is not worse, ± its "
        f"standard error. *Power*: of the pairs that are {low} to {high} % apart, the share that "
        "is claimed. *Inversions*: pairs in a table whose ranges begin in another order than "
        "their means."
    ]
    if stale:
        facts.append("**Stale**: the ledger has changed since. Repeat it with `make calibration`.")
    shipped = [row for row in rows if row.test == SHIPPED]
    header = ("truth", ">seeds", ">mean seeds", ">false claims", ">power", ">inversions")
    keys = dict.fromkeys((row.truth, row.seeds) for row in shipped)
    table = table_of(header, [_line(key, _of(shipped, *key)) for key in keys])
    yield Section("How often the rule is wrong", tuple(facts), table=table)
    yield from _candidates(rows)


def _of(rows: Sequence[CalibrationRow], truth: str, seeds: str) -> list[CalibrationRow]:
    return [row for row in rows if (row.truth, row.seeds) == (truth, seeds)]


def _line(key: tuple[str, str], rows: Sequence[CalibrationRow]) -> tuple[str, ...]:
    truth, seeds = key
    return (truth, seeds, f"{_mean([r.mean_seeds for r in rows]):.1f}", *_scores(rows))


def _scores(rows: Sequence[CalibrationRow]) -> tuple[str, str, str]:
    """False claims, power and inversions, means over tracks."""
    error = math.sqrt(sum(row.monte_carlo_error**2 for row in rows)) / len(rows)
    power = [row.power for row in rows if row.power is not None]
    return (
        f"{_mean([row.false_claims for row in rows]):.3f} ± {error:.3f}",
        f"{_mean(power):.2f}" if power else "–",
        f"{_mean([row.inversions for row in rows]):.2f}",
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def missed_aims(rows: Sequence[CalibrationRow], test: str) -> list[str]:
    """Which aims a test misses: `false claims` at any number of seeds and under any truth;
    `power`, `seeds` and `inversions` as measured, with adaptive seeds, means over tracks."""
    own = [row for row in rows if row.test == test]
    measured = _adaptive(own)
    power = [row.power for row in measured if row.power is not None]
    wrong = any(row.false_claims > ALPHA + 2 * row.monte_carlo_error for row in own)
    found = {
        "false claims": wrong,
        "power": not power or _mean(power) < LEAST_POWER,
        "seeds": _mean([row.mean_seeds for row in measured]) > MOST_SEEDS,
        "inversions": _mean([row.inversions for row in measured]) > MOST_INVERSIONS,
    }
    return [aim for aim, is_missed in found.items() if is_missed]


def _adaptive(rows: Sequence[CalibrationRow]) -> list[CalibrationRow]:
    """Those of the last truth, "as measured", and of the last plan, adaptive seeds."""
    return [row for row in rows if (row.truth, row.seeds) == (rows[-1].truth, rows[-1].seeds)]


def _why(rows: Sequence[CalibrationRow]) -> str:
    """Why SHIPPED ranks: what each test reaches of the aims."""
    plan, verdicts = rows[-1].seeds, []
    for test in dict.fromkeys(row.test for row in rows):
        measured = _adaptive([row for row in rows if row.test == test])
        _, power, inversions = _scores(measured)
        missed = missed_aims(rows, test)
        verdict = f"misses {' and '.join(missed)}" if missed else "reaches every aim"
        verdicts.append(f"`{test}` {verdict} (power {power}, {inversions} inversions)")
    seeds = _mean([row.mean_seeds for row in _adaptive(rows)])
    return (
        f"The aims: false claims in at most {ALPHA:g} of the tables, within two standard errors; "
        f"power of at least {LEAST_POWER:g} at no more than {MOST_SEEDS:g} seeds on average; at "
        f"most {MOST_INVERSIONS:g} inversions. With {plan} seeds ({seeds:.1f} on average), "
        f"{'; '.join(verdicts)}. The first two were the candidates; the third joins them: seeds "
        "are pooled over the table's rows as in the second, and each row keeps a t term of its own "
        "as in the first, where the second holds every pair to its scarcer row."
    )


def _candidates(rows: Sequence[CalibrationRow]) -> Iterator[Section]:
    """The tests that were compared: false claims in their worst case, the rest as measured."""
    tests = list(dict.fromkeys(row.test for row in rows))
    truths = list(dict.fromkeys(row.truth for row in rows))
    lines = []
    for test in tests:
        for seeds in dict.fromkeys(row.seeds for row in rows):
            same = [row for row in rows if row.test == test]
            worst = max((_of(same, truth, seeds) for truth in truths), key=_false_claims)
            measured = _of(same, truths[-1], seeds)
            name = f"**{test}**" if test == SHIPPED else test
            lines.append((name, seeds, _scores(worst)[0], *_scores(measured)[1:]))
    header = ("test", ">seeds", ">false claims, worst truth", ">power", ">inversions")
    about = (
        "The tests of [pair_tests.py](../bench/leaderboard/pair_tests.py) on the same tables; the "
        "bold one ranks."
    )
    yield Section(facts=(about, _why(rows)), table=table_of(header, lines))


def _false_claims(rows: Sequence[CalibrationRow]) -> float:
    return _mean([row.false_claims for row in rows])
