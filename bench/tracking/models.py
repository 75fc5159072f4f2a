"""The servable model of a cell, and its versions in MLflow's Model Registry."""

import contextlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

import bench
from bench.core.errors import BenchError
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.models.own import Code, code_of
from bench.models.rows import OUTPUTS
from bench.records.files import WEIGHTS, read_arrays, read_weights, record_folder
from bench.tracking import content
from bench.tracking.writing import MEDIAN, Entry, RunBook, part_digest

MODEL_ID, _VERSION = "bench.model_id", "bench.record"
_PACKAGE = Path(bench.__file__).parent
_CODE = ("__init__.py", "core", "models")
"""What a model needs to be rebuilt without the suite."""

_log = logging.getLogger("bench.tracking")


def log_model(client: MlflowClient, run_id: str, store: Store, record: RunRecord) -> str:
    """Log the model of a record to its run, unless it is there; returns its id in MLflow.

    A models-from-code pyfunc with safetensors: it can be served and contains no pickle.
    Raises CheckFailed if the weights on disk are not the record's.
    """
    experiment_id = client.get_run(run_id).info.experiment_id
    there = _logged_before(client, experiment_id, run_id, record)
    if there:
        return there
    read_weights(store.records, record)
    name = f"{record.spec.model.replace('.', '-')}-{record.track}"  # MLflow allows no dots
    example = read_arrays(store.records, record)["shown/test/x"][:2].astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, surroundings(client.tracking_uri, experiment_id):
        info = Model.log(
            artifact_path=None,
            flavor=_Flavour,
            name=name,
            run_id=run_id,
            # MLflow links the run's values at this step. Those at step 0 are the final ones,
            # linked below together with the images that they were computed on.
            step=max(1, int(record.facts.get("best_epoch", 1))),
            tags=content.model_tags(record),
            input_example=(example, {"output": OUTPUTS[record.spec.task][0]}),
            validate_serving_input=False,
            **packed_options(
                Path(folder),
                Trained.of(record),
                record_folder(store.records, record.run_key) / WEIGHTS,
            ),
        )
    _link_scores(client, run_id, info.model_id, record)
    return str(info.model_id)


class Trained(NamedTuple):
    """What a served model is rebuilt from, beside its weights."""

    spec: RunSpec
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    weights_sha256: str
    run_key: str

    @classmethod
    def of(cls, record: RunRecord) -> Self:
        """That of a record."""
        return cls(*(getattr(record, name) for name in cls._fields))


def packed_options(folder: Path, trained: Trained, weights: Path) -> dict[str, Any]:
    """What MLflow packs into a servable model: our model file, weights, card and code.

    `folder` takes the files that are made for it, until MLflow has copied them.
    """
    own = code_of(trained.spec.model) if trained.spec.source else None
    return {
        "python_model": str(Path(__file__).with_name("serving.py")),
        "artifacts": {
            # As addresses: MLflow would take %2F in a path for an escape.
            "weights": weights.resolve().as_uri(),
            "card": _card(folder, trained, own).as_uri(),
            "code": _code(folder, own).as_uri(),
        },
        "signature": _signature(trained),
        "pip_requirements": _requirements(),
    }


class _Flavour:
    """MLflow's pyfunc flavour, for `Model.log` with `validate_serving_input=False`.

    The validation would rebuild the network in this process, a head that needs no torch; tests
    check that logged models can be served. `Model.log` has this switch, the flavour's own
    function does not.
    """

    @staticmethod
    def save_model(*, validate_serving_input: bool, **options: Any) -> None:
        """As mlflow.pyfunc.save_model."""
        mlflow.pyfunc.save_model(**options)


def _logged_before(client: MlflowClient, experiment_id: str, run_id: str, record: RunRecord) -> str:
    """The id of a complete model of this record in this run, if a kill prevented noting it."""
    found = client.search_logged_models(
        [experiment_id], filter_string=f"tags.`{_VERSION}` = '{content.version(record)}'"
    )
    for model in found:
        if model.source_run_id == run_id and model.status == LoggedModelStatus.READY:
            return str(model.model_id)
    return ""


