"""What a sweep will do, laid out before it starts: one study per variant and code size."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from bench.benchmark.plan import Plan, Request, recorded
from bench.benchmark.plan import plan as plan_runs
from bench.benchmark.seeding import Seeding
from bench.core.errors import BadInput
from bench.core.identity import checked_name
from bench.core.protocol import DEFAULT_PROTOCOL, Protocol, Scalar
from bench.core.seeds import all_seeds, first_seeds
from bench.core.spec import NO_CODE, Choice, RunSpec, SearchRange, TrialSpec
from bench.core.store import Store
from bench.core.tasks import TASKS
from bench.models.own import named
from bench.models.settings import with_settings
from bench.models.zoo import MODELS, variant
from bench.sweep.results import has_trials, iter_trials
from bench.sweep.samplers import DEFAULT_PRUNER, check_names
from bench.sweep.space import Settings, known_recipes, search_space
from bench.sweep.storage import checked_address

FRESH_SEEDS_FROM = 1000
"""Trials train with this seed plus --seed: not used by the protocols, so that the winner is
confirmed with fresh seeds."""


@dataclass(frozen=True)
class SweepRequest:
    """What the user asked for; empty fields take the protocol's values, or the defaults."""

    protocol: Protocol
    models: tuple[str, ...]
    latent_dims: tuple[int, ...] = ()
    native: bool = False
    protocol_reference: str = DEFAULT_PROTOCOL
    trials: int = 30
    sampler: str = "tpe"
    pruner: str = DEFAULT_PRUNER
    seed: int = 0
    timeout: float | None = None
    storage: str = ""
    new_study: bool = False
    dataset: str = ""
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class StudyPlan:
    """One study: the trial of the default recipe, the search space, the runs of the default
    recipe that the winner is compared with, and those of the closed forms for its margins."""

    name: str
    request: SweepRequest
    base: TrialSpec
    space: Mapping[str, SearchRange]
    known: Mapping[str, Settings]
    defaults: Plan
    baselines: tuple[RunSpec, ...] = ()

    def spec(self, settings: Settings) -> TrialSpec:
        """The trial with the given settings."""
        return with_settings(self.base, settings)

    @property
    def largest(self) -> TrialSpec:
        """The trial with the largest batch that is searched: it takes the most memory."""
        batches = self.space.get("batch_size")
        given = batches.values if isinstance(batches, Choice) else ()
        sizes = [self.base.train.batch_size, *(size for size in given if isinstance(size, int))]
        return self.spec({"batch_size": max(sizes)})

    def on_device(self, device: str) -> "StudyPlan":
        """The same study on a device of other machines; unchanged for ""."""
        if not device:
            return self
        base = dataclasses.replace(self.base, device=device)
        baselines = tuple(dataclasses.replace(spec, device=device) for spec in self.baselines)
        defaults = self.defaults.on_device(device)
        return dataclasses.replace(self, base=base, defaults=defaults, baselines=baselines)

    @property
    def winner_runs(self) -> tuple[int, int]:
        """How many runs a winner that is not the default gets: at least, and at most."""
        seeds = self.request.protocol.seeds
        return len(first_seeds(seeds)), len(all_seeds(seeds))

    def missing_beside(self, store: Store) -> list[RunSpec]:
        """The runs of the default recipe and of the closed forms that are not recorded yet."""
        known = recorded(self.baselines, store)
        return [
            *self.defaults.missing,
            *(spec for spec in self.baselines if spec.run_key not in known),
        ]

    def with_recipe(self, settings: Settings, recipe: str, store: Store) -> Plan:
        """Runs with the given settings under the name `recipe` with the protocol's seeds, the
        default's and the closed forms'.

        Settings equal to the default's add no run: the default's records are used.
        """
        default = self.defaults.specs[0]
        tuned = dataclasses.replace(with_settings(default, settings), recipe=recipe)
        new, later = Seeding(self.request.protocol, (), store).runs(tuned)
        if tuned.run_key == default.run_key:
            new, later = [], []
        specs = (*new, *self.defaults.specs, *self.baselines)
        return dataclasses.replace(
            self.defaults, specs=specs, later=(*later, *self.defaults.later)
        ).with_records(store)


