"""Recompute from weights what was written down of them: the proof behind digests.

Digests find accidents: who rewrites a row can compute its digest as well. What the weights give can
be computed by everyone. Of champions and of local records these are compared: every score, each at
its metric's own tolerance (`Metric.tolerance`); the scores per image; the facts of the network and
of its codes; the identity of the run. Closed forms are solved again from the training images. What
nobody can compute again is in NOT_COMPARED, by name (`agreement` has it and the tolerances).

A champion's ledger row may come from a run on another machine and has the tolerance of
reproductions (merging.py).
"""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput, BenchError, CheckFailed, unknown_name
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.execution.recomputing import Recomputed, recompute
from bench.execution.runner import size_of_weights
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.ledger import LedgerRow
from bench.leaderboard.merging import CLOSED_FORM_TOLERANCE, PARTS, disagreement
from bench.metrics import METRICS
from bench.metrics.base import LEAST
from bench.models.zoo import variant
from bench.records.files import Arrays, iter_records, read_arrays, read_record, read_weights
from bench.registry.agreement import (
    LARGEST_APART,
    RETRAINED,
    Scores,
    other_fact,
    other_images,
    other_protocol,
    other_score,
    tolerance_of,
)
from bench.registry.cards import Card
from bench.registry.champions import champion_weights, champions, check_folder, fits
from bench.registry.changes import unchanged
from bench.registry.naming import located
from bench.registry.results import Results, read_results
from bench.registry.scores import Kept


@dataclass(frozen=True)
class Verified:
    """The result for one target: `problem` is empty if its scores were reproduced."""

    name: str
    what: str
    metric: str
    recorded: float
    recomputed: float
    problem: str
    skipped: bool = False


Target = Card | RunRecord


def targets(
    store: Store, names: Sequence[str], everything: bool, models: Sequence[str] = ()
) -> list[Target]:
    """What to verify: champions by track, runs by run key; without names all champions, or the
    local records of `models`.

    `everything` adds all local records. Raises BadInput for an unknown name, with the nearest, for
    a named run whose code is your own and not at hand, and for a model without a record.
    """
    with unchanged(store):
        cards = champions(store.registry)
    if not names and not everything and not models:
        if not cards:
            raise BadInput("there are no champions yet; name a run, or use --all")
        return list(cards.values())
    # Several boards may show the same scores of a training: once is enough.
    records = {
        (record.run_key, record.evaluation_digest): record
        for record in iter_records(store.records)
        if record.status == "finished"
    }
    if everything:
        return [*cards.values(), *records.values()]
    if not names:
        return _records_of(models, records.values())
    found = [each for name in names for each in _target(name, cards, records.values())]
    for each in found:
        if isinstance(each, RunRecord) and (why := _lacks_code(each.spec)):
            raise BadInput(why)
    return found


def _records_of(models: Sequence[str], records: Collection[RunRecord]) -> list[Target]:
    for model in models:
        if not any(record.spec.model == model for record in records):
            raise BadInput(
                f"there is no record of {model} here (other code is another model); make one with: "
                "bench run --model"
            )
    return [record for record in records if record.spec.model in models]


def _lacks_code(spec: RunSpec) -> str:
    """Why the network of an own model cannot be built, or ""."""
    if not spec.source:
        return ""
    try:
        found = variant(spec.model).source
    except BenchError as error:
        return f"{spec.title}: {error}"
    if found == spec.source:
        return ""
    return f"{spec.title} was trained with other code of {spec.model} (digest {spec.source})"


def _target(name: str, cards: Mapping[str, Card], records: Collection[RunRecord]) -> list[Target]:
    if (track := name.replace("/", ".", 1)) in cards:
        return [cards[track]]
    matches = [each for each in records if len(name) >= 4 and each.run_key.startswith(name)]
    keys = sorted({record.run_key for record in matches})
    if len(keys) == 1:
        return [*matches]
    if keys:
        raise BadInput(f"run {name} is ambiguous: {', '.join(keys)}")
    raise unknown_name("track with a champion, or run", name, cards)


def verify(store: Store, chosen: Sequence[Target], dataset: str = "") -> Iterator[Verified]:
    """Recompute each target in turn; problems are in the results, not raised.

    `dataset`: where a user's own images are now, if not where they were.
    """
    for target in chosen:
        if isinstance(target, Card):
            yield _champion(store, target, dataset)
        else:
            yield _record(store, target, dataset)


