"""Checks the tables of `registry/` against each other and against the scores per image.

Whatever follows from the committed scores is computed again: means, intervals, comparisons. What a
row says of itself is held against what its protocol, its variant and the rows beside it say
(`check_rows`), since who rewrites a row can compute its digest as well.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.core import store
from bench.core.errors import CheckFailed
from bench.core.protocol import Protocol, SplitConfig, known_protocols
from bench.core.seeds import rule_text, seeds_in_words
from bench.core.spec import RunSpec
from bench.data import DATASETS, load_set
from bench.data.split import digest_of_indices, split_indices
from bench.leaderboard.competitions import Competition, competitions, every_competition
from bench.leaderboard.csv_rows import CsvRow
from bench.leaderboard.ledger import (
    OF_NETWORK,
    Ledger,
    LedgerRow,
    current,
    hyperparameters_of,
    ledger_of,
)
from bench.leaderboard.seeds import seeds_enough, seeds_planned, why_incomplete
from bench.leaderboard.significance import IntervalRow, PairRow, Significance, compute
from bench.models.zoo import MODELS, checked_hyperparameters
from bench.registry.features import metric_revisions
from bench.registry.possible import impossible, unplanned
from bench.registry.results import CELLS, PAIRS, RESULTS, Results, all_kept, read_results
from bench.registry.scores import FOLDER, INDEX, Kept, check_scores

_ABSOLUTE = {"best_share": 0.002}
"""A share of draws changes by steps, where a last digit turns a draw round."""


def check_results(registry: Path, *, shipped: bool) -> tuple[Results, int]:
    """Check the four tables against each other and against the scores per image; `shipped`: they
    are those committed with bench.

    Returns the tables, and how many ranked runs have no committed scores: comparisons with these
    cannot be computed again here. Raises CheckFailed naming the file and the problem.
    """
    results = read_results(registry)
    check_rows(results.ledger, shipped=shipped)
    written = dataclasses.replace(results, ledger=ledger_of(results.ledger))
    for name, rendered in written.files().items():
        path = registry / name
        if not path.exists():
            if name == INDEX:  # of a registry without scores
                continue
            raise CheckFailed(f"registry/{name} is missing; write it: bench leaderboard --write")
        if path.read_bytes() != rendered:
            raise CheckFailed(
                f"registry/{name} is not in the order or the form in which it is written; "
                "fix it with: bench leaderboard --write"
            )
    comparable = list(every_competition(current(results.ledger)))
    for competition in comparable:
        if not results.known.holds_for(competition):
            raise CheckFailed(
                f"track {competition.title}: registry/{CELLS} and registry/{PAIRS} were computed "
                f"from other rows than those in registry/{RESULTS}; fix it with: "
                "bench leaderboard --write"
            )
    known_digests = {competition.digest for competition in comparable}
    computed_rows: dict[str, Sequence[IntervalRow | PairRow]] = {
        CELLS: results.known.cells,
        PAIRS: results.known.pairs,
    }
    for name, rows in computed_rows.items():
        for line, row in enumerate(rows, start=2):
            if row.rows_digest not in known_digests:
                raise CheckFailed(
                    f"registry/{name} line {line} belongs to no track of registry/{RESULTS}; "
                    "fix it with: bench leaderboard --write"
                )
    without = check_scores(registry, results.scores, results.ledger)
    kept = Kept(registry, results.scores)
    for competition in comparable:
        _check_comparisons(competition, results.known.of(competition), kept)
    return results, without


def _check_comparisons(competition: Competition, known: Significance, kept: Kept) -> None:
    """Compute a track again if all of its scores are committed; CheckFailed if it differs.

    Another processor's last digits are no difference.
    """
    if not all_kept(competition, kept):
        return
    cells, pairs = compute(competition, kept.scores_of)
    found: dict[str, tuple[Sequence[CsvRow], Sequence[CsvRow]]] = {
        CELLS: (known.cells, cells),
        PAIRS: (known.pairs, pairs),
    }
    for name, (committed, again) in found.items():
        if not all(_is_close(a, b) for a, b in zip(committed, again, strict=True)):
            raise CheckFailed(
                f"track {competition.title}: registry/{name} is not what registry/{FOLDER}/ gives; "
                "delete it and write it again: bench leaderboard --write"
            )


def _is_close(one: CsvRow, other: CsvRow) -> bool:
    ours, theirs = one.values(), other.values()
    return all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=_ABSOLUTE.get(name, 1e-9))
        if isinstance(a := ours[name], float) and isinstance(b := theirs[name], float)
        else ours[name] == theirs[name]
        for name in ours
    )


def check_rows(ledger: Ledger, *, shipped: bool) -> None:
    """Check what the rows of the ledger say of themselves; CheckFailed names the first that is
    wrong.

    `shipped`: in the tables committed with bench, the name of a shipped protocol means today's
    settings and seeds. Workspaces keep tables of the versions that made them.
    """
    for row in ledger:
        for what in (impossible(row), _wrong_track(row)):
            if what:
                raise _wrong(row, what)
    _check_images(ledger)
    cells: dict[tuple[str, ...], list[LedgerRow]] = {}
    for row in ledger:
        cells.setdefault((*row.board, row.configuration), []).append(row)
    for rows in cells.values():
        _check_cell(rows)
    if shipped:
        check_settings(ledger)
        for seeds_of, what in other_seeds(ledger):
            raise _wrong(seeds_of[0], what)


def other_seeds(ledger: Ledger) -> Iterator[tuple[Ledger, str]]:
    """The rows of each cell whose seeds are not those of its protocol's rule, and why."""
    plans = _Plans()
    for competition in competitions(current(ledger)):
        for rows in competition.cells.values():
            if what := _wrong_seeds(rows, plans):
                yield rows, what