def plan_studies(request: SweepRequest, store: Store) -> list[StudyPlan]:
    """Lay out every study; trains and writes nothing.

    The code size is fixed during the search (a search over it would choose the largest); without
    --latent-dim it is the first of the protocol's, or the native one if it lists none. Raises
    BadInput for anything that cannot be searched.
    """
    check_names(request.sampler, request.pruner)
    if request.storage:
        checked_address(request.storage)
    protocol = request.protocol
    if protocol.split.validation == 0:
        raise BadInput(
            f"protocol {protocol.name} holds no validation images, so nothing can be tuned under "
            "it; choose another --protocol"
        )
    request = dataclasses.replace(request, models=tuple(map(named, request.models)))
    for model in request.models:
        search_space(model)
    given: tuple[int | None, ...] = (*request.latent_dims, *((None,) if request.native else ()))
    sizes = given or protocol.latent_dims[:1] or (None,)
    return [
        _study(request, model, size, store)
        for model in dict.fromkeys(request.models)
        for size in dict.fromkeys(sizes)
    ]


def tunable(protocol: Protocol) -> tuple[str, ...]:
    """The variants of a protocol that are trained (not closed-form), in its order."""
    names = protocol.models or tuple(n for n, row in MODELS.items() if protocol.task in row.tasks)
    return tuple(name for name in names if not variant(name).closed_form and variant(name).search)


def _study(request: SweepRequest, model: str, size: int | None, store: Store) -> StudyPlan:
    runs = plan_runs(
        Request(
            request.protocol,
            models=(model,),
            latent_dims=() if size is None else (size,),
            # Classifiers have no size; `plan` raises the error if one was asked for.
            native=size is None and (request.native or TASKS[request.protocol.task].has_code),
            dataset=request.dataset,
            device=request.device,
            threads=request.threads,
            baselines=True,
        ),
        store,
    )
    baselines = tuple(spec for spec in runs.specs if spec.model != model)
    own = tuple(spec for spec in runs.specs if spec.model == model)
    # A search compares with the records themselves: what the ledger has of them is not enough.
    runs = dataclasses.replace(runs, specs=own, elsewhere=frozenset()).with_records(store)
    first = runs.specs[0]
    seed = FRESH_SEEDS_FROM + request.seed
    while seed in all_seeds(request.protocol.seeds):
        seed += 1
    base = dataclasses.replace(TrialSpec.of(first), seed=seed)
    space = search_space(model)
    name = _name_here(store, request.protocol, first)
    return StudyPlan(name, request, base, space, known_recipes(base, space), runs, baselines)


def _name_here(store: Store, protocol: Protocol, spec: RunSpec) -> str:
    """The study's name; one begun when labels of own data had no digits keeps its name."""
    name = study_name(protocol, spec)
    earlier = name.replace(f"-{spec.data_digest[:6]}", "")
    if earlier != name and not has_trials(store, name):
        trials = iter_trials(store, earlier)
        if any(trial.spec.data_digest == spec.data_digest for trial in trials):
            return earlier
    return name


def study_name(protocol: Protocol, spec: RunSpec) -> str:
    """`quick.fc_ae.d8`, `classifier.cnn_classifier`; includes the data set if it is not the
    protocol's own."""
    size = {NO_CODE: (), "native": ("native",)}.get(spec.size_name, (f"d{spec.size_name}",))
    other = [] if spec.dataset_label == protocol.dataset else [spec.dataset_label]
    name = ".".join([protocol.name, *other, spec.model, *size])
    return name if len(name) > 64 else checked_name("study", name)


def changed_settings(settings: Settings, default: Settings) -> dict[str, Scalar]:
    """The settings that differ from the default's."""
    return {key: value for key, value in settings.items() if default.get(key) != value}
