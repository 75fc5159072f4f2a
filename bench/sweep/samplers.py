"""Samplers and pruners by the names that a person gives."""

import importlib.util
from collections.abc import Callable, Mapping

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PercentilePruner
from optuna.samplers import BaseSampler

from bench.errors import BadInput, unknown_name

STARTUP_TRIALS = 5
"""Complete trials before `third` and `median` compare (Optuna's default)."""
WARM_UP_SHARE = 1 / 6
"""Share of the epochs in which they prune nothing: the first ones say little yet."""
DEFAULT_PRUNER = "third"
"""The best third of the complete trials is the bar: a sampler's trials get better while it
learns, so that about half of them pass the median, and little is saved."""

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
    "third": lambda epochs: PercentilePruner(100 / 3, STARTUP_TRIALS, warm_up_epochs(epochs)),
    "median": lambda epochs: MedianPruner(STARTUP_TRIALS, warm_up_epochs(epochs)),
    "hyperband": lambda epochs: HyperbandPruner(min_resource=1, max_resource=epochs),
    "none": lambda epochs: NopPruner(),
}
_NEEDS = {"cmaes": "cmaes"}


def warm_up_epochs(epochs: int) -> int:
    """Epochs in which `third` and `median` let every trial go on."""
    return max(1, round(WARM_UP_SHARE * epochs))


def check_names(sampler: str, pruner: str) -> None:
    """Raises BadInput for a name that is none, or a sampler whose library is not installed."""
    if sampler not in _SAMPLERS:
        raise unknown_name("sampler", sampler, _SAMPLERS)
    if pruner not in _PRUNERS:
        raise unknown_name("pruner", pruner, _PRUNERS)
    library = _NEEDS.get(sampler)
    if library and importlib.util.find_spec(library) is None:
        raise BadInput(
            f"--sampler {sampler} needs the library {library}; install it "
            f"(pip install {library}) or use --sampler tpe"
        )


def make_sampler(name: str, seed: int, existing: int) -> BaseSampler:
    """A sampler for a study that holds `existing` trials.

    The seed depends on how many there are: with the same one, a study that goes on would draw
    its first points again.
    """
    return _SAMPLERS[name](seed * 1_000_003 + existing)


def make_pruner(name: str, epochs: int) -> BasePruner:
    """A pruner for trainings of so many epochs."""
    return _PRUNERS[name](epochs)
