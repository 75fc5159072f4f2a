"""Published figures against ours: turns ledger rows into verdicts and their table."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.core.protocol import WHOLE_LOSS, Expected, Protocol, after_epochs
from bench.core.tasks import TASKS
from bench.core.view import Section, markdown, table_of
from bench.leaderboard.ledger import Ledger, LedgerRow, current
from bench.leaderboard.wording import DASH
from bench.metrics import METRICS, short_title
from bench.models.rows import named_origin

REPRODUCED, MISSED, NOT_RUN, OTHER = "reproduced", "not reproduced", "not run", "other reading"
UNPUBLISHED, DIVERGED = "no figure published", "diverged"

_HEAD = """# Published figures, reproduced

<!-- Written by `bench leaderboard --write`; do not edit: `bench leaderboard --check` finds every change. -->

The five systems that this suite unites published figures of their own. Each is run again here by
its own recipe (its split, range, batch size, loss scale and stopping rule; `bench/protocols/origins/`),
at its full budget, with seed 42. Where other seeds were run too (`bench run --protocol origins/NAME
--model VARIANT --seed 0`), *ours* is the mean of all of them, with each in brackets. These rows are
never ranked and never promoted: some were tested on the images that they validated on, some have no
held-out images at all. Repeat any of them with `bench reproduce NAME`; the runs stand in
[results.csv](results.csv) under the protocol's name.

