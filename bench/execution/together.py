"""Seeds of one variant at one size, trained as one network. Runs in a worker."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from bench.core.spec import EpochValues, RunRecord, RunSpec
from bench.core.store import Store
from bench.evaluation.scoring import on_device
from bench.execution.runner import (
    Fitted,
    build,
    execute,
    fit_config,
    ignore_epochs,
    planned_splits,
    record_training,
)
from bench.records.files import sound_record
from bench.training.stack import fit_together
from bench.training.train import FitData


def execute_together(
    specs: Sequence[RunSpec], store: Store, on_epoch: Callable[[RunSpec, EpochValues], bool]
) -> Iterator[tuple[RunSpec, Callable[[], RunRecord]]]:
    """Train specs that differ only by seed, of a variant that stacks, as one network, on the CPU.

    Yields each spec as its training ends, with what scores and records it: that raises as
    `execute` does, for its spec alone. What is recorded already is not trained.
    """
    splits = planned_splits(specs[0])
    new = []
    for spec in specs:
        try:
            known = sound_record(store.records, spec) is not None
        except OSError:
            known = True  # `execute` meets the same fault, for this spec alone
        if known:
            yield spec, functools.partial(execute, spec, store, ignore_epochs)
        else:
            new.append(spec)
    if len(new) < 2:
        for spec in new:
            yield spec, functools.partial(execute, spec, store, functools.partial(on_epoch, spec))
        return
    started = int(time.time() * 1000)
    models = [build(spec, splits) for spec in new]
    cpu = torch.device("cpu")
    data = FitData(on_device(splits.train, cpu), on_device(splits.validation, cpu))
    configs = [fit_config(spec, store.checkpoints / spec.checkpoint_name) for spec in new]
    hooks = [functools.partial(on_epoch, spec) for spec in new]
    for place, result in fit_together(models, data, configs, hooks):
        fitted = Fitted(result, started, len(new))
        yield (
            new[place],
            functools.partial(record_training, models[place], new[place], splits, store, fitted),
        )
