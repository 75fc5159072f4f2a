"""Logging to MLflow: the only package that imports mlflow (besides the model file that it serves).

Used by the head process only. Training never waits for tracking: time-outs are short, a failure is
reported once, and `bench sync` later sends MLflow what it missed, from the records on disk.

| file         | content                                                          | mlflow |
|--------------|------------------------------------------------------------------|--------|
| address.py   | the store's address, and whether it answers                      | no     |
| database.py  | the local SQLite file: made once, probed, moved with its folder  | yes    |
| content.py   | content of a run: parameters, tags, metrics, description         | no     |
| serving.py   | the model file that MLflow serves                                | yes    |
| views.py     | the saved views and deep links into the web interface            | no     |
| server.py    | MLflow's web interface on this machine, stopped with its workers | yes    |
| model_server.py | a champion behind MLflow's model server                       | yes    |
| pictures.py  | figures and image grids as files of a run                        | yes    |
| writing.py   | one run: created or found again, written, ended                  | yes    |
| experiment.py| the experiment of a protocol: found or created                   | yes    |
| models.py    | the servable model of a cell                                     | yes    |
| versions.py  | versions and aliases in MLflow's Model Registry                  | yes    |
| contract.py  | the tracker as its callers see it, and the null tracker          | no     |
| opening.py   | MLflow's tracker, or the null tracker if BENCH_TRACKING is off   | no     |
| tracker.py   | MLflow's tracker: buffers, and what to do if it does not answer  | yes    |
| studies.py   | the same for a study and its trials                              | yes    |
| mending.py   | repair after kills and moved folders                             | yes    |
"""

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

from bench.tracking.contract import (
    Began,
    Ended,
    Epoch,
    Progress,
    StudyCard,
    StudyTracker,
    SyncReport,
    Tracker,
    WorkOver,
)
from bench.tracking.opening import (
    open_study_tracker,
    open_tracker,
    require_tracking,
    tracking_is_off,
)

if TYPE_CHECKING:
    from bench.tracking.versions import clear_alias, register_version

__all__ = [
    "Began",
    "Ended",
    "Epoch",
    "Progress",
    "StudyCard",
    "StudyTracker",
    "SyncReport",
    "Tracker",
    "WorkOver",
    "clear_alias",
    "open_study_tracker",
    "open_tracker",
    "register_version",
    "require_tracking",
    "tracking_is_off",
]


def __getattr__(name: str) -> Any:
    """Import late: with tracking off nothing imports mlflow."""
    if name not in ("clear_alias", "register_version"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module("bench.tracking.versions"), name)


# Read by MLflow on import; values set by the user are kept. With MLflow's own defaults
# (7 retries, 120 s) a dead server would block one call for four minutes.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    # Recording git's state would start git for every run; the record has it already.
    "GIT_PYTHON_REFRESH": "quiet",
}

for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
# It logs the traceback of each failure of a database, of which commands say one line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
