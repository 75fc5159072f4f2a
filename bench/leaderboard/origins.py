"""Published figures against ours: ledger rows in, verdicts and their table out."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.leaderboard.ledger import Row, current, rows_in
from bench.leaderboard.wording import DASH, markdown_table, short_title
from bench.metrics import METRICS
from bench.protocol import WHOLE_LOSS, Expected, Protocol, after_epochs
from bench.spec import NO_CODE

_UNSIZED = ("native", NO_CODE)
REPRODUCED, MISSED, NOT_RUN, OTHER = "reproduced", "not reproduced", "not run", "other reading"

_HEAD = """# Published figures, reproduced

<!-- Written by `bench leaderboard --write`; do not edit: `bench leaderboard --check` finds every change. -->

The five systems that this suite unites published figures of their own. Each is run again here by
its own recipe (its split, range, batch size, loss scale and stopping rule; `bench/protocols/origins/`),
at its full budget, with seed 42. These rows are never ranked and never promoted: some were tested
on the images that they validated on, some have no held-out images at all. Repeat any of them with
`bench reproduce NAME`; the runs stand in [results.csv](results.csv) under the protocol's name.

*Difference* is ours against the published figure. *Other reading* marks runs of what an origin's
text says where its code did something else; the published figure was not made that way. *Under our
protocol* is the same variant, trained and tested by the rules of this suite, at the same code size
or the next smaller one that was run.
"""  # noqa: E501


@dataclass(frozen=True)
class Claim:
    """A published figure, and the protocol that it is run by (at the figure's budget)."""

    protocol: Protocol
    expected: Expected

    @property
    def origin(self) -> str:
        """`S1` for the protocols s1, s1_text and s1.epoch10."""
        return self.source.partition("_")[0].upper()

    @property
    def source(self) -> str:
        """Name of the shipped protocol: `s1` for s1.epoch10 too."""
        return self.protocol.name.partition(".")[0]

    @property
    def variant(self) -> str:
        """`cnn_ae d=64`, `cnn_ae native` or `mlp_classifier`, which has no code."""
        if self.protocol.task != "reconstruction":
            return self.expected.model
        size = self.expected.latent_dim
        return f"{self.expected.model} {f'd={size}' if size else 'native'}"

    @property
    def figure(self) -> str:
        """`test MSE`, `train loss`, `test MSE after epoch 10`."""
        wanted = self.expected
        what = "loss" if wanted.metric == WHOLE_LOSS else short_title(wanted.metric)
        after = f" after epoch {wanted.epoch}" if wanted.epoch else ""
        return f"{wanted.part} {what}{after}"


@dataclass(frozen=True)
class Beside:
    """The same variant under our protocol: its mean test score over seeds. A classifier's code
    size is 0: it has none."""

    protocol: str
    metric: str
    code_size: int
    seeds: int
    score: float

    def __str__(self) -> str:
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        size = f" d={self.code_size}" if self.code_size else ""
        return f"{short_title(self.metric)} {self.score:.4g} ({self.protocol}{size}, {seeds})"


@dataclass(frozen=True)
class Finding:
    """A claim with what our run of it gave (none: not run) and what stands beside it."""

    claim: Claim
    ours: float | None
    run_key: str = ""
    beside: Beside | None = None

    @property
    def difference(self) -> float:
        """Ours against the published figure, as a share of it; NaN where there is no run."""
        value = self.claim.expected.value
        return math.nan if self.ours is None else (self.ours - value) / value

    @property
    def verdict(self) -> str:
        """Whether ours lies within the tolerance."""
        wanted = self.claim.expected
        if self.ours is None:
            return NOT_RUN
        # The last digit that was published is rounded; what rounds onto the edge counts.
        within = abs(self.ours - wanted.value) <= wanted.margin * (1 + 1e-9)
        if not wanted.binding:
            return OTHER
        return REPRODUCED if within else MISSED


def claims_of(protocols: Iterable[Protocol]) -> list[Claim]:
    """Every published figure of these protocols, in the order of their files."""
    return [
        Claim(after_epochs(protocol, expected.epoch), expected)
        for protocol in protocols
        for expected in protocol.expected
    ]


def findings_of(claims: Sequence[Claim], ledger: pd.DataFrame) -> list[Finding]:
    """Judge claims by the ledger's rows."""
    rows, ours = rows_in(ledger), rows_in(current(ledger))
    return [_judge(claim, rows, ours) for claim in claims]


def _judge(claim: Claim, rows: Sequence[Row], ours: Sequence[Row]) -> Finding:
    wanted, protocol = claim.expected, claim.protocol
    same = [
        row
        for row in rows
        if (row["protocol"], row["protocol_fingerprint"]) == (protocol.name, protocol.fingerprint)
        and row["model"] == wanted.model
        and row["latent_dim"] in ([str(wanted.latent_dim)] if wanted.latent_dim else _UNSIZED)
        and row["dataset"] == protocol.dataset
        and row["recipe"] == "default"
        and row.get(f"{wanted.part}_{wanted.metric}")
    ]
    if not same:
        return Finding(claim, None, beside=_beside(claim, ours, None))
    row = max(same, key=lambda row: (int(row["model_revision"]), row["finished"]))
    score = float(row[f"{wanted.part}_{wanted.metric}"])
    return Finding(claim, score, row["run_key"], _beside(claim, ours, _code_size(row)))


def _code_size(row: Row) -> int:
    return int(row["code_size"] or 0)


def _beside(claim: Claim, rows: Sequence[Row], code_size: int | None) -> Beside | None:
    """The variant's best comparable row under our protocol, if it was run."""
    metric = claim.expected.metric if claim.expected.metric in METRICS else "mse"
    column = f"test_{metric}"
    limit = code_size if code_size is not None else claim.expected.latent_dim or math.inf
    cells: dict[int, list[float]] = {}
    for row in rows:
        if (
            row["protocol"] == claim.protocol.compare_with
            and row["model"] == claim.expected.model
            and row["recipe"] == "default"
            and row.get(column)
            and _code_size(row) <= limit
        ):
            cells.setdefault(_code_size(row), []).append(float(row[column]))
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
    """A row of the table, by HEADER."""
    wanted = finding.claim.expected
    return [
        finding.claim.variant,
        finding.claim.figure,
        published(wanted.value),
        tolerance(wanted),
        DASH if finding.ours is None else f"{finding.ours:.4g}",
        DASH if finding.ours is None else f"{100 * finding.difference:+.1f} %".replace("-", "−"),
        finding.verdict,
        DASH if finding.beside is None else str(finding.beside),
        wanted.note,
    ]


def published(value: float) -> str:
    """A figure with the four decimals that the origins print, or more where they gave more."""
    return max(f"{value:.4f}", f"{value:g}", key=len)


def tolerance(wanted: Expected) -> str:
    """`5 %` or `0.006`; other readings have none."""
    if not wanted.binding:
        return DASH
    return f"{100 * wanted.tolerance:g} %" if wanted.relative else f"{wanted.tolerance:g}"


def origins_page(findings: Sequence[Finding]) -> str:
    """The whole of registry/origins.md."""
    return "\n".join([_HEAD, *_sections(findings)])


def _sections(findings: Sequence[Finding]) -> Iterator[str]:
    by_protocol: dict[str, list[Finding]] = {}
    for finding in findings:
        by_protocol.setdefault(finding.claim.source, []).append(finding)
    for name, group in by_protocol.items():
        description = group[0].claim.protocol.description.partition("; stopped")[0]
        yield f"## {group[0].claim.origin}: `origins/{name}`\n"
        yield f"{description}.\n"
        yield markdown_table(HEADER, [finding_cells(finding) for finding in group])