def check_settings(ledger: Ledger) -> None:
    """Raise CheckFailed for the first row of a variant that bench does not have, or that tables
    show with other settings than the shipped protocol of that name has."""
    for row in ledger:
        if row.model not in MODELS:
            raise _wrong(row, f"{row.model} is no variant of bench")
    plans = _Plans()
    for row in current(ledger):
        if what := _wrong_settings(row, plans):
            raise _wrong(row, what)


def _wrong(row: LedgerRow, what: str) -> CheckFailed:
    return CheckFailed(
        f"registry/{RESULTS}: {row.title} ({row.dataset}, {row.protocol}): {what}; restore the "
        f"committed file (git checkout -- registry/{RESULTS})"
    )


def _wrong_track(row: LedgerRow) -> str:
    """A track of other codes than the row has, or a trained variant among those that need one
    seed."""
    known = MODELS.get(row.model)
    if known is not None and known.closed_form != row.closed_form:
        return f"closed_form is {row.closed_form}, of {row.model} it is {known.closed_form}"
    track, size = row.track, row.code_size
    if track.kind == "real" and (size or row.latent_dim or 0) != track.size:
        return f"code_size is {size}, but it stands in track {track}"
    if track.classifies != (size is None):
        return f"track {track} is not one of its task"
    return ""


def _check_images(ledger: Ledger) -> None:
    """One label means one set of images, and a protocol divides them in one way."""
    of_label: dict[str, LedgerRow] = {}
    of_protocol: dict[tuple[str, ...], LedgerRow] = {}
    for row in ledger:
        first = of_label.setdefault(row.dataset, row)
        if first.data_digest != row.data_digest:
            raise _wrong(row, f"data_digest is not that of {first.title} on the same images")
        key = row.dataset, row.protocol, row.protocol_fingerprint
        first = of_protocol.setdefault(key, row)
        if first.split_digest != row.split_digest:
            raise _wrong(row, f"split_digest is not that of {first.title} on the same board")


def _check_cell(rows: Ledger) -> None:
    """Runs that differ only by seed are of one network."""
    first = rows[0]
    for row in rows[1:]:
        for name in _SHARED:
            if row.cells.get(name) != first.cells.get(name):
                raise _wrong(
                    row,
                    f"{name} is {row.cells.get(name, 'missing')}, of seed {first.seed} it is "
                    f"{first.cells.get(name, 'missing')}",
                )
    for name in ("seed", "run_key"):
        times = Counter(row.cells[name] for row in rows)
        for row in rows:
            if times[row.cells[name]] > 1:
                raise _wrong(row, f"two runs of its cell have the {name} {row.cells[name]}")


_SHARED = (
    *("track", "model", "model_revision", "closed_form", "recipe", "latent_dim", "code_size"),
    *("selection_metric", "ranked", *OF_NETWORK),
)


