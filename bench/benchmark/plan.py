"""plan(): every RunSpec of a protocol, laid out before anything starts.

A plan says which runs there are, which have a record on disk and what the missing ones cost.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from bench.benchmark.checks import check_images, check_names, check_numbers, check_tasks, said_of
from bench.benchmark.forecast import Forecast, forecast
from bench.benchmark.seeding import Seeding, continued
from bench.benchmark.sizes import Cell, size_notes, solvable
from bench.core.errors import BadInput
from bench.core.protocol import EvaluationConfig, Protocol, TrainConfig
from bench.core.recipes import LEAST_STEPS, TRAIN_LONGER
from bench.core.seeds import AdaptiveSeeds, first_seeds
from bench.core.spec import RunRecord, RunSpec, SplitSizes, cells_of
from bench.core.store import Store, shipped
from bench.core.tasks import FURTHER_TASKS, TASKS
from bench.data import (
    ImageSet,
    data_notes,
    dataset_reference,
    load_set,
    require_images,
    split_set,
)
from bench.execution.devices import accelerators, available_cores, resolved_device
from bench.metrics import METRICS, why_absent
from bench.models.own import named
from bench.models.zoo import MODELS, checked_hyperparameters, variant
from bench.records.feature_cards import network_for
from bench.records.files import sound_record
from bench.registry.changes import unchanged
from bench.registry.features import metric_revisions
from bench.registry.naming import label_here
from bench.registry.results import in_ledger


@dataclass(frozen=True)
class Request:
    """What the user asked for; empty fields take the protocol's values."""

    protocol: Protocol
    models: tuple[str, ...] = ()
    latent_dims: tuple[int, ...] = ()
    native: bool = False
    seeds: tuple[int, ...] = ()
    dataset: str = ""
    device: str = "auto"
    threads: int = 1
    baselines: bool = False
    """Whether the closed forms run along with any trained autoencoder, at its code sizes."""
    beside_committed: bool = False
    """Whether own models that are asked for alone go without closed forms that are committed."""


@dataclass(frozen=True)
class Plan:
    """Every run of a request: recorded on disk, finished elsewhere (run keys), or missing.

    `notes`: lines on its images and on what it leaves out or adds. `later`: further seeds of
    unfinished cells, which may follow."""

    protocol: Protocol
    dataset_label: str
    sizes: SplitSizes
    specs: tuple[RunSpec, ...]
    done: Mapping[str, RunRecord]
    notes: tuple[str, ...] = ()
    later: tuple[RunSpec, ...] = ()
    elsewhere: Set[str] = frozenset()

    @property
    def missing(self) -> list[RunSpec]:
        """The specs without a record of the same training and the same evaluation, here or on the
        machine that finished them (`Protocol.resume_from_ledger`)."""
        known = self.done.keys() | self.elsewhere
        return [spec for spec in self.specs if spec.run_key not in known]

    def on_device(self, device: str) -> "Plan":
        """The same runs on a device of other machines; unchanged for ""."""
        if not device:
            return self
        specs, later = (
            tuple(dataclasses.replace(spec, device=device) for spec in given)
            for given in (self.specs, self.later)
        )
        return dataclasses.replace(self, specs=specs, later=later)

    @property
    def most(self) -> int:
        """The number of runs if every seed follows that may."""
        return len(self.specs) + len(self.later)

    @property
    def in_words(self) -> str:
        """The number of runs: `72`, or `72 to 240`."""
        return f"{len(self.specs)} to {self.most}" if self.later else str(len(self.specs))

    def grown(self, records: Mapping[str, RunRecord]) -> "Plan":
        """The same plan with the seeds that these records of its runs call for, and without those
        that are ruled out."""
        seeds = self.protocol.seeds
        if not self.later or not isinstance(seeds, AdaptiveSeeds):
            return self
        cells, later = cells_of(self.specs), cells_of(self.later)
        for cell in later:
            cells[cell], later[cell] = continued(cells[cell], later[cell], seeds, records)
        return dataclasses.replace(
            self,
            specs=tuple(spec for specs in cells.values() for spec in specs),
            later=tuple(spec for specs in later.values() for spec in specs),
        )

    def with_records(self, store: Store) -> "Plan":
        """The same plan, grown, with all that is recorded of it on `store`."""
        known = recorded((*self.specs, *self.later), store)
        made = self.grown(known)
        keys = {spec.run_key for spec in made.specs}
        done = {key: record for key, record in known.items() if key in keys}
        return dataclasses.replace(made, done=done)


