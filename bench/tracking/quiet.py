"""Environment for MLflow, set before its import; values set by the user are kept.

With MLflow's defaults (7 retries, 120 s) a dead server would block one call for four minutes.
"""

import os

DEFAULTS = {
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

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
