"""What errors are usual: those of a model on the test images of its own benchmark."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.store import Store
from bench.leaderboard.ledger import current
from bench.records.files import iter_records, read_arrays
from bench.registry.champions import with_shipped
from bench.registry.changes import unchanged
from bench.registry.loading import LoadedModel
from bench.registry.results import read_results
from bench.registry.scores import Kept

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """The errors of a model on images that it was neither trained nor chosen on: `errors` (M,), and
    whose these are, in words."""

    errors: Floats
    source: str

    def place(self, scores: Floats) -> Floats:
        """The share of `errors` below each score (N,), in %; equal ones count half."""
        ordered = np.sort(self.errors)
        below = np.searchsorted(ordered, scores, side="left")
        upto = np.searchsorted(ordered, scores, side="right")
        shares: Floats = (50.0 * (below + upto) / len(ordered)).astype(np.float32)
        return shares


def reference_of(store: Store, model: LoadedModel) -> Reference | None:
    """The mean squared errors of a model's test images: those of its local record, or else those
    that are committed; None if neither has them."""
    spec = model.spec
    source = f"the test images of {spec.dataset_label}"
    for record in iter_records(store.records):
        if record.run_key == spec.run_key and record.status == "finished":
            errors = read_arrays(store.records, record).get("test/mse")
            if errors is not None:
                return Reference(errors, source)
    if spec.selection_metric != "mse":
        return None
    for each in with_shipped(store):
        with unchanged(each):
            results = read_results(each.registry)
            kept = Kept(each.registry, results.scores)
            for row in current(results.ledger):
                if row.run_key == spec.run_key:
                    found = kept.scores_of(row, "test")
                    if found is not None:
                        return Reference(found, source)
    return None
