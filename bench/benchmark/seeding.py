"""Which seeds each cell of a plan is run with."""

import dataclasses
from collections.abc import Mapping, Sequence

from bench.core.protocol import Protocol
from bench.core.seeds import AdaptiveSeeds, first_seeds
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.leaderboard.csv_rows import rounded
from bench.leaderboard.ledger import BoardKey, LedgerRow, configuration_of
from bench.leaderboard.seeds import half_width, needs_seed, why_incomplete
from bench.metrics import METRICS, short_title
from bench.models.zoo import variant
from bench.records.selection import selection_score
from bench.registry.changes import unchanged
from bench.registry.results import read_results

CellRuns = tuple[list[RunSpec], list[RunSpec]]
"""The runs of a cell, and those that may follow, both in the order of their seeds."""


class Seeding:
    """The seeds of a protocol's cells: `chosen` ones, or else those of the protocol.

    Adaptive seeds are planned from the ledger of `store` where it has all seeds of a cell: then
    these are run again, and no more. Raises CheckFailed if the ledger was changed by hand.
    """

    def __init__(self, protocol: Protocol, chosen: Sequence[int], store: Store) -> None:
        self._seeds = tuple(chosen) or protocol.seeds
        self._committed: dict[tuple[BoardKey, str], list[LedgerRow]] = {}
        self._from_ledger: dict[object, int] = {}  # seeds by cell, 0 where others are needed
        if isinstance(self._seeds, AdaptiveSeeds):
            with unchanged(store):
                ledger = read_results(store.registry).ledger
            for row in ledger:
                self._committed.setdefault((row.board, row.configuration), []).append(row)

    def runs(self, spec: RunSpec) -> CellRuns:
        """The runs of the cell of `spec`, whose own seed does not matter.

        A closed form gives the same weights for every seed, so one run is enough.
        """
        first = first_seeds(self._seeds)
        later: Sequence[int] = ()
        if variant(spec.model).closed_form:
            first = first[:1]
        elif isinstance(self._seeds, AdaptiveSeeds):
            repeated = self._from_ledger[spec.cell] = self._in_ledger(spec, self._seeds)
            if repeated:
                first = tuple(range(repeated))
            else:
                later = range(len(first), self._seeds.most)
        return [_with(spec, seed) for seed in first], [_with(spec, seed) for seed in later]

    def _in_ledger(self, spec: RunSpec, seeds: AdaptiveSeeds) -> int:
        """How many seeds the ledger has of a cell; 0 if there should be others."""
        board = BoardKey(
            spec.dataset_label,
            spec.protocol,
            spec.protocol_fingerprint,
            spec.data_digest,
            spec.evaluation_digest,
        )
        rows = self._committed.get((board, configuration_of(spec)), [])
        return 0 if why_incomplete(seeds, rows) else len(rows)

    def in_words(self, metric: str) -> list[str]:
        """What people should know of the adaptive seeds of the cells so far, one line each."""
        seeds = self._seeds
        if not isinstance(seeds, AdaptiveSeeds) or not self._from_ledger:
            return []
        decibels = METRICS[metric].transform == "identity"
        wanted = f"{seeds.until:g} dB" if decibels else f"{100 * seeds.until:g} %"
        lines = [
            f"trained rows get {seeds.least} to {seeds.most} seeds: another one while their mean "
            f"{short_title(metric)} is known no better than ± {wanted}"
        ]
        if count := sum(repeated > 0 for repeated in self._from_ledger.values()):
            rows = "row gets the seeds" if count == 1 else "rows get the seeds"
            lines.append(f"{count} {rows} that the ledger has")
        return lines


def _with(spec: RunSpec, seed: int) -> RunSpec:
    return dataclasses.replace(spec, seed=seed)


def continued(
    known: Sequence[RunSpec],
    later: Sequence[RunSpec],
    seeds: AdaptiveSeeds,
    records: Mapping[str, RunRecord],
) -> CellRuns:
    """The runs `known` of a cell and those of `later` that their records call for; and what may
    still follow: nothing, once the cell is complete.

    Records hold what every command on the store sees, so all of them decide alike.
    """
    runs, left = list(known), list(later)
    while left and all(spec.run_key in records for spec in runs):
        found = [records[spec.run_key] for spec in runs]
        if not needs_seed(seeds, runs[0].selection_metric, len(runs), _scores(found)):
            return runs, []
        runs.append(left.pop(0))
    return runs, left


def width_of(records: Sequence[RunRecord]) -> float:
    """The half width of the interval of a cell's mean, from the records of its seeds."""
    return half_width(records[0].spec.selection_metric, _scores(records))


def _scores(records: Sequence[RunRecord]) -> list[float]:
    """The validation scores of the runs that finished, as the ledger has them."""
    return [rounded(selection_score(one)) for one in records if one.status == "finished"]
