"""Samplers and pruners by the names that the user gives."""

from collections.abc import Callable, Mapping

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PercentilePruner
from optuna.samplers import BaseSampler

from bench.core.errors import unknown_name

STARTUP_TRIALS = 5
"""Complete trials before `third` and `median` start to compare (Optuna's default)."""
FIRST_VERDICT_SHARE = 1 / 6
"""Prune only after this share of the epochs: the first epochs say little yet."""
DEFAULT_PRUNER = "third"
"""`third` prunes trials outside the best third of the complete ones. Trials get better while the
sampler learns, so about half of them would pass the median, which saves little."""

_SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "qmc": lambda seed: optuna.samplers.QMCSampler(
        seed=seed, scramble=True, warn_independent_sampling=False
    ),
}
_PRUNERS: Mapping[str, Callable[[int], BasePruner]] = {
    "third": lambda epochs: PercentilePruner(100 / 3, STARTUP_TRIALS, first_verdict(epochs)),
    "median": lambda epochs: MedianPruner(STARTUP_TRIALS, first_verdict(epochs)),
    "hyperband": lambda epochs: HyperbandPruner(min_resource=1, max_resource=epochs),
    "none": lambda epochs: NopPruner(),
}


def first_verdict(epochs: int) -> int:
    """The first epoch (from 1) after which `third` and `median` may stop a trial.

    Optuna's warm-up steps: it judges from that step on, and our steps count from 1.
    """
    return max(1, round(FIRST_VERDICT_SHARE * epochs))


def check_names(sampler: str, pruner: str) -> None:
    """Raises BadInput for an unknown name."""
    if sampler not in _SAMPLERS:
        raise unknown_name("sampler", sampler, _SAMPLERS)
    if pruner not in _PRUNERS:
        raise unknown_name("pruner", pruner, _PRUNERS)


def make_sampler(name: str, seed: int, draws_before: int) -> BaseSampler:
    """A sampler that does not repeat what others drew before with the same --seed.

    With the same seed, a resumed study would draw its first points again.
    """
    return _SAMPLERS[name]((seed * 1_000_003 + draws_before) % 2**32)


def make_pruner(name: str, epochs: int) -> BasePruner:
    """A pruner for trainings of `epochs` epochs."""
    return _PRUNERS[name](epochs)
