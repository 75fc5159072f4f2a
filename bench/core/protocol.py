"""Protocols: everything held equal between variants, parsed strictly from TOML.

A protocol file names a data set, a split, one training recipe, seeds, latent sizes, metrics and
the selection metric. An unknown key, a wrong type or an impossible value is an error that names
the file and the key. `Protocol.fingerprint` identifies all that makes two rows comparable; rows
with different fingerprints are never ranked together.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from bench.core.errors import BadInput, unknown_name
from bench.core.identity import Name, chosen_settings, digest
from bench.core.paths import given_path
from bench.core.seeds import AdaptiveSeeds, Seed, Seeds
from bench.core.strict import STRICT, parse_strict, read_toml
from bench.core.tasks import DEFAULT_TASK, TASKS, FurtherTaskId, TaskId

SHIPPED = Path(__file__).parent.parent / "protocols"
DEFAULT_PROTOCOL = "quick"
OWN_IMAGES_PROTOCOL = "own"
"""The default for people's own images, which may be few: a budget in steps."""
NAME_ONLY = "recorded by a version that kept only the protocol's name"
"""The description of a protocol that is not known as a whole: its seeds are a guess."""
WHOLE_LOSS = "loss"
"""Name of the score that `EvaluationConfig.whole_loss` adds."""

Scalar = bool | int | float | str
LatentDim = Annotated[int, Field(ge=1, le=65_536)]
Share = Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)]
"""Size of a part: a whole number counts images, a fraction is a share of the available images."""

MOST_EPOCHS = 100_000


def _is_zero(value: int) -> bool:
    return value == 0


def _is_empty(value: Sized) -> bool:
    return not value


@dataclass(frozen=True)
class SplitConfig:
    """How a data set is split into train, validation and test.

    `official`: keep the parts that the data set provides; draw a missing test part from all
    images and a missing validation part from the training images. `pooled`: merge all images
    first, then draw every part (the legacy 56k/7k/7k split). Draws are stratified by class and
    depend only on `seed`. `validation = 0` holds out no validation images (for origins that had
    none).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    kind: Literal["official", "pooled"] = "official"
    validation: Share = 0.125
    test: Share = 0.125
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training recipe shared by all variants of a protocol (fused Adam, Kingma and Ba 2015).

    The budget is either `epochs`, or `steps` of the optimiser, which `for_images` turns into whole
    epochs for a number of training images; a file gives one of them. Specs hold epochs only.
    `lr` is the constant rate, or the peak of the `one_cycle` schedule (Smith and Topin 2018:
    warm-up over the first `warm_up` share of all steps, cosine down to almost 0) and of `cosine`
    (linear warm-up, cosine to 0); `step` multiplies by `step_gamma` every `step_epochs`. `keep`:
    keep the weights with the best selection metric on validation, or the last ones. `patience`:
    stop after this many epochs without a better validation score (none: never). `adam` adds
    `weight_decay` to the gradient (coupled L2), `adamw` decouples it. `adam_eps_hat`: apply
    epsilon as in the efficient form in Adam's section 2 (as Keras does), not as in its algorithm.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS, exclude_if=_is_zero)] = 0
    steps: Annotated[int, Field(ge=1, le=100_000_000, exclude_if=_is_zero)] = 0
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    lr: Annotated[float, Field(gt=0, le=10)]
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    adam_eps: Annotated[float, Field(gt=0, le=1)] = 1e-8
    adam_eps_hat: bool = False
    schedule: Literal["constant", "one_cycle", "cosine", "step"] = "constant"
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.25
    step_epochs: Annotated[int, Field(ge=1)] = 20
    step_gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
    keep: Literal["best", "last"] = "best"
    patience: Annotated[int, Field(ge=1)] | None = None

    def last_batch(self, images: int) -> int:
        """Size of an epoch's last, smaller batch; a single image is left out (no batch
        statistics), unless it is all there is."""
        rest = images % self.batch_size
        return 0 if rest == 1 and images > 1 else rest

    def steps_per_epoch(self, images: int) -> int:
        """How many steps an epoch of so many training images has."""
        return images // self.batch_size + bool(self.last_batch(images))

    def for_images(self, images: int) -> "TrainConfig":
        """The recipe with its budget in whole epochs of so many training images (at least 1).

        A budget in steps is rounded up. Raises BadInput if that is more epochs than allowed.
        """
        if not self.steps:
            return self
        epochs = math.ceil(self.steps / self.steps_per_epoch(images))
        if epochs > MOST_EPOCHS:
            raise BadInput(
                f"{self.steps:,} steps are {epochs:,} epochs of {images:,} training images in "
                f"batches of {self.batch_size}; expected at most {MOST_EPOCHS:,} epochs; use fewer "
                "steps or a smaller batch"
            )
        return dataclasses.replace(self, epochs=epochs, steps=0)

    @property
    def budget(self) -> str:
        """`24 epochs` or `3,000 steps`."""
        amount, unit = (self.steps, "step") if self.steps else (self.epochs, "epoch")
        return f"{amount:,} {unit}{'s' if amount != 1 else ''}"


@dataclass(frozen=True)
class SsimSettings:
    """Window of the structural similarity index (Wang et al. 2004), always at data range 1."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    window: Annotated[int, Field(ge=3, le=101)] = 7
    sigma: Annotated[float, Field(gt=0, le=50)] | None = None
    k1: Annotated[float, Field(gt=0, lt=1)] = 0.01
    k2: Annotated[float, Field(gt=0, lt=1)] = 0.03


