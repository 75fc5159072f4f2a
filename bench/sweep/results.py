"""Durable results of trials: `mlruns/studies/STUDY/trials/RUN_KEY.json`.

A result is on disk before it goes to Optuna and MLflow. A head killed in between loses nothing:
the next one reports the results from here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, ValidationError

from bench.core.errors import CheckFailed
from bench.core.identity import StudyName
from bench.core.protocol import Scalar
from bench.core.spec import EpochValues, TrialSpec
from bench.core.store import Store, child, write_atomically
from bench.core.strict import STRICT, adapter
from bench.metrics import METRICS
from bench.records.documents import decode, encode

TrialOutcome = Literal["complete", "pruned", "diverged"]
TRIAL_SCHEMA = 2
"""Schema 1 had no digest; such results are read as they are."""
_CURE = "remove it and repeat the command"


@dataclass(frozen=True)
class TrialRecord:
    """How a trial ended. `value`: the validation selection metric of the weights that the recipe
    keeps; for a pruned trial up to the pruning epoch, though it may have trained a little
    longer; None if it diverged in its first epoch. `source`: "default", "origin", or ""
    for a point that the sampler chose."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int
    study: StudyName
    number: int
    source: str
    settings: Mapping[str, Scalar]
    spec: TrialSpec
    outcome: TrialOutcome
    value: float | None
    history: tuple[EpochValues, ...]
    started_unix_ms: int
    finished_unix_ms: int
    message: str = ""

    @property
    def seconds(self) -> float:
        """Wall-clock seconds from start to end."""
        return (self.finished_unix_ms - self.started_unix_ms) / 1000


def study_folder(store: Store, study: str) -> Path:
    """The folder for a study's lock, the results of its trials and its winner.

    Raises BadInput for a name that leads out of the folder of studies.
    """
    return child(studies_folder(store), study)


def studies_folder(store: Store) -> Path:
    """The folder that holds a folder for each study."""
    return store.mlruns / "studies"


def has_trials(store: Store, study: str) -> bool:
    """Whether this store holds results of a study of that name."""
    return any((study_folder(store, study) / "trials").glob("*.json"))


def write_trial(store: Store, record: TrialRecord) -> None:
    """Write a result completely or not at all."""
    path = _path(store, record.study, record.spec.run_key)
    write_atomically(path, encode(adapter(TrialRecord).dump_python(record, mode="json")))


def withdraw_trial(store: Store, record: TrialRecord) -> None:
    """Remove a result that came too late: its trial was given to another head."""
    there = read_trial(store, record.study, record.spec.run_key)
    if there is not None and there.number == record.number:
        _path(store, record.study, record.spec.run_key).unlink(missing_ok=True)


def read_trial(store: Store, study: str, run_key: str) -> TrialRecord | None:
    """The result of a trial, None if there is none; CheckFailed for a damaged file."""
    path = _path(store, study, run_key)
    document = decode(path, _CURE)
    if document is None:
        return None
    try:
        found: TrialRecord = adapter(TrialRecord).validate_json(json.dumps(document))
    except ValidationError as error:
        raise CheckFailed(f"{path} is damaged ({error.errors()[0]['msg']}); {_CURE}") from None
    if (found.study, found.spec.run_key) != (study, run_key):
        raise CheckFailed(f"{path} is the result of another trial; {_CURE}")
    return found


def iter_trials(store: Store, study: str) -> Iterator[TrialRecord]:
    """Every result of a study, ordered by number."""
    keys = [path.stem for path in (study_folder(store, study) / "trials").glob("*.json")]
    found = [record for key in keys if (record := read_trial(store, study, key))]
    yield from sorted(found, key=lambda record: record.number)


def _path(store: Store, study: str, run_key: str) -> Path:
    return study_folder(store, study) / "trials" / f"{run_key}.json"


def kept_value(spec: TrialSpec, history: Mapping[int, EpochValues], upto: int) -> float | None:
    """The validation selection metric of the weights kept after `upto` epochs: those of the best
    epoch, or of the last, as the recipe says."""
    key = f"val/{spec.selection_metric}"
    values = [
        each.values[key]
        for epoch, each in sorted(history.items())
        if epoch <= upto and key in each.values
    ]
    if not values:
        return None
    if spec.train.keep == "last":
        return values[-1]
    return max(values) if METRICS[spec.selection_metric].higher_is_better else min(values)
