"""Opening a tracker: MLflow's, or with `BENCH_TRACKING=off` the null tracker, without mlflow."""

import contextlib
import os

from bench.core.errors import BadInput
from bench.core.protocol import Protocol
from bench.core.store import Store
from bench.tracking.contract import Mutex, NullTracker, StudyCard, StudyTracker, Tracker

_SWITCH = "BENCH_TRACKING"


def tracking_is_off() -> bool:
    """Whether `BENCH_TRACKING` is off. Raises BadInput if it is neither on, off nor empty."""
    given = os.environ.get(_SWITCH, "")
    if given not in ("", "on", "off"):
        raise BadInput(
            f"{_SWITCH} is '{given}'; expected on, or off to keep results on disk without MLflow "
            "until `bench sync`"
        )
    return given == "off"


def require_tracking(command: str) -> None:
    """Raise BadInput if tracking is off, for a command that needs MLflow."""
    if tracking_is_off():
        raise BadInput(
            f"`{command}` needs MLflow, and tracking is off ({_SWITCH}=off); turn it on with: "
            f"unset {_SWITCH}"
        )


def open_tracker(store: Store, protocol: Protocol, dataset_label: str) -> Tracker:
    """A tracker for the runs of a protocol on one data set.

    `MLFLOW_TRACKING_URI` wins over `mlruns/mlflow.db`. Raises BadInput at once if the local
    store cannot be written or read. A server that does not answer is not an error: results stay on
    disk and `bench sync` sends them later.
    """
    if tracking_is_off():
        return NullTracker()
    from bench.tracking.database import prepared_address
    from bench.tracking.experiment import plan_for_protocol
    from bench.tracking.tracker import RunTracker

    return RunTracker(store, plan_for_protocol(protocol, dataset_label), prepared_address(store))


def open_study_tracker(
    store: Store,
    protocol: Protocol,
    dataset_label: str,
    card: StudyCard,
    mutex: Mutex = contextlib.nullcontext,
) -> StudyTracker:
    """A tracker for one study, beside the experiment of its protocol; raises as `open_tracker`.

    `mutex` guards finding or creating the parent run, which all heads of the study share.
    """
    if tracking_is_off():
        return NullTracker()
    from bench.tracking.studies import MLflowStudy, plan_beside

    return MLflowStudy(store, plan_beside(protocol, dataset_label), card, mutex)
