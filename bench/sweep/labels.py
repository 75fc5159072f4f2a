"""What a tuned recipe is called in tables: by how many trials it was the best of.

A study that goes on may find the same winner again. Its runs are the same trainings, so their
records stay, and say the larger budget from then on.
"""

import dataclasses
import re

from bench.benchmark import Plan
from bench.records import read_arrays, read_weights, write_record
from bench.spec import RunRecord
from bench.store import Store

_LABEL = re.compile(r"tuned \((\d+) trials\)")


def tuned(trials: int) -> str:
    """`tuned (30 trials)`."""
    return f"tuned ({trials} trials)"


def budget(recipe: str) -> int:
    """The trials behind a recipe's name; 0 for one that no study chose."""
    found = _LABEL.fullmatch(recipe)
    return int(found[1]) if found else 0


def with_larger_budget(plan: Plan, store: Store) -> Plan:
    """Let the records of a plan say the budget that it says, where theirs is smaller."""
    labels = {spec.run_key: spec.recipe for spec in plan.specs}
    done = {
        key: _relabelled(record, labels[key], store)
        if 0 < budget(record.spec.recipe) < budget(labels[key])
        else record
        for key, record in plan.done.items()
    }
    return dataclasses.replace(plan, done=done)


def _relabelled(record: RunRecord, recipe: str, store: Store) -> RunRecord:
    weights, arrays = read_weights(store.records, record), read_arrays(store.records, record)
    spec = dataclasses.replace(record.spec, recipe=recipe)
    return write_record(store.records, dataclasses.replace(record, spec=spec), weights, arrays)
