"""What a local record must show before its row enters the tables or it becomes a champion.

Who edits a record can compute its digests as well, so it is not believed. Of a row that is about to
be written: its settings are those of the protocol that it names; its means are those of its scores
per image; its weights are those of its network, whose size and cost are the recorded ones; and of
images drawn from each part (DRAWN), the weights give the recorded scores. That takes a second a
row. Of a new champion the same holds for every seed, and the record that stands for it is verified
as by `bench verify`.

What only all images show (a note such as "constant output" within a factor of two), or only another
training (its history), is left to `bench verify` and `bench verify --retrain`.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.core.commands import Runs
from bench.core.errors import BenchError, CheckFailed
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.data import find_dataset
from bench.leaderboard.ledger import Ledger, LedgerRow, row_of
from bench.leaderboard.merging import PARTS, disagreement
from bench.metrics import METRICS
from bench.metrics.base import LEAST
from bench.models.zoo import MODELS
from bench.records.files import Arrays, read_arrays, read_weights
from bench.registry.agreement import (
    LARGEST_APART,
    other_fact,
    other_images,
    other_protocol,
    tolerance_of,
)
from bench.registry.card_checks import median_row
from bench.registry.naming import located
from bench.registry.results import Results, record_of_row
from bench.registry.scores import Kept, is_kept

if TYPE_CHECKING:
    from bench.execution.recomputing import Drawn

DRAWN = 200
"""Images of each part that are scored again."""
_OF_MEANS = 1e-6
"""Relative: a mean in float64 of the same float32 numbers."""
_ROUGHLY = 2.0
"""The largest ratio of a sign of failure and what drawn images show of it."""


def require_believable(store: Store, before: Results, ledger: Ledger) -> list[str]:
    """Check the local records of the rows that `ledger` adds to the tables, or whose scores per
    image it would add.

    Returns what to say of those whose weights cannot be looked at here. Raises CheckFailed naming
    the first record that is not believable.
    """
    known = {row.row_digest for row in before.ledger}
    kept = Kept(store.registry, before.scores)
    unseen: dict[str, int] = {}
    for row in ledger:
        if row.row_digest in known and (not is_kept(row) or kept.holds(row)):
            continue
        record = record_of_row(store, row)
        if record is None:
            continue  # a row of another machine, which says more trials of its study now
        if reason := why_unseen(store, record):
            unseen[reason] = unseen.get(reason, 0) + 1
        _refuse([(record, why_unbelievable(store, record, not reason))], "nothing was written")
    return [
        f"{count} new rows were not held against their weights: {reason}"
        for reason, count in unseen.items()
    ]


def require_champion(store: Store, records: Sequence[RunRecord], chosen: RunRecord) -> None:
    """Check the records of a row that becomes champion, and verify the one that stands for it;
    CheckFailed for the first that is not believable."""
    found = ((each, why_unbelievable(store, each)) for each in records)
    _refuse(found, "nothing was promoted")
    _refuse([(chosen, _verified(store, chosen))], "nothing was promoted")


def records_to_promote(
    store: Store, rows: Sequence[LedgerRow], results: Results
) -> tuple[list[RunRecord], str]:
    """The local records of a cell's rows, first the one that stands for it as champion, and what
    is lacking here to promote it."""
    finished = [row for row in rows if row.status == "finished"]
    found = [record_of_row(store, row) for row in finished]
    records = [
        record
        for row, record in zip(finished, found, strict=True)
        # A local run that drifted is not the one in the table.
        if record is not None and not disagreement(row, row_of(record))
    ]
    known = {record.run_key for record in records}
    if missing := [row for row in finished if row.run_key not in known]:
        first, seeds = missing[0], [row.seed for row in missing]
        runs = Runs(first.protocol, [first.model], [first.size_name], seeds)
        return [], (
            f"its weights are not on this machine ({first.title}); promote it where they are, or "
            f"train it here: {runs.command}"
        )
    if reason := why_unseen(store, records[0]):
        return [], f"its weights prove nothing here: {reason}; promote it where they do"
    # By the table: trained again on another machine, another seed may have the median score.
    stands = median_row(rows)
    records.sort(key=lambda each: stands is None or each.run_key != stands.run_key)
    row = next(row for row in finished if row.run_key == records[0].run_key)
    if other := _other_training(store, row, records[0], results):
        return [], (
            f"its run here ({row.title}) is not the one whose scores per image are in the "
            f"registry: {other}; promote it where that run is"
        )
    return records, ""


def _other_training(store: Store, row: LedgerRow, record: RunRecord, results: Results) -> str:
    """How the scores per image of a run that was trained again differ from the committed ones, or
    "": `verify` holds a champion's weights against those."""
    kept, arrays = Kept(store.registry, results.scores), read_arrays(store.records, record)
    metric = record.spec.selection_metric
    written = {
        part: scores
        for part, name in PARTS.items()
        if (scores := kept.scores_of(row, name)) is not None
    }
    ours = {part: arrays[f"{name}/{metric}"] for part, name in PARTS.items() if part in written}
    return other_images(metric, written, ours)


