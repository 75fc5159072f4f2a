"""The ledger `registry/results.csv`: one row per run, written once, each row with its own digest.

Here it is a frame of texts, exactly as in the file, so that reading and writing a ledger
gives the same bytes on every machine; `numbers` converts columns to values. Numbers are written
with nine significant digits.
"""

import dataclasses
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from bench.core.errors import CheckFailed
from bench.core.identity import digest, is_name, is_track_name
from bench.core.recipes import BEST_OF
from bench.core.spec import CLASSES, NO_CODE, OVERCOMPLETE, RunRecord, RunSpec

IDENTITY = (
    "dataset",
    "data_digest",
    "split_digest",
    "protocol",
    "protocol_fingerprint",
    "selection_metric",
    "ranked",
    "track",
    "model",
    "model_revision",
    "closed_form",
    "recipe",
    "latent_dim",
    "code_size",
    "seed",
    "configuration",
    "run_key",
    "evaluation_digest",
    "status",
)
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
SIGNS = ("predicted_classes", "dead_codes", "active_fraction", BEST_OF)
"""`predicted_classes`: how many classes a classifier ever predicts; `dead_codes`: how many discrete
codes are never used; `active_fraction`: the share of real codes that is not zero;
`best_of_trials`: the number of trials of a study that the default recipe won."""
LATER_FACTS = ("train_loss", "train_accuracy", "best_val_accuracy", *SIGNS)
"""Facts that older rows lack. `train_loss`, `train_accuracy`: mean over the last epoch's steps;
`best_val_accuracy`: of the best epoch, even if another was kept."""
_FACTS = (*FACTS, *SIGNS)
PROVENANCE = ("finished", "device", "threads", "bench", "torch", "git_commit")
DIGEST = "row_digest"
KEY = ["run_key", "evaluation_digest", "dataset", "protocol", "protocol_fingerprint"]
"""One training, scored in one way, on one board: it may be on several."""
BOARD = ["dataset", "protocol", "protocol_fingerprint", "data_digest", "evaluation_digest"]
"""What comparable rows share: the key of one section of the leaderboard."""
CELL = ["model", "latent_dim", "recipe"]

Row = Mapping[str, str]
CELLS_OF_PATHS = {
    "dataset": is_name,
    "protocol": is_name,
    "model": is_name,
    "run_key": is_name,
    "evaluation_digest": is_name,
    "track": is_track_name,
}
"""Rules for the cells that become parts of paths."""


@dataclass(frozen=True)
class RowContext:
    """What a record does not contain: whether its variant is solved in closed form, and whether
    its protocol may be ranked."""

    closed_form: bool
    ranked: bool


def number(value: float) -> str:
    """A number as written to the files: nine significant digits."""
    return f"{value:.9g}"


