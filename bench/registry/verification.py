"""Recompute scores from weights and compare them with the recorded ones.

Scores are recomputed from the same weights and images, so only rounding may differ: by up to
0.01 % of the recorded value. This holds for a champion's card; its ledger row may come from a run
on another machine and has the tolerance of reproductions (merging.py).
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.core.errors import BadInput, BenchError, CheckFailed, unknown_name
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.execution.runner import rescore
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.merging import disagreement
from bench.metrics import METRICS
from bench.records.files import Arrays, iter_records, read_weights
from bench.registry.cards import Card
from bench.registry.champions import champion_weights, champions, check_folder
from bench.registry.changes import unchanged
from bench.registry.naming import located
from bench.registry.results import read_results

TOLERANCE = 1e-4
"""Relative: the same weights on another processor or number of threads round differently."""
_LEAST = 1e-7
"""Absolute, for scores at or near 0."""

Scores = Mapping[str, Mapping[str, float]]


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


def targets(store: Store, names: Sequence[str], everything: bool) -> list[Target]:
    """What to verify: champions by track, runs by run key; without names all champions.

    `everything` adds all local records. Raises BadInput for an unknown name, with the nearest.
    """
    with unchanged(store):
        cards = champions(store.registry)
    if not names and not everything:
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
    return [found for name in names for found in _target(name, cards, records.values())]


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


def raise_problems(found: Sequence[Verified]) -> None:
    """Raise CheckFailed naming every target that was not reproduced."""
    wrong = [item for item in found if item.problem and not item.skipped]
    if wrong:
        listed = "; ".join(f"{item.name}: {item.problem}" for item in wrong)
        raise CheckFailed(f"{len(wrong)} of {len(found)} did not verify: {listed}")


def _champion(store: Store, card: Card, dataset: str) -> Verified:
    with unchanged(store):
        card = champions(store.registry).get(card.track, card)  # another one by now, perhaps
    what = f"champion {card.summary.row}"
    if not card.weights.committed:
        reason = "skipped: its weights are too large to be committed; verify its run instead"
        found = _verified(card.track, what, card.spec, card.scores, {})
        return dataclasses.replace(found, problem=reason, skipped=True)
    folder = store.registry / card.folder
    try:
        with unchanged(store):
            check_folder(store.registry, folder, card)
            weights = champion_weights(folder, card)
        again = _rescore(store, card.spec, weights, dataset)
    except BenchError as error:
        found = _verified(card.track, what, card.spec, card.scores, {})
        return dataclasses.replace(found, problem=str(error))
    found = _verified(card.track, what, card.spec, card.scores, again)
    if found.problem:
        return found
    return dataclasses.replace(found, problem=_against_ledger(store, card, again))


def _against_ledger(store: Store, card: Card, again: Scores) -> str:
    """Why the ledger's row of the champion's run does not match the recomputed scores."""
    results = read_results(store.registry)
    board = card.spec.dataset_label, card.spec.protocol, card.spec.protocol_fingerprint
    key = card.run_key, card.evaluation_digest, *board
    for row in results.ledger:
        if row.key == key:
            found = {
                f"{part}_{name}": rounded(value)
                for part, scores in again.items()
                for name, value in scores.items()
            }
            local = dataclasses.replace(row, scores={**row.scores, **found})
            why = disagreement(row, local)
            return f"results.csv: {why}" if why else ""
    return ""


def _record(store: Store, record: RunRecord, dataset: str) -> Verified:
    try:
        again = _rescore(store, record.spec, read_weights(store.records, record), dataset)
    except BenchError as error:
        found = _verified(record.run_key, record.spec.title, record.spec, record.scores, {})
        return dataclasses.replace(found, problem=str(error))
    return _verified(record.run_key, record.spec.title, record.spec, record.scores, again)


def _rescore(store: Store, spec: RunSpec, weights: Arrays, dataset: str) -> Scores:
    """Recompute on the CPU, which every machine has."""
    images = located(store, spec, dataset)
    return rescore(dataclasses.replace(spec, dataset=images, device="cpu", threads=1), weights)


def _verified(name: str, what: str, spec: RunSpec, written: Scores, again: Scores) -> Verified:
    part = "val" if "val" in written else "test"
    metric = spec.selection_metric
    return Verified(
        name,
        what,
        f"{part} {metric}",
        written[part][metric],
        again.get(part, {}).get(metric, float("nan")),
        _difference(written, again) if again else "",
    )


def _difference(written: Scores, again: Scores) -> str:
    """The first score that was not reproduced."""
    for part, scores in written.items():
        for name, value in scores.items():
            if name in METRICS and not METRICS[name].compared:
                continue
            new = again.get(part, {}).get(name, float("nan"))
            if not abs(new - value) <= max(TOLERANCE * abs(value), _LEAST):
                return f"{part} {name} is {new:.6g} from the weights, written down as {value:.6g}"
    return ""