def default_workers(request: Request, device: str) -> int:
    """One worker per GPU, or as many as the available cores carry."""
    if device.startswith("cuda"):
        return len(accelerators("cuda"))
    return max(1, available_cores() // request.threads)


def plan(request: Request, store: Store, load: Callable[[str], ImageSet] = load_set) -> Plan:
    """Lay out every run; trains nothing. Raises BadInput for anything that cannot be run.

    `load` reads a data set, as `load_set` does.
    """
    protocol = request.protocol
    check_names(protocol)
    check_numbers(request.latent_dims, request.seeds, request.threads)
    dataset = dataset_reference(protocol.dataset_for(request.dataset))
    models = tuple(dict.fromkeys(map(named, request.models)))
    models = models or protocol.models or _models_of_task(protocol)
    check_tasks(models, protocol)
    device = resolved_device(request.device)
    with said_of(protocol, "" if request.dataset else "dataset"):
        images = load(dataset)
        splits = split_set(images, protocol.split)
        require_images(splits, protocol.split)
        label = label_here(store, images)
    check_images(protocol, dataset, splits)

    with said_of(protocol, "train.steps"):
        train = protocol.train.for_images(len(splits.train.images))

    revisions = metric_revisions(protocol.evaluation, store, label)

    def spec(model: str, latent_dim: int | None) -> RunSpec:
        row = variant(model)
        given = protocol.hyperparameters.get(model, {})
        return RunSpec(
            protocol=protocol.name,
            protocol_fingerprint=protocol.fingerprint,
            task=protocol.task,
            dataset=dataset,
            dataset_label=label,
            data_digest=splits.digest,
            split=protocol.split,
            model=model,
            model_revision=row.revision,
            source=row.source,
            latent_dim=latent_dim,
            hyperparameters=checked_hyperparameters(model, given),
            train=train,
            evaluation=protocol.evaluation,
            metric_revisions=revisions,
            selection_metric=protocol.selection_metric,
            seed=first_seeds(protocol.seeds)[0],
            device=device,
            threads=request.threads,
            ranked=protocol.ranked,
            definition=protocol.kept(label),
        )

    cells, without = _with_native_code(
        [(model, size) for size in _sizes(request) for model in models], protocol
    )
    along = _baselines(protocol, cells) if request.baselines else []
    if request.beside_committed and all(variant(model).source for model in models):
        specs_along = {cell: spec(*cell) for cell in along}
        with unchanged(shipped()):
            known = in_ledger(shipped(), specs_along.values())
        along = [cell for cell in along if specs_along[cell].run_key not in known]
    sizes = SplitSizes(
        len(splits.train.images),
        len(splits.validation.images),
        len(splits.test.images),
        splits.image_shape,
        len(splits.class_names),
    )
    notes = [*data_notes(splits), *without, *size_notes(protocol, [*cells, *along], sizes)]
    cells, along = (solvable(protocol, given, sizes) for given in (cells, along))
    notes += [*_along_in_words(along), *_short_in_words(train, sizes, cells)]
    notes += _unseen_in_words(protocol.evaluation, store, label)
    seeding = Seeding(protocol, request.seeds, store)
    runs = [seeding.runs(spec(*cell)) for cell in cells]
    notes += seeding.in_words(protocol.selection_metric)
    specs = (*(run for first, _ in runs for run in first), *(spec(*cell) for cell in along))
    if not specs:
        raise BadInput(f"there is nothing to run: {'; '.join(notes)}")
    later = tuple(run for _, more in runs for run in more)
    found = Plan(protocol, label, sizes, specs, {}, tuple(notes), later).with_records(store)
    return resumed(found, store) if protocol.resume_from_ledger else found


def resumed(plan: Plan, store: Store) -> Plan:
    """The plan without the runs that the ledger has: another machine finished them."""
    with unchanged(store):
        elsewhere = in_ledger(store, plan.missing)
    if not elsewhere:
        return plan
    one = len(elsewhere) == 1
    note = f"{len(elsewhere)} {'run is' if one else 'runs are'} in the ledger, trained elsewhere"
    return dataclasses.replace(plan, elsewhere=elsewhere, notes=(*plan.notes, note))


def _baselines(protocol: Protocol, cells: Sequence[Cell]) -> list[Cell]:
    """The closed forms at the code sizes of the trained autoencoders, where they are not planned.

    Native codes that the network determines, rather than a latent size, are left out.
    """
    trained = [cell for cell in cells if not variant(cell[0]).closed_form]
    codes = [variant(model).native_latent_dim if size is None else size for model, size in trained]
    closed = [name for name in _models_of_task(protocol) if variant(name).closed_form]
    known = {(model, size or variant(model).native_latent_dim) for model, size in cells}
    wanted = [(name, code) for code in dict.fromkeys(codes) if code for name in closed]
    return [cell for cell in wanted if cell not in known]


def _short_in_words(train: TrainConfig, sizes: SplitSizes, cells: Sequence[Cell]) -> list[str]:
    steps = train.epochs * train.steps_per_epoch(sizes.train)
    if steps >= LEAST_STEPS or all(variant(model).closed_form for model, _ in cells):
        return []
    return [f"{steps:,} steps a run are few to compare networks by; {TRAIN_LONGER}"]


def _unseen_in_words(evaluation: EvaluationConfig, store: Store, label: str) -> list[str]:
    """The further tasks that are left out, since no feature network serves the data set: no board
    of theirs could say so."""
    headlines = ((task, METRICS.get(FURTHER_TASKS[task].headline)) for task in evaluation.tasks)
    blind = {task: row for task, row in headlines if row is not None and "network" in row.needs}
    if not blind or network_for(store, label) is not None:
        return []
    why = why_absent(next(iter(blind.values())))
    are, each = ("is", "it") if len(blind) == 1 else ("are", "each")
    return [f"{' and '.join(blind)} {are} left out: {each} {why}"]


def _along_in_words(along: Sequence[Cell]) -> list[str]:
    names = list(dict.fromkeys(name for name, _ in along))
    runs, are = ("run", "they are") if len(names) > 1 else ("runs", "it is")
    listed = " and ".join(names)
    return [f"{listed} {runs} along, for the margins: {are} solved in seconds"] if along else []


def _with_native_code(cells: Sequence[Cell], protocol: Protocol) -> tuple[list[Cell], list[str]]:
    """The cells without native ones of own models that have no native code, and what to say."""
    lacking = [
        name
        for name, size in cells
        if size is None
        and TASKS[protocol.task].has_code
        and variant(name).source
        and variant(name).native_latent_dim is None
    ]
    notes = [
        f"{name} is left out at its native code size: its class declares no native_latent_dim"
        for name in lacking
    ]
    return [cell for cell in cells if cell[1] is not None or cell[0] not in lacking], notes


def _models_of_task(protocol: Protocol) -> tuple[str, ...]:
    return tuple(name for name, row in MODELS.items() if protocol.task in row.tasks)


def _sizes(request: Request) -> list[int | None]:
    """The requested latent sizes; None means the native code, or no code at all."""
    if not TASKS[request.protocol.task].has_code:
        if request.latent_dims or request.native:
            raise BadInput(
                f"{request.protocol.source} is for classifiers, which have no code; "
                "leave --latent-dim and --native out"
            )
        return [None]
    if request.latent_dims or request.native:
        return [*request.latent_dims, *([None] if request.native else [])]
    protocol = request.protocol
    return [*protocol.latent_dims, *([None] if protocol.native else [])]


def recorded(specs: Iterable[RunSpec], store: Store) -> dict[str, RunRecord]:
    """The records on disk that answer these specs, by run key."""
    found = ((spec, sound_record(store.records, spec)) for spec in specs)
    return {
        spec.run_key: record
        for spec, record in found
        if record is not None and record.evaluation_digest == spec.evaluation_digest
    }


def forecast_plan(
    plan: Plan,
    store: Store,
    workers: int,
    progress: Callable[[str], None] = lambda _: None,
    *,
    local: bool = True,
) -> Forecast:
    """What the missing runs cost on this machine, as measured by `forecast`."""
    return forecast(
        plan.missing, plan.sizes, store, workers, progress, later=plan.later, local=local
    )
