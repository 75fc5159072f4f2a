"""The ledger `registry/results.csv`: one row per run, written once, each row with its own digest.

Numbers have nine significant digits, in memory as in the file.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Self

from pydantic import FiniteFloat

from bench.core.errors import CheckFailed
from bench.core.identity import Name
from bench.core.protocol import NAME_ONLY
from bench.core.recipes import BEST_OF, FEW_STEPS, Recipe, budget
from bench.core.seeds import Seed, SeedRule, rule_text
from bench.core.spec import COPIED, NO_CODE, RunRecord, RunSpec, Status
from bench.core.strict import adapter
from bench.core.track import REAL_BITS
from bench.leaderboard.csv_rows import CsvRow, TrackText, cell_text, decode, encode, rounded, title
from bench.leaderboard.steps import few_steps

CODE_SIZES: Mapping[str, Callable[[RunRecord], int | None]] = {
    "reconstruction": lambda record: int(record.facts["code_size"]),
    "classification": lambda record: None,
}
"""The column `code_size`, by task."""
FACTS = (
    "parameters",
    "multiply_adds",
    "compression_ratio",
    "train_images",
    "train_seconds",
    "images_per_second",
    "best_epoch",
    "active_units",
    "output_std",
)
OF_NETWORK = ("parameters", "multiply_adds", "compression_ratio", "train_images")
"""Facts that all runs of a cell share: they follow from the network and the split."""
UNCOMMITTED = "uncommitted"
CODE_BITS = "code_bits"
SIGNS = (
    *("predicted_classes", "dead_codes", "active_fraction", CODE_BITS),
    *(BEST_OF, COPIED, FEW_STEPS, UNCOMMITTED),
)
"""`predicted_classes`: how many classes a classifier ever predicts; `dead_codes`: how many discrete
codes are never used; `active_fraction`: the share of real codes that is not zero;
`code_bits`: of a code as it is sent;
`best_of_trials`: the number of trials of a study that the default recipe won; `few_steps`: how many
steps a short training made (see `steps`); `copied_images`: see
`core.spec`; `uncommitted`: 1 where nobody can get the code that made the row (see
`bench.registry.results`)."""
LATER_FACTS = ("train_loss", "train_accuracy", "best_val_accuracy", *SIGNS)
"""Facts that older rows lack. `train_loss`, `train_accuracy`: mean over the last epoch's steps;
`best_val_accuracy`: of the best epoch, even if another was kept."""
_ENVIRONMENT = ("device", "threads", "bench", "torch", "git_commit")
BENCH_DIGEST = "bench_digest"
LATER_CELLS = ("hyperparameters", BENCH_DIGEST, "seed_rule", "source")
"""Columns that older rows lack, of other fields; `bench_digest`: of the code that made the row."""
_SCORES = ("val_", "test_")


class BoardKey(NamedTuple):
    """What comparable rows share: the key of one section of the leaderboard."""

    dataset: str
    protocol: str
    protocol_fingerprint: str
    data_digest: str
    evaluation_digest: str


@dataclass(frozen=True)
class LedgerRow(CsvRow):
    """One run. `latent_dim` None: the native code, or a classifier; `code_size` None: no code.

    `scores` by column (`val_mse`, `test_ssim`), those that the run has; `facts` among FACTS and
    LATER_FACTS. `configuration` is what its seeds share; `finished` is in UTC, to the second.
    `hyperparameters`: the variant's own, as `beta=4`; empty if it has none, and in older rows.
    `seed_rule`: the seeds of its protocol (`core.seeds.rule_text`); "" where older rows lack it.
    `source`: the digest of the code of an own model, whose rows the ledger never has; "" of others.
    """

    dataset: Name
    data_digest: Name
    split_digest: Name
    protocol: Name
    protocol_fingerprint: Name
    selection_metric: Name
    ranked: bool
    track: TrackText
    model: Name
    model_revision: int
    closed_form: bool
    recipe: Recipe
    latent_dim: int | None
    code_size: int | None
    seed: Seed
    configuration: Name
    run_key: Name
    evaluation_digest: Name
    status: Status
    scores: Mapping[str, FiniteFloat]
    facts: Mapping[str, FiniteFloat]
    finished: datetime
    environment: Mapping[str, str]
    hyperparameters: str = ""
    seed_rule: SeedRule = ""
    source: str = ""

    @classmethod
    def of_cells(cls, cells: Mapping[str, str]) -> Self:
        """As for every file; a latent size is a number, `native` or `-`."""
        given: dict[str, object] = {"code_size": None, **cells}
        if given.get("latent_dim") in ("native", NO_CODE):
            given["latent_dim"] = None
        scores = {key: text for key, text in cells.items() if key.startswith(_SCORES)}
        facts = {key: cells[key] for key in (*FACTS, *LATER_FACTS) if key in cells}
        environment = {key: cells[key] for key in (*_ENVIRONMENT, BENCH_DIGEST) if key in cells}
        return adapter(cls).validate_python(
            {**given, "scores": scores, "facts": facts, "environment": environment}
        )

    @classmethod
    def required(cls) -> list[str]:
        """The columns of every ledger; `ledger_columns` adds those of scores and later ones."""
        return [*_IDENTITY, *FACTS, *_PROVENANCE]

    def values(self) -> dict[str, object]:
        """The values by field, with the name of the latent size."""
        return {**super().values(), "latent_dim": self.size_name}

    @property
    def size_name(self) -> str:
        """The latent size in tables and names: a number, `native`, or `-` for a classifier."""
        if self.track.classifies:
            return NO_CODE
        return "native" if self.latent_dim is None else str(self.latent_dim)

    @property
    def key(self) -> tuple[str, ...]:
        """What a row is in the ledger once with: a training, scored in one way, on one board."""
        return self.run_key, self.evaluation_digest, *self.board[:3]

    @property
    def board(self) -> BoardKey:
        """What it shares with the rows that it may be compared with."""
        return BoardKey(*(getattr(self, name) for name in BoardKey._fields))

    @property
    def title(self) -> str:
        """Short name for messages, such as `cnn_ae d=16 seed 0`."""
        return title(self.model, self.size_name, self.seed)

    @property
    def budget(self) -> int:
        """The number of trials of the study behind it, even if the default recipe won; or 0."""
        return max(budget(self.recipe), int(self.facts.get(BEST_OF, 0)))

    @property
    def uncommitted(self) -> bool:
        """Whether it was made with changes of bench/ that were not committed."""
        return self.facts.get(UNCOMMITTED, 0) > 0

    def selected(self, part: str) -> float | None:
        """The mean selection score on a part ("val" or "test"); None: it has none."""
        return self.scores.get(f"{part}_{self.selection_metric}")


_FIELDS = [field.name for field in dataclasses.fields(LedgerRow)]
_IDENTITY = _FIELDS[: _FIELDS.index("scores")]
_PROVENANCE = ("finished", *_ENVIRONMENT)
Ledger = Sequence[LedgerRow]
Names = tuple[str, ...]


def row_of(record: RunRecord) -> LedgerRow:
    """The ledger's row of a record; missing values (scores of a diverged run) are left out."""
    spec = record.spec
    facts = {key: record.facts[key] for key in (*FACTS, *SIGNS) if key in record.facts}
    facts |= _from_history(record) | few_steps(record) | _code_bits(record)
    return LedgerRow(
        dataset=spec.dataset_label,
        data_digest=spec.data_digest,
        split_digest=record.split_digest,
        protocol=spec.protocol,
        protocol_fingerprint=spec.protocol_fingerprint,
        selection_metric=spec.selection_metric,
        ranked=spec.ranked,
        track=record.track,
        model=spec.model,
        model_revision=spec.model_revision,
        closed_form=record.closed_form,
        recipe=spec.recipe,
        latent_dim=spec.latent_dim,
        code_size=CODE_SIZES[spec.task](record),
        seed=spec.seed,
        configuration=configuration_of(spec),
        run_key=record.run_key,
        evaluation_digest=record.evaluation_digest,
        status=record.status,
        scores={
            f"{part}_{metric}": rounded(value)
            for part, scores in record.scores.items()
            for metric, value in scores.items()
        },
        facts={key: rounded(value) for key, value in facts.items()},
        finished=datetime.fromtimestamp(record.finished_unix_ms // 1000, UTC),
        environment={
            key: record.environment[key]
            for key in (*_ENVIRONMENT, BENCH_DIGEST)
            if record.environment.get(key)
        },
        hyperparameters=hyperparameters_of(spec),
        seed_rule=_seed_rule(spec),
        source=spec.source,
    )


def hyperparameters_of(spec: RunSpec) -> str:
    """The column `hyperparameters` of a run: `beta=4, l2=0.1`."""
    pairs = sorted(spec.hyperparameters.items())
    return ", ".join(f"{key}={cell_text(value)}" for key, value in pairs)


def _seed_rule(spec: RunSpec) -> str:
    """The seeds of the protocol of a run; "" if the record does not hold it."""
    protocol = spec.definition
    known = protocol is not None and protocol.description != NAME_ONLY
    return rule_text(protocol.seeds) if protocol is not None and known else ""


def _code_bits(record: RunRecord) -> dict[str, float]:
    """Bits of a code: those of a discrete one, or 32 for each real number."""
    if not record.spec.has_code or CODE_BITS in record.facts:
        return {}
    return {CODE_BITS: REAL_BITS * record.facts["code_size"]}


def _from_history(record: RunRecord) -> dict[str, float]:
    """Training scores, since origins published some."""
    if not record.history:
        return {}
    last = record.history[-1].values
    found = {f"train_{name}": last.get(f"train/{name}") for name in ("loss", "accuracy")}
    accuracies = [epoch.values.get("val/accuracy") for epoch in record.history]
    found["best_val_accuracy"] = max((a for a in accuracies if a is not None), default=None)
    return {key: value for key, value in found.items() if value is not None}


def configuration_of(spec: RunSpec) -> str:
    """What the seeds of a row share, as 16 hexadecimal digits: the run key at seed 0."""
    return dataclasses.replace(spec, seed=0).run_key


def ledger_of(rows: Iterable[LedgerRow]) -> Ledger:
    """The ledger of these rows in its canonical order."""
    return tuple(sorted(rows, key=_order))


def _order(row: LedgerRow) -> tuple[BoardKey, tuple[int, int], Names, int]:
    names = (row.model, row.recipe, row.size_name, row.configuration)
    return (row.board, row.track.order, names, row.seed)


def score_columns(rows: Ledger) -> list[str]:
    """The columns of all scores of these rows: by name, those of validation first."""
    found = sorted({column for row in rows for column in row.scores})
    return sorted(found, key=lambda column: column.startswith("test_"))


def ledger_columns(rows: Ledger) -> list[str]:
    """The columns of the file with these rows, in order."""
    later = [key for key in (*LATER_FACTS, *LATER_CELLS) if any(key in row.cells for row in rows)]
    return [*_IDENTITY, *score_columns(rows), *FACTS, *later, *_PROVENANCE]


def encode_ledger(rows: Ledger) -> bytes:
    """The bytes of the ledger's file."""
    return encode(rows, ledger_columns(rows))


def decode_ledger(content: bytes, where: str) -> Ledger:
    """Read the ledger; CheckFailed as for `decode`, and for a run that is in it twice."""
    rows = decode(content, where, LedgerRow)
    times = Counter(row.key for row in rows)
    for row in rows:
        if times[row.key] > 1:
            raise CheckFailed(
                f"{where}: run {row.run_key} ({row.title}) is in it twice; remove one"
            )
    return rows


def current(ledger: Ledger, fingerprint: str = "") -> Ledger:
    """The rows that tables show.

    The ledger keeps all rows. For each protocol on a data set, only rows with the same
    fingerprint, data digest and evaluation digest are comparable: those of `fingerprint`, or else
    the most recent ones. Likewise for a cell whose configuration changed (a raised revision).
    """
    rows = [row for row in ledger if fingerprint in ("", row.protocol_fingerprint)]
    comparable = _latest(rows, lambda row: (row.dataset, row.protocol), lambda row: row.board)
    return _latest(
        comparable,
        lambda row: (*row.board, row.model, row.size_name, row.recipe, str(row.track)),
        lambda row: (row.configuration,),
    )


def _latest(
    rows: Ledger, group: Callable[[LedgerRow], Names], version: Callable[[LedgerRow], Names]
) -> Ledger:
    """For each group, the rows of the most recent version."""
    newest: dict[Names, tuple[datetime, Names]] = {}
    for row in rows:
        # The version's name breaks ties, so the choice never depends on the order of rows.
        stamp = (row.finished, version(row))
        newest[group(row)] = max(stamp, newest.get(group(row), stamp))
    return tuple(row for row in rows if version(row) == newest[group(row)][1])