def verify_record(store: Store, record: RunRecord) -> str:
    """What is wrong with a local record, or ""; its images are looked for where they were."""
    return _record(store, record, "").problem


def raise_problems(found: Sequence[Verified]) -> None:
    """Raise CheckFailed naming every target that was not reproduced."""
    wrong = [item for item in found if item.problem and not item.skipped]
    if wrong:
        listed = "; ".join(f"{item.name}: {item.problem}" for item in wrong)
        raise CheckFailed(f"{len(wrong)} of {len(found)} did not verify: {listed}")


def _champion(store: Store, card: Card, dataset: str) -> Verified:
    with unchanged(store):
        card = champions(store.registry).get(card.track, card)  # another one by now, perhaps
        results = read_results(store.registry)
    found = _verified(card.track, f"champion {card.summary.row}", card.spec, card.scores)
    try:
        weights = _weights_of(store, card)
        if weights is None:
            reason = (
                "skipped: its weights are too large to be committed; verify it where its run is"
            )
            return dataclasses.replace(found, problem=reason, skipped=True)
        again = _recompute(store, card.spec, weights, dataset)
        row = _row_of_champion(results, card)
        per_image = {
            part: scores
            for part, name in PARTS.items()
            if (scores := Kept(store.registry, results.scores).scores_of(row, name)) is not None
        }
    except BenchError as error:
        return dataclasses.replace(found, problem=str(error))
    return _compared(found, card, again, per_image, _against_ledger(row, again))


def _weights_of(store: Store, card: Card) -> Arrays | None:
    """The weights beside a card, or of the local record of its run; None if they are too large to
    be committed and not on this machine.

    Raises CheckFailed for weights that are missing or changed, and where the network is so small
    that its weights belong beside the card.
    """
    if card.weights.committed:
        folder = store.registry / card.folder
        with unchanged(store):
            check_folder(store.registry, folder, card)
            return champion_weights(folder, card)
    size = size_of_weights(card.spec, card.image_shape, len(card.class_names))
    if fits(size):
        raise CheckFailed(
            f"card.json says that its weights are too large to be committed, but this network has "
            f"no more than {size:,} bytes; promote it again where its run is"
        )
    record = read_record(store.records, card.run_key)
    if record is None or record.weights_sha256 != card.weights.sha256:
        return None
    return read_weights(store.records, record)


def _row_of_champion(results: Results, card: Card) -> LedgerRow:
    """The ledger's row of a champion's run; CheckFailed if there is none."""
    for row in results.ledger:
        if row.key == (card.run_key, card.evaluation_digest, *_board(card.spec)):
            return row
    raise CheckFailed(f"results.csv has no row of its run {card.run_key}; promote again")


def _against_ledger(row: LedgerRow, again: Recomputed) -> str:
    """Why a row of the ledger does not match what its weights give."""
    rows_scores = {
        f"{part}_{name}": rounded(value)
        for part, scores in again.scores.items()
        for name, value in scores.items()
    }
    if why := disagreement(row, dataclasses.replace(row, scores={**row.scores, **rows_scores})):
        return f"results.csv: {why}"
    written: dict[str, dict[str, float]] = {"val": {}, "test": {}}
    for column, value in row.scores.items():
        part, _, name = column.partition("_")
        written[part][name] = value
    if why := other_score(written, again.scores, _of_training):
        return f"results.csv: {why}"
    both = row.facts.keys() & again.facts.keys()
    known, found = ({name: each[name] for name in both} for each in (row.facts, again.facts))
    return f"results.csv: {why}" if (why := other_fact(known, found, RETRAINED)) else ""