@dataclass(frozen=True)
class EvaluationConfig:
    """Which metrics are computed, with their settings. Its digest identifies the scores.

    `whole_loss` adds the score `loss`, the variant's own training loss on held-out images, which
    some origins published as their test error. `tasks`: further tasks, each with all of its
    metrics.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "mse",
        "mae",
        "psnr",
        "ssim",
        "ssim_gaussian",
    )
    ssim: SsimSettings = SsimSettings(window=7)
    ssim_gaussian: SsimSettings = SsimSettings(window=11, sigma=1.5)
    whole_loss: bool = False
    tasks: Annotated[tuple[FurtherTaskId, ...], Field(exclude_if=_is_empty)] = ()


@dataclass(frozen=True)
class Expected:
    """A published figure that an origin's protocol is checked against.

    `metric` is an id of METRICS or `loss`, the variant's whole training loss; `part` test, val,
    best_val (of the best epoch) or train (mean over the steps of the last epoch). `epoch`: the
    figure after this many epochs of the recipe; none: after all of them. `tolerance` is a share
    of `value`, or, if `relative` is false, an absolute distance. A figure that is not `binding`
    is shown with a reading of the origin other than the one it was published for. If an origin
    printed no `value`, it may still claim a lower error than at the code size `lower_than_at`.
    `minutes` is on one processor core. `note`: how the number misleads.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    model: str
    metric: str
    value: float | None = None
    tolerance: Annotated[float, Field(gt=0)] = 0.05
    relative: bool = True
    part: Literal["train", "val", "best_val", "test"] = "test"
    latent_dim: LatentDim | None = None
    lower_than_at: LatentDim | None = None
    epoch: Annotated[int, Field(ge=1)] | None = None
    binding: bool = True
    minutes: Annotated[float, Field(ge=0)] = 0.0
    definition: str = ""
    note: str = ""

    @property
    def margin(self) -> float:
        """The largest distance from `value` that counts as reproduced."""
        return self.tolerance * abs(self.value or 0) if self.relative else self.tolerance


def _is_off(value: bool) -> bool:
    return not value


