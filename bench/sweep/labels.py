"""Updates records with the number of trials that chose their recipe.

A resumed study may find the same winner again. Its runs are then the same trainings: their records
are kept and updated with the larger number of trials. If the default recipe wins, its runs are
those of the winner and are marked as such.
"""

import dataclasses

from bench.benchmark.plan import Plan
from bench.core.recipes import BEST_OF, budget
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.records.files import read_arrays, read_weights, write_record


def with_larger_budget(plan: Plan, store: Store) -> Plan:
    """Raise the number of trials in a plan's records to the plan's, where theirs is smaller."""
    labels = {spec.run_key: spec.recipe for spec in plan.specs}
    done = {
        key: _renamed(record, labels[key], store)
        if 0 < budget(record.spec.recipe) < budget(labels[key])
        else record
        for key, record in plan.done.items()
    }
    return dataclasses.replace(plan, done=done)


def best_of(record: RunRecord, trials: int, store: Store) -> RunRecord:
    """Mark a run of the default recipe: a study of so many trials found nothing better."""
    if record.facts.get(BEST_OF, 0) >= trials or record.status != "finished":
        return record
    facts = {**record.facts, BEST_OF: float(trials)}
    return _rewritten(dataclasses.replace(record, facts=facts), store)


def _renamed(record: RunRecord, recipe: str, store: Store) -> RunRecord:
    spec = dataclasses.replace(record.spec, recipe=recipe)
    return _rewritten(dataclasses.replace(record, spec=spec), store)


def _rewritten(record: RunRecord, store: Store) -> RunRecord:
    weights, arrays = read_weights(store.records, record), read_arrays(store.records, record)
    return write_record(store.records, record, weights, arrays)