*Difference* is ours against the published figure (against ours at the other code size, where only
an order was published). *Reproduced* means that the mean over all seeds, none of them diverged, is
within the tolerance; if it is not, the verdict says how many single seeds are. *Other reading* marks
runs of what an origin's text says where its code did something else; the published figure was not
made that way. *Under our protocol* is the same variant, trained and tested by the rules of this
suite, at the same code size or the next smaller one that was run.
"""  # noqa: E501


@dataclass(frozen=True)
class PublishedFigure:
    """A published figure and the protocol that reproduces it (at the figure's budget)."""

    protocol: Protocol
    expected: Expected

    @property
    def origin(self) -> str:
        """`S1` for the protocols s1, s1_text and s1.epoch10."""
        return self.source.partition("_")[0].upper()

    @property
    def source(self) -> str:
        """Name of the shipped protocol: `s1` also for s1.epoch10."""
        return self.protocol.name.partition(".")[0]

    @property
    def variant(self) -> str:
        """`cnn_ae d=64`, `cnn_ae native` or `mlp_classifier`, which has no code."""
        if not TASKS[self.protocol.task].has_code:
            return self.expected.model
        size = self.expected.latent_dim
        return f"{self.expected.model} {f'd={size}' if size else 'native'}"

    @property
    def figure(self) -> str:
        """`test MSE`, `train loss`, `test MSE after epoch 10`."""
        wanted = self.expected
        what = "loss" if wanted.metric == WHOLE_LOSS else short_title(wanted.metric)
        after = f" after epoch {wanted.epoch}" if wanted.epoch else ""
        return f"{wanted.part.replace('_', ' ')} {what}{after}"


@dataclass(frozen=True)
class Beside:
    """The same variant under our protocol: its mean test score over seeds. The code size of a
    classifier is 0."""

    protocol: str
    metric: str
    code_size: int
    seeds: int
    score: float

    def __str__(self) -> str:
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        size = f" d={self.code_size}" if self.code_size else ""
        return f"test {short_title(self.metric)} {self.score:.4g} ({self.protocol}{size}, {seeds})"


@dataclass(frozen=True)
class Finding:
    """A claim with the scores of our runs and the same variant under our protocol.

    `scores`: ours by seed, `run_keys` of all runs, `diverged`: seeds without a score.
    `larger`: our mean at the code size that a claim without a figure names; None: not run.
    `local`: the runs are from this store; `committed`: the finding of the committed ledger for
    the same claim, if it has runs of it.
    """

    claim: PublishedFigure
    scores: Mapping[int, float]
    run_keys: tuple[str, ...] = ()
    diverged: tuple[int, ...] = ()
    beside: Beside | None = None
    larger: float | None = None
    local: bool = False
    committed: "Finding | None" = None

    @property
    def ours(self) -> float | None:
        """The mean over seeds; None: not run, or no run has a score."""
        return statistics.fmean(self.scores.values()) if self.scores else None

    @property
    def difference(self) -> float:
        """Ours relative to the published figure, or to ours at the code size that it should be
        lower than; NaN if there is no run or nothing to compare with."""
        value = self.claim.expected.value if self.claim.expected.value is not None else self.larger
        return math.nan if self.ours is None or value is None else (self.ours - value) / value

    @property
    def verdict(self) -> str:
        """Whether our mean is within the tolerance and no seed diverged; if not, how many seeds are
        within it: the published figure is a single run with one seed.
        """
        wanted = self.claim.expected
        if self.ours is None:
            return DIVERGED if self.diverged else NOT_RUN
        if wanted.value is None:
            return self._order_verdict()
        if not wanted.binding:
            return OTHER
        if _within(wanted, self.ours) and not self.diverged:
            return REPRODUCED
        some = sum(_within(wanted, score) for score in self.scores.values())
        seeds = len(self.scores) + len(self.diverged)
        return f"{MISSED} ({some} of {seeds} seeds within)" if some else MISSED

    @property
    def missed(self) -> bool:
        """Whether it was run and our mean was not reproduced, whatever single seeds gave."""
        return self.verdict.startswith((MISSED, DIVERGED))

    def _order_verdict(self) -> str:
        if self.claim.expected.lower_than_at is None:
            return UNPUBLISHED
        if self.ours is None or self.larger is None:
            return NOT_RUN
        return REPRODUCED if self.ours < self.larger else MISSED


def _within(wanted: Expected, score: float) -> bool:
    # The last published digit is rounded; values that round onto the edge count.
    return abs(score - (wanted.value or 0)) <= wanted.margin * (1 + 1e-9)


def claims_of(protocols: Iterable[Protocol]) -> list[PublishedFigure]:
    """Every published figure of these protocols, in the order of their files."""
    return [
        PublishedFigure(after_epochs(protocol, expected.epoch), expected)
        for protocol in protocols
        for expected in protocol.expected
    ]


def findings_of(
    claims: Sequence[PublishedFigure],
    ledger: Ledger,
    local: Ledger = (),
    ours: Ledger | None = None,
) -> list[Finding]:
    """Judge claims by the rows of local runs, if there are any, else by the committed ledger's.

    `ours`: rows to look up variants under our protocol; by default those of the ledger.
    """
    ours = current(ledger) if ours is None else ours
    found = []
    for claim in claims:
        ledgers = _judge(claim, ledger, ours)
        committed = ledgers if ledgers.run_keys else None
        if _rows_of(claim, local, claim.expected.latent_dim):
            here = _judge(claim, local, ours)
            found.append(dataclasses.replace(here, local=True, committed=committed))
        else:
            found.append(dataclasses.replace(ledgers, committed=committed))
    return found


def _judge(claim: PublishedFigure, rows: Ledger, ours: Ledger) -> Finding:
    wanted = claim.expected
    found = _rows_of(claim, rows, wanted.latent_dim)
    if not found:
        return Finding(claim, {}, beside=_beside(claim, ours, None))
    larger = _rows_of(claim, rows, wanted.lower_than_at) if wanted.lower_than_at else []
    at_larger = list(_scores(claim, larger).values())
    scores = _scores(claim, found)
    return Finding(
        claim,
        scores,
        tuple(row.run_key for row in found),
        tuple(row.seed for row in found if row.seed not in scores),
        _beside(claim, ours, found[0].code_size or 0),
        statistics.fmean(at_larger) if at_larger else None,
    )


def _rows_of(claim: PublishedFigure, rows: Ledger, latent_dim: int | None) -> Ledger:
    """The runs of a claim's variant under its protocol at `latent_dim`: the newest of each
    seed, of the variant's newest revision, with a score or diverged."""
    wanted, protocol = claim.expected, claim.protocol
    same = [
        row
        for row in rows
        if (row.protocol, row.protocol_fingerprint) == (protocol.name, protocol.fingerprint)
        and row.model == wanted.model
        and row.latent_dim == latent_dim
        and row.dataset == protocol.dataset
        and row.recipe == "default"
        and (_score(claim, row) is not None or row.status == "diverged")
    ]
    newest = max((row.model_revision for row in same), default=0)
    by_seed: dict[int, LedgerRow] = {}
    for row in sorted(same, key=lambda row: row.finished):
        if row.model_revision == newest:
            by_seed[row.seed] = row
    return [by_seed[seed] for seed in sorted(by_seed)]


def _score(claim: PublishedFigure, row: LedgerRow) -> float | None:
    """What the claim is about; the scores of training are facts of a row."""
    column = f"{claim.expected.part}_{claim.expected.metric}"
    return row.scores.get(column, row.facts.get(column))


def _scores(claim: PublishedFigure, rows: Ledger) -> dict[int, float]:
    """Scores by seed, of the runs that have one."""
    return {row.seed: score for row in rows if (score := _score(claim, row)) is not None}


def _beside(claim: PublishedFigure, rows: Ledger, code_size: int | None) -> Beside | None:
    """The variant's best comparable row under our protocol, if it was run."""
    metric = claim.expected.metric if claim.expected.metric in METRICS else "mse"
    column = f"test_{metric}"
    limit = code_size if code_size is not None else claim.expected.latent_dim or math.inf
    cells: dict[int, list[float]] = {}
    for row in rows:
        if (
            row.protocol == claim.protocol.compare_with
            and row.dataset == claim.protocol.dataset
            and row.model == claim.expected.model
            and row.recipe == "default"
            and column in row.scores
            and (row.code_size or 0) <= limit  # a classifier has none
        ):
            cells.setdefault(row.code_size or 0, []).append(row.scores[column])
    if not cells:
        return None
    size = max(cells)
    scores = cells[size]
    mean = sum(scores) / len(scores)
    return Beside(claim.protocol.compare_with, metric, size, len(scores), mean)


HEADER = (
    "variant",
    "figure",
    ">published",
    ">tolerance",
    ">ours",
    ">difference",
    "verdict",
    "under our protocol",
    "what to know",
)


def finding_cells(finding: Finding) -> list[str]:
    """One row of the table, in the order of HEADER."""
    wanted, change = finding.claim.expected, finding.difference
    return [
        finding.claim.variant,
        finding.claim.figure,
        published(wanted),
        tolerance(wanted),
        _ours(finding),
        DASH if math.isnan(change) else f"{100 * change:+.1f} %".replace("-", "−"),
        finding.verdict,
        DASH if finding.beside is None else str(finding.beside),
        wanted.note,
    ]


def _ours(finding: Finding) -> str:
    if finding.ours is None:
        return DASH
    each = ", ".join(f"{score:.4g}" for score in finding.scores.values())
    return f"{finding.ours:.4g}" + (f" ({each})" if len(finding.scores) > 1 else "")


def published(wanted: Expected) -> str:
    """A figure with the four decimals that origins print, or more if given."""
    if wanted.value is None:
        return f"lower than d={wanted.lower_than_at}" if wanted.lower_than_at else DASH
    return max(f"{wanted.value:.4f}", f"{wanted.value:g}", key=len)


def tolerance(wanted: Expected) -> str:
    """`5 %` or `0.006`; a dash for other readings and claims without a figure."""
    if not wanted.binding or wanted.value is None:
        return DASH
    return f"{100 * wanted.tolerance:g} %" if wanted.relative else f"{wanted.tolerance:g}"


def origins_page(findings: Sequence[Finding]) -> str:
    """The whole of registry/origins.md."""
    return "\n".join([_HEAD, *map(markdown, sections(findings))])


def sections(findings: Sequence[Finding]) -> Iterator[Section]:
    """One section per protocol of an origin, with the table of its figures."""
    by_protocol: dict[str, list[Finding]] = {}
    for finding in findings:
        by_protocol.setdefault(finding.claim.source, []).append(finding)
    for name, group in by_protocol.items():
        description = group[0].claim.protocol.description.partition("; stopped")[0]
        yield Section(
            f"{named_origin(group[0].claim.origin)}: `origins/{name}`",
            (f"{description}.",),
            table=table_of(HEADER, map(finding_cells, group)),
        )