class _Plans:
    """What the shipped protocols plan for the rows that name them."""

    def __init__(self) -> None:
        self._protocols = {protocol.name: protocol for protocol in known_protocols()}
        self._revisions: dict[tuple[str, str], Mapping[str, int]] = {}
        self._bundled: dict[tuple[str, SplitConfig], Mapping[str, str]] = {}

    def protocol(self, row: LedgerRow) -> Protocol | None:
        """The shipped protocol that a row names."""
        return self._protocols.get(row.protocol)

    def spec(self, row: LedgerRow, protocol: Protocol) -> RunSpec:
        """The run of a row, if its recipe is the default one."""
        key = protocol.name, row.dataset
        if key not in self._revisions:
            self._revisions[key] = metric_revisions(
                protocol.evaluation, store.shipped(), row.dataset
            )
        given = protocol.hyperparameters.get(row.model, {})
        return RunSpec(
            protocol=row.protocol,
            protocol_fingerprint=row.protocol_fingerprint,
            task=protocol.task,
            dataset=row.dataset,
            dataset_label=row.dataset,
            data_digest=row.data_digest,
            split=protocol.split,
            model=row.model,
            model_revision=row.model_revision,
            latent_dim=row.latent_dim,
            hyperparameters=checked_hyperparameters(row.model, given),
            train=protocol.train.for_images(int(row.facts.get("train_images", 0))),
            evaluation=protocol.evaluation,
            metric_revisions=self._revisions[key],
            selection_metric=protocol.selection_metric,
            seed=row.seed,
            ranked=protocol.ranked,
        )

    def other_images(self, row: LedgerRow, protocol: Protocol) -> str:
        """Other images than those of a set that comes with bench, or another division of them."""
        if row.dataset not in DATASETS or not DATASETS[row.dataset].bundled:
            return ""
        key = row.dataset, protocol.split
        if key not in self._bundled:
            images = load_set(row.dataset)
            division = digest_of_indices(split_indices(images, protocol.split))
            self._bundled[key] = {"data_digest": images.digest, "split_digest": division}
        for name, digest in self._bundled[key].items():
            if (says := row.cells[name]) != digest:
                return f"{name} is {says}, the images in the package give {digest}"
        return ""


def _wrong_settings(row: LedgerRow, plans: _Plans) -> str:
    """Other settings than the shipped protocol of that name has, or another run than it says."""
    protocol = plans.protocol(row)
    if protocol is None:
        return ""
    known = MODELS[row.model]
    if row.model_revision > known.revision:
        return f"model_revision is {row.model_revision}, {row.model} has {known.revision}"
    spec = plans.spec(row, protocol)
    pairs: dict[str, tuple[object, object]] = {
        "protocol_fingerprint": (row.protocol_fingerprint, protocol.fingerprint),
        "selection_metric": (row.selection_metric, protocol.selection_metric),
        "ranked": (row.ranked, protocol.ranked),
        "evaluation_digest": (row.evaluation_digest, spec.evaluation_digest),
    }
    if protocol.ranked and row.seed_rule:  # rows from before the column have none
        pairs["seed_rule"] = (row.seed_rule, rule_text(protocol.seeds))
    if row.recipe == "default":
        pairs["run_key"] = (row.run_key, spec.run_key)
        pairs["configuration"] = (
            row.configuration,
            dataclasses.replace(spec, seed=0).run_key,
        )
        if row.hyperparameters:  # older rows lack them
            pairs["hyperparameters"] = (row.hyperparameters, hyperparameters_of(spec))
    for name, (says, gives) in pairs.items():
        if says != gives:
            return f"{name} is {says}, the shipped protocol gives {gives}"
    return plans.other_images(row, protocol) or unplanned(row, spec)


def _wrong_seeds(rows: Ledger, plans: _Plans) -> str:
    """Seeds that were chosen: some missing, too few or too many of a shipped protocol's rule."""
    first = rows[0]
    if not first.ranked or first.closed_form:
        return ""
    protocol = plans.protocol(first)
    rule = protocol.seeds if protocol else seeds_planned(rows)
    if rule is not None:
        enough = seeds_enough(rule, rows)
        many = f"{enough} seeds were enough, {len(rows)} were run" if enough else ""
        return why_incomplete(rule, rows) or many
    found = [row.seed for row in rows]  # rows from before the column seed_rule
    if found != list(range(len(found))):
        return f"seeds {seeds_in_words(found)}, where all from 0 on are expected"
    return ""