def _record(store: Store, record: RunRecord, dataset: str) -> Verified:
    found = _verified(record.run_key, record.spec.title, record.spec, record.scores)
    if why := _lacks_code(record.spec):
        return dataclasses.replace(found, problem=f"skipped: {why}", skipped=True)
    if why := other_protocol(record):
        return dataclasses.replace(found, problem=why)
    try:
        again = _recompute(store, record.spec, read_weights(store.records, record), dataset)
        arrays = read_arrays(store.records, record)
    except BenchError as error:
        return dataclasses.replace(found, problem=str(error))
    metrics = METRICS.keys() & {name for scores in record.scores.values() for name in scores}
    for metric in sorted(metrics):
        per_image = {
            part: arrays[f"{name}/{metric}"]
            for part, name in PARTS.items()
            if f"{name}/{metric}" in arrays
        }
        if why := other_images(metric, per_image, _by_part(again, metric)):
            return dataclasses.replace(found, problem=why)
    per_image_keys = {key for key in again.arrays if key.startswith(tuple(_PARTS))}
    if lacking := per_image_keys - arrays.keys():
        return dataclasses.replace(found, problem=f"it has no scores per image of {min(lacking)}")
    row = _rows(store).get((record.run_key, record.evaluation_digest, *_board(record.spec)))
    return _compared(found, record, again, {}, _against_ledger(row, again) if row else "")


_PARTS = [f"{name}/" for name in PARTS.values()]


def _rows(store: Store) -> dict[tuple[str, ...], LedgerRow]:
    with unchanged(store):
        return {row.key: row for row in read_results(store.registry).ledger}


def _board(spec: RunSpec) -> tuple[str, str, str]:
    return spec.dataset_label, spec.protocol, spec.protocol_fingerprint


def _recompute(store: Store, spec: RunSpec, weights: Arrays, dataset: str) -> Recomputed:
    """Recompute on the CPU, which every machine has."""
    images = located(store, spec, dataset)
    here = dataclasses.replace(spec, dataset=images, device="cpu", threads=1)
    return recompute(here, weights, store)


def _verified(name: str, what: str, spec: RunSpec, written: Scores) -> Verified:
    part = "val" if "val" in written else "test"
    metric = spec.selection_metric
    recorded = written.get(part, {}).get(metric, math.nan)
    return Verified(name, what, f"{part} {metric}", recorded, math.nan, "")


def _compared(
    found: Verified,
    written: Target,
    again: Recomputed,
    per_image: Mapping[str, NDArray[np.generic]],
    of_ledger: str,
) -> Verified:
    """The result with what was recomputed, and the first thing that is otherwise."""
    part, _, metric = found.metric.partition(" ")
    found = dataclasses.replace(found, recomputed=again.scores.get(part, {}).get(metric, math.nan))

    def of_weights(name: str, part: str, value: float) -> float:
        return tolerance_of(name).from_weights(value, again.images[part])

    def of_closed_form(_: str, __: str, value: float) -> float:
        return max(CLOSED_FORM_TOLERANCE * abs(value), LEAST)

    solved = ""
    if again.solved is not None and (
        why := other_score(written.scores, again.solved, of_closed_form)
    ):
        solved = f"solved again from the training images: {why}"
    elif not again.apart <= LARGEST_APART:
        solved = (
            "solved again from the training images: its reconstructions are up to "
            f"{again.apart:.2g} apart from those of its weights"
        )
    problem = (
        _other_identity(written, again)
        or other_score(written.scores, again.scores, of_weights)
        or solved
        or other_fact(written.facts, again.facts)
        or other_images(metric, per_image, _by_part(again, metric))
        or of_ledger
    )
    return dataclasses.replace(found, problem=problem)


def _of_training(name: str, _: str, value: float) -> float:
    return tolerance_of(name).from_training(value)


def _by_part(again: Recomputed, metric: str) -> dict[str, NDArray[np.generic]]:
    """The scores per image that the weights give, by part."""
    return {
        part: again.arrays[f"{name}/{metric}"]
        for part, name in PARTS.items()
        if f"{name}/{metric}" in again.arrays
    }


def _other_identity(written: Target, again: Recomputed) -> str:
    """What says that this is another run, or another way of scoring, than its identity names."""
    spec = written.spec
    pairs: dict[str, tuple[object, object]] = {
        "run key": (written.run_key, spec.run_key),
        "evaluation digest": (written.evaluation_digest, spec.evaluation_digest),
        "digest of the split": (written.split_digest, again.split_digest),
        "shape of the images": (tuple(written.image_shape), tuple(again.image_shape)),
        "classes": (tuple(written.class_names), tuple(again.class_names)),
    }
    for what, (says, is_now) in pairs.items():
        if says != is_now:
            return f"its {what} is {is_now}, written down as {says}"
    return ""