def lacks_code(record: RunRecord) -> str:
    """Why the code of a record's model, which travels with a served model, is not at hand; or "".

    Only a path that was typed in this process, or an installed package, says where it is.
    """
    spec = record.spec
    if not spec.source:
        return ""
    try:
        found = code_of(spec.model)
    except BenchError as error:
        return str(error)
    if found is not None and found.origin.digest == spec.source:
        return ""
    return (
        f"MLflow cannot serve {spec.title} yet, whose code is your own; send it with: "
        "bench run --model path/to/file.py:Class"
    )


def _card(folder: Path, record: Trained, own: Code | None) -> Path:
    """The file from which the served model is rebuilt."""
    spec = record.spec
    path = folder / "card.json"
    card: dict[str, Any] = {
        "model": spec.model,
        "model_revision": spec.model_revision,
        "latent_dim": spec.latent_dim,
        "hyperparameters": dict(spec.hyperparameters),
        "image_shape": list(record.image_shape),
        "classes": len(record.class_names),
        "weights_sha256": record.weights_sha256,
        "run_key": record.run_key,
        "bench_version": bench.__version__,
    }
    if own is not None:
        origin = own.origin
        card["own"] = {
            "module": origin.module,
            "attribute": origin.attribute,
            "digest": origin.digest,
            "files": list(origin.files),
            "by_path": origin.by_path,
        }
    path.write_text(json.dumps(card, indent=1), encoding="utf-8")
    return path


def _code(folder: Path, own: Code | None) -> Path:
    """A copy of the packages that define the variants, and in `own` of an own model's code."""
    target = folder / "code" / "bench"
    target.mkdir(parents=True)
    for name in _CODE:
        source = _PACKAGE / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    if own is not None:
        own.written_to(target.parent / "own")
    return target.parent


ANSWERS: Mapping[str, Callable[[Trained], tuple[int, ...]]] = {
    "reconstruction": lambda record: record.image_shape,
    "classification": lambda record: (len(record.class_names),),
}
"""The shape of a served model's default output for one image, by task."""


def _signature(record: Trained) -> ModelSignature:
    """Images in, the default output back; a parameter chooses another output."""
    task = record.spec.task
    answer = ANSWERS[task](record)
    kind = np.dtype(np.float32)
    return ModelSignature(
        inputs=Schema([TensorSpec(kind, (-1, *record.image_shape))]),
        outputs=Schema([TensorSpec(kind, (-1, *answer))]),
        params=ParamSchema([ParamSpec("output", DataType.string, OUTPUTS[task][0])]),
    )


def _requirements() -> list[str]:
    """Versions pinned here: MLflow needs 15 s per model to find them."""
    names = ("mlflow", "torch", "numpy", "safetensors", "pydantic")
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in names]


@contextlib.contextmanager
def surroundings(uri: str, experiment_id: str) -> Iterator[None]:
    """Set MLflow's global store and experiment, and restore them afterwards.

    Without the experiment, the model of a run would go to the experiment "Default". MLflow would
    create one of the name that the user's environment may hold, and leave it empty.
    """
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
    before = {name: os.environ.get(name) for name in names}
    mlflow.set_tracking_uri(uri)
    os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id
    os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _link_scores(client: MlflowClient, run_id: str, model_id: str, record: RunRecord) -> None:
    """Show the final scores with the model, one column group per part of the data.

    They have the run's own time stamps, so MLflow recognises them as the run's values.
    """
    client.log_batch(
        run_id,
        metrics=[
            Metric(
                key,
                value,
                record.finished_unix_ms,
                0,
                model_id=model_id,
                dataset_name=record.spec.dataset_label,
                dataset_digest=part_digest(record, part),
                run_id=run_id,
            )
            for key, value in content.final_metrics(record).items()
            for prefix, part in (("kept/val_", "validation"), ("test/", "test"))
            if key.startswith(prefix)
        ],
    )


def withdraw_model(book: RunBook, entry: Entry) -> None:
    """Another seed represents the cell now: remove the mark and, unless registered, the model."""
    registered = book.client.search_model_versions(f"run_id = '{entry.run_id}'")
    if entry.model_id and not registered:
        with contextlib.suppress(MlflowException):
            book.client.delete_logged_model(entry.model_id)
    book.say(entry, {MEDIAN: "false", MODEL_ID: ""})
    entry.median, entry.model_id = False, ""