def _verified(store: Store, record: RunRecord) -> str:
    from bench.registry.verification import verify_record

    return verify_record(store, record)


def why_unseen(store: Store, record: RunRecord) -> str:
    """Why the weights of a record give nothing here, or ""."""
    spec = record.spec
    known = MODELS.get(spec.model)
    if known is None:
        return f"bench has no variant {spec.model}"
    if spec.model_revision < known.revision:
        return f"{spec.model} has revision {known.revision} now"
    try:
        find_dataset(located(store, spec))
    except BenchError:
        return f"the images of {spec.dataset_label} are not on this machine"
    return ""


def _refuse(found: Iterable[tuple[RunRecord, str]], end: str) -> None:
    for record, why in found:
        if why:
            raise CheckFailed(
                f"the record of {record.spec.title} ({record.spec.protocol}, "
                f"{record.spec.dataset_label}) is not believed: {why}; {end}. Remove "
                f"mlruns/records/{record.run_key} and train it again"
            )


def why_unbelievable(store: Store, record: RunRecord, weights: bool = True) -> str:
    """What a record says that does not follow from its arrays or, if `weights`, from its weights
    and its images; or ""."""
    if why := other_protocol(record):
        return why
    if record.status != "finished":
        return f"it has scores although it {record.status}" if record.scores else ""
    arrays = read_arrays(store.records, record)
    if (why := _other_means(record, arrays)) or not weights:
        return why
    return _other_weights(store, record, arrays)


def _other_means(record: RunRecord, arrays: Arrays) -> str:
    for part, scores in record.scores.items():
        for metric, value in scores.items():
            per_image = arrays.get(f"{PARTS[part]}/{metric}")
            if per_image is None:
                known = METRICS.get(metric)
                if known is not None and known.per_image and not known.further:
                    return f"it has a {part} {metric}, and no scores per image"
                continue
            mean = float(np.mean(per_image, dtype=np.float64)) if per_image.size else np.nan
            if not abs(mean - value) <= max(_OF_MEANS * abs(value), LEAST * LEAST):
                return f"its {part} {metric} is {value:.6g}, the mean over its images {mean:.6g}"
    return ""


def _other_weights(store: Store, record: RunRecord, arrays: Arrays) -> str:
    """What the weights of a record do not give."""
    from bench.execution.recomputing import recompute_drawn

    weights = read_weights(store.records, record)
    images = located(store, record.spec)
    here = dataclasses.replace(record.spec, dataset=images, device="cpu", threads=1)
    try:
        again = recompute_drawn(here, weights, DRAWN)
    except BenchError as error:
        return str(error)
    known = {name: record.facts[name] for name in again.facts if name in record.facts}
    return (
        other_fact(known, again.facts)
        or _other_solution(record, again)
        or _other_scores(record, arrays, again)
        or _other_signs(record, again.signs)
    )


def _other_solution(record: RunRecord, again: "Drawn") -> str:
    if record.split_digest != again.split_digest:
        return f"the digest of its split is {again.split_digest}, written down as another one"
    if not again.apart <= LARGEST_APART:
        return (
            "solved again from the training images: its reconstructions are up to "
            f"{again.apart:.2g} apart from those of its weights"
        )
    return ""


def _other_scores(record: RunRecord, arrays: Arrays, again: "Drawn") -> str:
    metric = record.spec.selection_metric
    for part, name in PARTS.items():
        if name not in again.scores:
            continue
        written = arrays.get(f"{name}/{metric}")
        if written is None or len(written) != again.images[name]:
            found = "no" if written is None else len(written)
            return f"it has {found} scores of {again.images[name]} {name} images"
        drawn, ours = written[again.places[name]], again.scores[name]
        if why := other_images(metric, {part: drawn}, {part: ours}):
            return why
        old, new = (float(np.mean(each, dtype=np.float64)) for each in (drawn, ours))
        if not abs(old - new) <= tolerance_of(metric).from_weights(old, len(ours)):
            return f"{part} {metric} of {len(ours)} images is {new:.6g}, written down as {old:.6g}"
    return ""


def _other_signs(record: RunRecord, signs: dict[str, float]) -> str:
    """A sign of failure that was left out, or is another than drawn images show."""
    for name, about in signs.items():
        says = record.facts.get(name)
        if says is None:
            return f"{name} is not written down"
        low, high = sorted((says, about))
        if high - low > _SMALL[name] and not high <= _ROUGHLY * low:
            return f"{name} is about {about:.3g}, written down as {says:.3g}"
    return ""


_SMALL = {"output_std": 1e-3, "active_units": 2.0}
"""Differences that mean nothing."""