def row_of(record: RunRecord, standing: RowContext) -> dict[str, str]:
    """The ledger's row of a record; missing values (scores of a diverged run) are left out."""
    spec = record.spec
    finished = datetime.fromtimestamp(record.finished_unix_ms // 1000, UTC)
    row = {
        "dataset": spec.dataset_label,
        "data_digest": spec.data_digest,
        "split_digest": record.split_digest,
        "protocol": spec.protocol,
        "protocol_fingerprint": spec.protocol_fingerprint,
        "selection_metric": spec.selection_metric,
        "ranked": "yes" if standing.ranked else "no",
        "track": record.track,
        "model": spec.model,
        "model_revision": str(spec.model_revision),
        "closed_form": "yes" if standing.closed_form else "no",
        "recipe": spec.recipe,
        "latent_dim": spec.size_name,
        "code_size": str(int(record.facts["code_size"])) if spec.has_code else "",
        "seed": str(spec.seed),
        "configuration": configuration_of(spec),
        "run_key": record.run_key,
        "evaluation_digest": record.evaluation_digest,
        "status": record.status,
        "finished": finished.strftime("%Y-%m-%dT%H:%M:%SZ"),
        **{key: record.environment.get(key, "") for key in PROVENANCE if key != "finished"},
        **{key: number(record.facts[key]) for key in _FACTS if key in record.facts},
    }
    row |= _from_history(record)
    for part, scores in record.scores.items():
        row |= {f"{part}_{metric}": number(value) for metric, value in scores.items()}
    return signed({key: value for key, value in row.items() if value != ""})


def _from_history(record: RunRecord) -> dict[str, str]:
    """Training scores, since origins published some."""
    if not record.history:
        return {}
    last = record.history[-1].values
    found = {f"train_{name}": last.get(f"train/{name}") for name in ("loss", "accuracy")}
    accuracies = [epoch.values.get("val/accuracy") for epoch in record.history]
    found["best_val_accuracy"] = max((a for a in accuracies if a is not None), default=None)
    return {key: number(value) for key, value in found.items() if value is not None}


def configuration_of(spec: RunSpec) -> str:
    """What the seeds of a row share, as 16 hexadecimal digits: the run key at seed 0."""
    return dataclasses.replace(spec, seed=0).run_key


def signed(row: Row) -> dict[str, str]:
    """The row with the digest of its other cells; empty cells are ignored, so that a new column
    does not change older rows."""
    cells = {key: value for key, value in row.items() if key != DIGEST and value != ""}
    return {**cells, DIGEST: digest(cells)}


def frame_of(rows: Iterable[Row], columns: Iterable[str]) -> pd.DataFrame:
    """A frame of texts with at least `columns`, the digest last; missing cells are empty."""
    listed = list(rows)
    names = list(dict.fromkeys([*columns, *(key for row in listed for key in row)]))
    names = [name for name in names if name != DIGEST] + [DIGEST]
    cells = [{name: row.get(name, "") for name in names} for row in listed]
    # Python's own texts: selecting rows of 60 Arrow columns takes many times as long.
    return pd.DataFrame(cells, columns=pd.Index(names), dtype=object)


def rows_in(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of a frame of texts."""
    names = [str(name) for name in frame.columns]
    # Many times faster than frame.to_dict("records"); tables are read often.
    return [dict(zip(names, row, strict=True)) for row in frame.to_numpy(dtype=object).tolist()]


def ledger_of(rows: Iterable[Row]) -> pd.DataFrame:
    """The ledger of these rows in its canonical order of rows and columns."""
    listed = sorted(rows, key=_order)
    scores = sorted({key for row in listed for key in row if key.startswith(("val_", "test_"))})
    scores.sort(key=lambda key: key.startswith("test_"))
    later = [key for key in LATER_FACTS if any(key in row for row in listed)]
    return frame_of(listed, [*IDENTITY, *scores, *FACTS, *later, *PROVENANCE])


def _order(row: Row) -> tuple[str | int, ...]:
    return (
        row["dataset"],
        row["protocol"],
        row["protocol_fingerprint"],
        row["data_digest"],
        row["evaluation_digest"],
        track_order(row["track"]),
        row["model"],
        row["recipe"],
        row["latent_dim"],
        row["configuration"],
        int(row["seed"]),
    )


def track_order(track: str) -> int:
    """Sort key: tracks by code size, then discrete codes by bits, then the over-complete track.

    Tracks of classifiers are in tables of their own, by the number of classes.
    """
    if track == OVERCOMPLETE:
        return 2**62
    if track.startswith(CLASSES):
        return int(track.removeprefix(CLASSES))
    return int(track[1:]) + (2**61 if track.startswith("b") else 0)


def encode(frame: pd.DataFrame) -> bytes:
    """The bytes of a file of the registry."""
    text: str = frame.to_csv(index=False, lineterminator="\n")
    return text.encode()


def decode(content: bytes, where: str, required: Iterable[str]) -> pd.DataFrame:
    """Read a file of the registry and check every row's digest.

    Raises CheckFailed naming `where` and the row if a cell was changed by hand.
    """
    mend = f"restore the committed file (git checkout -- {where})"
    try:
        frame = pd.read_csv(io.BytesIO(content), dtype=object, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckFailed(f"{where} cannot be read as a table ({reason}); {mend}") from None
    missing = [name for name in [*required, DIGEST] if name not in frame.columns]
    if missing:
        raise CheckFailed(f"{where} has no column {missing[0]}; {mend}")
    # Line 1 is the header.
    for line, row in enumerate(rows_in(frame), start=2):
        if signed(row)[DIGEST] != row[DIGEST]:
            raise CheckFailed(
                f"{where} line {line} ({describe(row)}) was changed by hand: its cells do not "
                f"match its {DIGEST}; {mend}"
            )
        for name, follows in CELLS_OF_PATHS.items():
            if name in row and not follows(row[name]):
                raise CheckFailed(
                    f"{where} line {line}: {name} {row[name]!r} is not a name we can use; {mend}"
                )
    return frame


def decode_ledger(content: bytes, where: str) -> pd.DataFrame:
    """Read the ledger; CheckFailed also for a run that is in it twice."""
    frame = decode(content, where, [*IDENTITY, *FACTS, *PROVENANCE])
    repeated = frame[frame.duplicated(KEY)]
    if len(repeated):
        row = rows_in(repeated)[0]
        raise CheckFailed(
            f"{where}: run {row['run_key']} ({describe(row)}) is in it twice; remove one"
        )
    return frame


def describe(row: Row) -> str:
    """Describe a row of any of the files in a few words, for a message."""
    if "seed" in row:
        size = row.get("latent_dim", "")
        shown = {"native": "native ", NO_CODE: ""}.get(size, f"d={size} ")
        return f"{row.get('model')} {shown}seed {row['seed']}"
    if "row_b" in row:
        return f"{row.get('track')}: {row.get('row_a')} against {row['row_b']}"
    return f"{row.get('track')}: {row.get('row')}"


def numbers(frame: pd.DataFrame, column: str) -> "pd.Series[float]":
    """A column as floats, NaN if it is empty or missing."""
    if column not in frame.columns:
        return pd.Series(float("nan"), index=frame.index, dtype=float)
    return pd.to_numeric(frame[column]).astype(float)  # "" becomes NaN, "nan" is an error


def current(ledger: pd.DataFrame, fingerprint: str = "") -> pd.DataFrame:
    """The rows that tables show.

    The ledger keeps all rows. For each protocol on a data set, only rows with the same
    fingerprint, data digest and evaluation digest are comparable: those of `fingerprint`, or else
    the most recent ones. Likewise for a cell whose configuration changed (a raised revision).
    """
    if fingerprint:
        ledger = ledger[ledger["protocol_fingerprint"] == fingerprint]
    return _latest(_latest(ledger, ["dataset", "protocol"], BOARD), [*BOARD, *CELL, "track"])


def _latest(
    ledger: pd.DataFrame, group: list[str], version: list[str] | None = None
) -> pd.DataFrame:
    """For each group, the rows of the most recent version."""
    version = version or [*group, "configuration"]
    if ledger.empty:
        return ledger
    # The version's name breaks ties, so the choice never depends on the order of rows.
    stamped = ledger.sort_values(["finished", *version], kind="stable")
    last = stamped.groupby(group, sort=False).tail(1)[version]
    keep = ledger[version].apply(tuple, axis=1).isin(set(last.itertuples(index=False, name=None)))
    return ledger[keep]
