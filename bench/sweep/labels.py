"""Records that say by how many trials their recipe was chosen.

A study that goes on may find the same winner again. Its runs are the same trainings, so their
records stay, and say the larger budget from then on. Where the default recipe wins, its runs are
the winner's, and say so.
"""

import dataclasses

from bench.benchmark.plan import Plan
from bench.core.recipes import BEST_OF, budget
from bench.core.spec import RunRecord
from bench.core.store import Store
from bench.records.files import read_arrays, read_weights, write_record


def with_larger_budget(plan: Plan, store: Store) -> Plan:
    """Let the records of a plan say the budget that it says, where theirs is smaller."""
    labels = {spec.run_key: spec.recipe for spec in plan.specs}
    done = {
        key: _renamed(record, labels[key], store)
        if 0 < budget(record.spec.recipe) < budget(labels[key])
        else record
        for key, record in plan.done.items()
    }
    return dataclasses.replace(plan, done=done)


def best_of(record: RunRecord, trials: int, store: Store) -> RunRecord:
    """A run of the default recipe after a study of so many trials found nothing better."""
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
