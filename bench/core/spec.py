"""Value types passed between processes: RunSpec, EpochValues, RunRecord, search ranges.

Frozen dataclasses of plain values, so that they pickle, print and compare; no torch here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from bench.core.identity import Name, chosen_settings, digest
from bench.core.protocol import (
    EvaluationConfig,
    Protocol,
    Scalar,
    SplitConfig,
    TrainConfig,
)
from bench.core.recipes import Recipe
from bench.core.strict import STRICT, adapter
from bench.core.tasks import TASKS, TaskId
from bench.core.track import Track

NO_CODE = "-"
"""Shown as the latent size of a classifier."""
COPIED = "copied_images"
"""The fact that counts validation and test images that are exact copies of one in an earlier part;
only where own images have some."""
TOGETHER = "seeds_together"
"""The fact that counts the seeds trained as one network with a run, itself included; absent if it
was trained alone. Results are the same within rounding; its time is its share."""

Part = Literal["train", "validation", "test"]
Status = Literal["finished", "diverged", "stopped"]


@dataclass(frozen=True)
class FloatRange:
    """A search range from `low` to `high` (inclusive), on a log scale if `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class IntRange:
    """A search range of whole numbers from `low` to `high` (inclusive), log scale if `log`."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """A fixed list of values to choose from."""

    values: tuple[Scalar, ...]


SearchRange = FloatRange | IntRange | Choice


def _is_missing(value: object) -> bool:
    return value is None


def _is_empty(value: object) -> bool:
    return value == ""


@dataclass(frozen=True)
class RunSpec:
    """Complete specification of one run: what to train, on what, how, and how to score it.

    `dataset` is the source of the images (an id of DATASETS or `csv:PATH`, `npz:PATH`,
    `folder:PATH`); `dataset_label` is its name in tables. `latent_dim` None means the native
    code. `recipe` is "default" or "tuned (30 trials)". `device` and `threads` are recorded but
    not part of the identity. `ranked` comes from the protocol; files hold it only if it is false.
    `definition` is the whole protocol as stored (`Protocol.kept`); specs in cards and in trials of
    earlier versions lack it. `source` identifies the code of a model that is not one of bench's own
    (16 hexadecimal digits, `models.own`): other code is another training. Specs of others lack it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    protocol: Name
    protocol_fingerprint: str
    task: TaskId
    dataset: str
    dataset_label: Name
    data_digest: str
    split: SplitConfig
    model: Name
    model_revision: int
    latent_dim: int | None
    hyperparameters: Mapping[str, Scalar]
    train: TrainConfig
    evaluation: EvaluationConfig
    metric_revisions: Mapping[str, int]
    selection_metric: Name
    seed: int
    recipe: Recipe = "default"
    device: str = "cpu"
    threads: int = 1
    ranked: Annotated[bool, Field(exclude_if=bool)] = True
    definition: Annotated[Protocol | None, Field(exclude_if=_is_missing)] = None
    source: Annotated[str, Field(pattern="^([0-9a-f]{16})?$", exclude_if=_is_empty)] = ""

    @property
    def run_key(self) -> str:
        """Digest of the training: identifies the run and its weights (16 hexadecimal digits)."""
        return digest(
            {
                "data": self.data_digest,
                "split": chosen_settings(self.split),
                "task": self.task,
                "model": self.model,
                "model_revision": self.model_revision,
                "latent_dim": self.latent_dim,
                "hyperparameters": dict(self.hyperparameters),
                "train": chosen_settings(self.train),
                # The selection metric decides which weights are kept and when training stops.
                "selection_metric": self.selection_metric,
                "seed": self.seed,
                **({"source": self.source} if self.source else {}),
            }
        )

    @property
    def evaluation_digest(self) -> str:
        """Identifies the scores: metrics, their settings and revisions."""
        return digest(
            {
                "evaluation": chosen_settings(self.evaluation),
                "revisions": dict(self.metric_revisions),
            }
        )

    @property
    def board(self) -> str:
        """Identifies the board that the run is on: protocol and data set (16 hex digits)."""
        return board_of(self.protocol, self.protocol_fingerprint, self.dataset_label)

    @property
    def cell(self) -> tuple[str, str, str, str, int | None, str]:
        """What runs of different seeds share: one row of the leaderboard."""
        return (
            self.dataset_label,
            self.protocol,
            self.protocol_fingerprint,
            self.model,
            self.latent_dim,
            self.recipe,
        )

    @property
    def has_code(self) -> bool:
        """Whether the model has a code, and so a latent size."""
        return TASKS[self.task].has_code

    @property
    def size_name(self) -> str:
        """The latent size in tables and names: a number, `native`, or `-` for a classifier."""
        if not self.has_code:
            return NO_CODE
        return "native" if self.latent_dim is None else str(self.latent_dim)

    @property
    def checkpoint_name(self) -> str:
        """The checkpoint's file name in the store, from which a stopped training resumes."""
        return f"{self.run_key}.safetensors"

    @property
    def title(self) -> str:
        """Short name for progress lines and figures, such as `cnn_ae d=16 seed 0`."""
        size = "native" if self.latent_dim is None else f"d={self.latent_dim}"
        return " ".join([self.model, *([size] if self.has_code else []), f"seed {self.seed}"])


Stack = tuple[RunSpec, ...]
"""Specs that differ only by seed and train as one network; a spec alone is a stack of one."""


def cells_of(specs: Sequence[RunSpec]) -> dict[object, list[RunSpec]]:
    """The specs by cell, both in the order given."""
    cells: dict[object, list[RunSpec]] = {}
    for spec in specs:
        cells.setdefault(spec.cell, []).append(spec)
    return cells


def board_of(protocol: str, fingerprint: str, dataset_label: str) -> str:
    """The identity of a board, from the protocol's name and fingerprint and the data's label."""
    return digest({"protocol": protocol, "fingerprint": fingerprint, "dataset": dataset_label})


@dataclass(frozen=True)
class TrialSpec(RunSpec):
    """A RunSpec of a search: trained without test images; leaves no record."""

    @classmethod
    def of(cls, spec: RunSpec) -> "TrialSpec":
        """`spec` as a trial."""
        return cls(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)})

    @property
    def checkpoint_name(self) -> str:
        """A name of its own: the run with the same training must not resume from it."""
        return f"trial-{super().checkpoint_name}"


@dataclass(frozen=True)
class SplitSizes:
    """The sizes of a split, the shape of its images (C, H, W) and its number of classes."""

    train: int
    validation: int
    test: int
    image_shape: tuple[int, int, int]
    classes: int = 0


@dataclass(frozen=True)
class EpochValues:
    """Values of one training epoch: `train/...` and `val/...`, with elapsed time."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    epoch: int
    step: int
    unix_ms: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrialResult:
    """What a worker returns for a finished trial; `seconds` counts training steps only."""

    status: Status
    history: tuple[EpochValues, ...]
    seconds: float


@dataclass(frozen=True)
class RunRecord:
    """The durable result of one RunSpec: a training, one scoring of its weights, and its place on
    a board. `records.files` stores these three apart.

    `scores[part][metric]`, for parts "val" and "test", are means over images in float64, or one
    value of a whole set; a model without a code has none of metrics that need codes. `facts` holds
    the run's other numbers: parameters, multiply_adds, code_size, compression_ratio (for
    classifiers classes, feature_size and predicted_classes instead), train_seconds,
    images_per_second, best_epoch, active_units, active_fraction, output_std (spread of the outputs
    over the images: near 0 means a constant output), and for discrete codes code_bits and
    dead_codes. `closed_form` and `value_range` are those of the variant (see `models.rows`).
    The two digests are those of the files with weights and arrays.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    run_key: str
    evaluation_digest: str
    spec: RunSpec
    status: Status
    started_unix_ms: int
    finished_unix_ms: int
    history: tuple[EpochValues, ...]
    scores: Mapping[str, Mapping[str, float]]
    facts: Mapping[str, float]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    data_source: str
    split_digest: str
    weights_sha256: str
    arrays_sha256: str
    environment: Mapping[str, str]
    message: str = ""
    closed_form: bool = False
    value_range: tuple[float, float] = (0.0, 1.0)

    @property
    def track(self) -> Track:
        """Where the run competes.

        Discrete codes compete in tracks by bits, since a 9-bit index is not comparable with a
        real number. A discrete code of at least 8 bits per pixel is over-complete. `mean_image`
        has no code; it is in the track that it was run for. Classifiers compete by the number
        of classes.
        """
        if TASKS[self.spec.task].track == "classes":
            return Track("classes", len(self.class_names))
        pixels = self.image_shape[0] * self.image_shape[1] * self.image_shape[2]
        bits = int(self.facts.get("code_bits", 0))
        if bits:
            return Track("overcomplete") if bits >= 8 * pixels else Track("bits", bits)
        size = int(self.facts["code_size"]) or self.spec.latent_dim or 0
        return Track("overcomplete") if size >= pixels else Track("real", size)

    def to_json(self) -> bytes:
        """Everything in one indented JSON document, for people who download it."""
        return adapter(RunRecord).dump_json(self, indent=1)


def to_json_types(value: Any) -> dict[str, Any]:
    """A frozen dataclass as plain nested dictionaries and lists (JSON types only)."""
    dumped: dict[str, Any] = adapter(type(value)).dump_python(value, mode="json")
    return dumped