@dataclass(frozen=True)
class Protocol:
    """Everything shared by all rows of a comparison, and which rows there are.

    Empty `models` means all variants of the task; with an empty `dataset` one must be given.
    `native` adds each variant at its origin's code size to the `latent_dims`. `seeds` are a list or
    AdaptiveSeeds; they are no part of the fingerprint. `ranked = false`
    marks protocols whose rows are shown but never ranked or promoted (those of the origins).
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: Name
    description: str
    dataset: str
    train: TrainConfig
    seeds: Seeds
    latent_dims: tuple[LatentDim, ...] = ()
    native: bool = False
    task: TaskId = DEFAULT_TASK
    models: tuple[Name, ...] = ()
    split: SplitConfig = SplitConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    selection_metric: str = "mse"
    ranked: bool = True
    hyperparameters: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    expected: Annotated[tuple[Expected, ...], Field(exclude_if=_is_empty)] = ()
    compare_with: str = ""
    """The shipped protocol that shows the same variants beside the published figures."""
    experiment: str = ""
    """The MLflow experiment of its runs; empty: its own name."""
    resume_from_ledger: Annotated[bool, Field(exclude_if=_is_off)] = False
    """Whether a run that the committed ledger has, with its scores, counts as done where no record
    of it is: another machine finished it."""
    source: Annotated[str, Field(exclude_if=_is_empty)] = ""
    """The file or name it was read from; cannot be set in a file."""

    def dataset_for(self, given: str) -> str:
        """The data set `given`, or the protocol's own if that is empty; BadInput if it has none."""
        if not given and not self.dataset:
            raise BadInput(
                f"{self.source} has no data set of its own; give one with --dataset, such as "
                "--dataset folder:PATH"
            )
        return given or self.dataset

    def kept(self, dataset_label: str) -> "Protocol":
        """The protocol as stored with results: without its file, published figures and paths, and
        without what concerns a machine and not its results (`resume_from_ledger`).

        `dataset_label` replaces a path to a user's own images.
        """
        own = ":" in self.dataset
        return dataclasses.replace(
            self,
            expected=(),
            source="",
            resume_from_ledger=False,
            dataset=dataset_label if own else self.dataset,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of what makes rows comparable: task, split, recipe, evaluation, selection."""
        return digest(
            {
                "task": self.task,
                "split": chosen_settings(self.split),
                "train": chosen_settings(self.train),
                "evaluation": chosen_settings(self.evaluation),
                "selection_metric": self.selection_metric,
                "hyperparameters": {k: dict(v) for k, v in self.hyperparameters.items()},
            }
        )


def default_protocol(dataset: str) -> str:
    """The protocol for a data set if none is named: `quick`, or `own` for csv:, npz: and folder:.

    `dataset` is empty for a protocol's own.
    """
    return OWN_IMAGES_PROTOCOL if ":" in dataset else DEFAULT_PROTOCOL


def shipped_protocols() -> Iterator[str]:
    """Names of the protocols that come with the package, those of the origins last."""
    yield from sorted(path.stem for path in SHIPPED.glob("*.toml"))
    yield from sorted(f"origins/{path.stem}" for path in SHIPPED.glob("origins/*.toml"))


def name_in_records(given: str) -> str:
    """The name used in records for a `--protocol` argument such as origins/s1 or mine.toml.

    Any other text is returned as it is. Raises BadInput as `load_protocol` does.
    """
    if given in shipped_protocols() or given.endswith(".toml"):
        return load_protocol(given).name
    return given


def origin_protocols() -> list[Protocol]:
    """The shipped protocols that check published figures."""
    return [
        protocol
        for name, protocol in _loaded(SHIPPED).items()
        if name.startswith("origins/") and protocol.expected
    ]


@functools.cache
def _loaded(folder: Path) -> Mapping[str, Protocol]:
    """The protocols in SHIPPED by name; commands ask for them once for each row of the ledger."""
    return MappingProxyType({name: load_protocol(name) for name in shipped_protocols()})


def known_protocols() -> Iterator[Protocol]:
    """Every shipped protocol, and the origins' protocols at each shorter published budget."""
    yield from _loaded(SHIPPED).values()
    for protocol in origin_protocols():
        for epoch in sorted({item.epoch for item in protocol.expected if item.epoch}):
            yield after_epochs(protocol, epoch)


def after_epochs(protocol: Protocol, epochs: int | None) -> Protocol:
    """The same recipe stopped after `epochs`, under its own name; None returns it unchanged."""
    if epochs is None:
        return protocol
    return dataclasses.replace(
        protocol,
        name=f"{protocol.name}.epoch{epochs}",
        description=f"{protocol.description}; stopped after epoch {epochs}",
        train=dataclasses.replace(protocol.train, epochs=epochs, steps=0),
    )


def _protocol_file(name: str) -> tuple[Path, str]:
    """The file of a protocol, and how messages name it."""
    if name.endswith(".toml"):
        path = given_path(name, "protocol file")
        return path, str(path)
    names = list(shipped_protocols())
    if name not in names and name and given_path(name, "protocol").exists():
        raise BadInput(f"protocol {name}: expected a name or a file that ends in .toml")
    if name not in names:
        raise unknown_name("protocol", name, names)
    return SHIPPED / f"{name}.toml", f"protocol {name}"


def protocol_text(name: str) -> str:
    """The file of a protocol as text, to copy and change. Raises as `load_protocol`."""
    load_protocol(name)
    return _protocol_file(name)[0].read_text(encoding="utf-8-sig").rstrip("\n")


def load_protocol(name: str) -> Protocol:
    """Read a shipped protocol by name, or a user's file (a path that ends in .toml).

    Raises BadInput naming the file and the key of anything invalid.
    """
    path, where = _protocol_file(name)
    try:
        data = read_toml(path, where)
    except OSError as error:
        raise BadInput(f"cannot read protocol file {path}: {error.strerror}") from None
    if "source" in data:
        raise BadInput(f"{where}: source: unknown key; remove it or fix its spelling")
    protocol = parse_strict(Protocol, data, where)
    protocol = dataclasses.replace(protocol, source=where)
    if SHIPPED not in path.resolve().parents and _takes_a_shipped_name(protocol):
        raise BadInput(
            f"{where}: name: '{protocol.name}' is the name of a shipped protocol with other "
            "settings, and tables go by name; choose another name"
        )
    _check_budget(protocol, where)
    _check_sizes(protocol, where)
    if protocol.selection_metric not in protocol.evaluation.metrics:
        listed = ", ".join(protocol.evaluation.metrics)
        raise BadInput(
            f"{where}: selection_metric: must be one of evaluation.metrics ({listed}), "
            f"got '{protocol.selection_metric}'"
        )
    if protocol.split.validation == 0:
        _check_without_validation(protocol, where)
    for key in ("ssim", "ssim_gaussian"):
        if (window := getattr(protocol.evaluation, key).window) % 2 == 0:
            raise BadInput(
                f"{where}: evaluation.{key}.window: must be odd, to have a centre (got {window})"
            )
    _refuse_repeats(protocol, where)
    return protocol


def _takes_a_shipped_name(protocol: Protocol) -> bool:
    """Whether a shipped protocol of the same name has other settings, or ranks other seeds."""
    names = {Path(name).name: name for name in shipped_protocols()}
    if protocol.name not in names:
        return False
    shipped = load_protocol(names[protocol.name])
    other_seeds = shipped.ranked and shipped.seeds != protocol.seeds
    return shipped.fingerprint != protocol.fingerprint or other_seeds


def _check_budget(protocol: Protocol, where: str) -> None:
    """A training lasts so many epochs or so many steps."""
    if protocol.train.epochs and protocol.train.steps:
        raise BadInput(
            f"{where}: train.steps: excludes train.epochs; give one of them as the budget"
        )
    if not protocol.train.epochs and not protocol.train.steps:
        raise BadInput(f"{where}: train.epochs: missing; give epochs, or steps, as the budget")


def _check_sizes(protocol: Protocol, where: str) -> None:
    """Autoencoders need a latent size; classifiers have none."""
    if not TASKS[protocol.task].has_code:
        for key in ("latent_dims", "native"):
            if getattr(protocol, key):
                raise BadInput(f"{where}: {key}: classifiers have no code; remove the key")
    elif not protocol.latent_dims and not protocol.native:
        raise BadInput(f"{where}: latent_dims: list at least one size, or set native = true")


def _check_without_validation(protocol: Protocol, where: str) -> None:
    """Selecting, stopping early, ranking and adaptive seeds need validation images."""
    wrong = {
        "train.keep": protocol.train.keep != "last",
        "train.patience": protocol.train.patience is not None,
        "ranked": protocol.ranked,
        "seeds": isinstance(protocol.seeds, AdaptiveSeeds),
    }
    for key in (key for key, is_wrong in wrong.items() if is_wrong):
        raise BadInput(
            f"{where}: {key}: needs validation images, but split.validation is 0; "
            'set keep = "last", no patience, ranked = false and a list of seeds, or hold some '
            "images out"
        )


def _refuse_repeats(protocol: Protocol, where: str) -> None:
    """Refuse a value that is listed twice: it would be counted twice."""
    for key in ("models", "latent_dims", "seeds"):
        values = getattr(protocol, key)
        if isinstance(values, AdaptiveSeeds):
            continue
        if len(set(values)) != len(values):
            raise BadInput(f"{where}: {key}: every value may be listed once (got {list(values)})")
    if len(set(tasks := protocol.evaluation.tasks)) != len(tasks):
        raise BadInput(
            f"{where}: evaluation.tasks: every value may be listed once (got {list(tasks)})"
        )
