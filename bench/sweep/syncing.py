"""Sending MLflow the trials on disk that it lacks, without opening the studies."""

from collections.abc import Sequence

from bench.core.store import Store
from bench.models.zoo import MODELS
from bench.records.documents import definition_of
from bench.sweep.opening import alone, folder_owner
from bench.sweep.results import TrialRecord, iter_trials
from bench.sweep.space import describe_range
from bench.tracking import StudyCard, SyncReport, open_study_tracker


def sync_trials(store: Store, protocol: str = "") -> SyncReport:
    """Send the trials (of one protocol, if named) that MLflow lacks; nothing is sent twice.

    Skips a study that a command is working on. Raises as `open_tracker` does.
    """
    total = SyncReport(0, 0, 0)
    for study in sorted(path.name for path in (store.mlruns / "studies").glob("*/")):
        trials = list(iter_trials(store, study))
        if not trials or protocol not in ("", trials[0].spec.protocol):
            continue
        with alone(store, study) as free:
            total += _sync(store, study, trials) if free else SyncReport(len(trials), 0, 0)
    return total


def _sync(store: Store, study: str, trials: Sequence[TrialRecord]) -> SyncReport:
    base = trials[0].spec
    ranges = MODELS[base.model].search if base.model in MODELS else {}
    space = {key: describe_range(kind) for key, kind in ranges.items()}
    card = StudyCard(study, folder_owner(store, study), base, space, {})
    tracker = open_study_tracker(
        store, base.definition or definition_of(base), base.dataset_label, card
    )
    report = SyncReport.of(tracker.tell(trial) for trial in trials)
    if report.told:
        tracker.study_ended({}, {}, "finished")
    tracker.close()
    return report
