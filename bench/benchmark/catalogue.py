"""Descriptions of variants and protocols for `bench models` and `bench protocols`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from bench.benchmark.forecast import forecast, known_forecast
from bench.benchmark.plan import Request, default_workers, plan
from bench.core.errors import BadInput, BenchError
from bench.core.plugins import installed
from bench.core.protocol import load_protocol
from bench.core.seeds import all_seeds, first_seeds
from bench.core.store import Store
from bench.data import ImageSet, find_dataset, load_set
from bench.models.zoo import MODELS

NOT_MEASURED, RECORDED = "not measured yet (--measure)", "recorded"
"""Notes in place of a cost: nothing is known yet; there is nothing to do."""


def describe_models() -> list[dict[str, Any]]:
    """One row per variant, at the native code size of its origin; a classifier has no code.

    Then the models of installed packages, from their metadata alone: nothing is imported.
    """
    ours = [
        {
            "id": name,
            "origin": row.origin,
            "task": ", ".join(row.tasks),
            "native_code_size": row.native_latent_dim or row.native_code_size,
            "parameters": row.native_parameters,
            "closed_form": row.closed_form,
            "hyperparameters": dict(row.hyperparameters),
            "line": row.line,
        }
        for name, row in MODELS.items()
    ]
    return ours + [
        {
            **dict.fromkeys(ours[0]),
            "id": name,
            "origin": plugin.origin,
            "line": plugin.problem or f"the class {plugin.module}:{plugin.attribute}",
        }
        for name, plugin in installed("bench.models").items()
    ]


def describe_protocols(names: Sequence[str], store: Store, measure: bool) -> list[dict[str, Any]]:
    """One row per protocol with its cost on this machine, known already or measured now."""
    load = functools.cache(load_set)  # many protocols share a data set
    return [_describe_protocol(name, store, load, measure) for name in names]


def _describe_protocol(
    name: str, store: Store, load: Callable[[str], ImageSet], measure: bool
) -> dict[str, Any]:
    protocol = load_protocol(name)
    row: dict[str, Any] = {
        "name": name,
        "description": protocol.description,
        "dataset": protocol.dataset,
        "models": list(protocol.models),
        "latent_dims": [*protocol.latent_dims, *(["native"] if protocol.native else [])],
        "seeds": len(first_seeds(protocol.seeds)),
        "seeds_at_most": len(all_seeds(protocol.seeds)),
        "epochs": protocol.train.epochs or None,
        "steps": protocol.train.steps or None,
        "runs": 0,
        "runs_at_most": 0,
        "recorded": 0,
        "forecast_seconds": 0.0,
        "forecast_seconds_at_most": 0.0,
        "cost_note": "",
    }
    if not protocol.dataset:
        return row | {"cost_note": "give --dataset"}
    request = Request(protocol)
    try:
        made = plan(request, store, load)
    except BenchError as error:
        # Usually the data set is not here: list the protocol all the same and say why.
        missing = f"data missing: bench data fetch {protocol.dataset}"
        note = str(error) if _is_here(protocol.dataset) else missing
        return row | {"cost_note": note, "problem": str(error)}
    row |= {"runs": len(made.specs), "runs_at_most": made.most, "recorded": len(made.done)}
    workers = default_workers(request, made.specs[0].device)
    if measure:
        cost = forecast(made.missing, made.sizes, store.prepare(), workers, later=made.later)
    else:
        known = known_forecast(made.missing, made.sizes, store, workers, made.later)
        if known is None:
            return row | {"cost_note": NOT_MEASURED}
        cost = known
    note = RECORDED if not made.missing else cost.unknown_in_words
    return row | {
        "forecast_seconds": cost.total_seconds,
        "forecast_seconds_at_most": cost.most_seconds,
        "cost_note": note,
    }


def _is_here(dataset: str) -> bool:
    try:
        find_dataset(dataset)
    except BadInput:
        return False
    return True
