"""Repair of studies after kills and damage: part of `bench doctor`."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from bench.core.disk import StorageFailed
from bench.core.errors import CheckFailed
from bench.core.locks import is_unused
from bench.core.repairs import Care, Finding
from bench.core.spec import SearchRange, TrialSpec
from bench.core.store import Store
from bench.records.studies import STUDY_FILE, read_study
from bench.sweep.opening import ID, IDENTITY, alone, folder_owner, is_attended
from bench.sweep.results import TrialRecord, iter_trials, kept_value, read_trial, studies_folder
from bench.sweep.space import direction, identity, nearest, search_space
from bench.sweep.storage import FILE, StudiesDamaged, open_storage, reading_studies
from bench.sweep.syncing import sync_trials
from bench.sweep.trials import distribution

_DATABASES, _STUDIES, _TRIALS = "damaged databases", "studies", "damaged results of trials"
_SNAPSHOTS = "damaged files of studies"
_CHECKPOINTS = "checkpoints of ended trials"
_PRUNED = re.compile(r"pruned after (\d+) of")
_LEFT = "left alone, another command is using it; stop that one and repeat"


def mend_trials(care: Care) -> Iterator[Finding]:
    """Results of trials and what a study found, if they cannot be read; checkpoints of trials that
    ended."""
    studies = _studies(care.store)
    ended: set[str] = set()
    idle = True
    for study in studies:
        with _unattended(care, study) as is_alone:
            idle &= is_alone
            for path in sorted((studies_folder(care.store) / study / "trials").glob("*.json")):
                try:
                    record = read_trial(care.store, study, path.stem)
                except CheckFailed:
                    if not is_alone:
                        yield care.leave(_TRIALS, care.name(path), _LEFT)
                        continue
                    yield care.settle(_TRIALS, care.name(path), "moved", care.set_aside, path)
                    continue
                if record is not None:
                    ended.add(record.spec.checkpoint_name)
            yield from _mend_snapshot(care, study, is_alone)
    # Two studies may train the same point, and then share its checkpoint.
    for name in sorted(ended) if idle else ():
        path = care.store.checkpoints / name
        if path.exists():
            yield care.settle(_CHECKPOINTS, care.name(path), "removed", path.unlink)


def _mend_snapshot(care: Care, study: str, is_alone: bool) -> Iterator[Finding]:
    """What a study found: damaged, it is put aside; the sweep writes it again if repeated."""
    path = studies_folder(care.store) / study / STUDY_FILE
    try:
        read_study(path, str(path))
    except CheckFailed:
        if is_alone:
            yield care.settle(_SNAPSHOTS, care.name(path), "moved", care.set_aside, path)
        else:
            yield care.leave(_SNAPSHOTS, care.name(path), _LEFT)


@contextlib.contextmanager
def _unattended(care: Care, study: str) -> Iterator[bool]:
    """Whether no command works on the study; with `fix`, none can begin meanwhile."""
    if not care.fix:
        yield not is_attended(care.store, study)
        return
    with alone(care.store, study) as is_alone:
        yield is_alone


def send_trials(care: Care) -> Iterator[Finding]:
    """Results of trials that MLflow lacks."""
    if care.fix and (told := sync_trials(care.store).told):
        yield care.settle("results that MLflow lacks", f"{told} trials", "sent", lambda: None)


def _studies(store: Store) -> list[str]:
    return sorted(path.name for path in studies_folder(store).glob("[!.]*/"))


def mend_studies(care: Care) -> Iterator[Finding]:
    """The workspace's file of studies: damaged, it is put aside and made again from the results."""
    database = care.store.mlruns / FILE
    try:
        why = _damage_of(care.store, database)
    except StorageFailed:
        if care.fix:
            raise
        why = _damage_of_copy(care.store)
    if not why:
        return
    with is_unused(database) as is_ours:
        if not is_ours:
            yield care.leave(_DATABASES, care.name(database), _LEFT)
            return
        files = [database, *database.parent.glob(f"{FILE}-*")]
        yield care.settle(
            _DATABASES, f"{care.name(database)} ({why})", "moved", lambda: care.set_aside(*files)
        )
        for study in _studies(care.store):
            yield from _rebuild(care, study)


def _damage_of(store: Store, database: Path) -> str:
    """Why the studies cannot be read, in a few words; "" if they can.

    Raises BadInput if the disk or another command is in the way.
    """
    if not database.exists() or not database.stat().st_size:
        return ""
    try:
        storage = open_storage(store)
        try:
            with reading_studies(storage):
                with storage.engine.connect() as connection:
                    (found,) = connection.exec_driver_sql("PRAGMA integrity_check(1)").one()
                for study in optuna.get_all_study_summaries(storage):
                    optuna.load_study(study_name=study.study_name, storage=storage).get_trials()
        finally:
            storage.engine.dispose()
    except StudiesDamaged as error:
        return error.why
    return "" if found == "ok" else str(found)


def _damage_of_copy(store: Store) -> str:
    """The same where nothing can be written, which opening the studies does."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Store(Path(folder))
        copy.mlruns.mkdir()
        for path in (store.mlruns / FILE, *store.mlruns.glob(f"{FILE}-*")):
            shutil.copyfile(path, copy.mlruns / path.name)
        return _damage_of(copy, copy.mlruns / FILE)


def _rebuild(care: Care, study: str) -> Iterator[Finding]:
    """A study from the results of its trials: they keep their numbers; others count as failed."""
    try:
        trials = list(iter_trials(care.store, study))
        base = next((trial.spec for trial in trials if trial.source == "default"), None)
    except CheckFailed as error:
        yield care.leave(_STUDIES, study, f"cannot be rebuilt: {error}")
        return
    if base is None:
        yield care.leave(
            _STUDIES,
            study,
            "cannot be rebuilt: there is no result of its default recipe on this disk, which says "
            "what it searches; it begins again",
        )
        return
    deed = f"rebuilt from {len(trials)} results; points that had no result are drawn again"
    yield care.settle(_STUDIES, study, deed, lambda: _write(care.store, study, base, trials))


def _write(store: Store, name: str, base: TrialSpec, records: Sequence[TrialRecord]) -> None:
    storage = open_storage(store)
    space = search_space(base.model)
    study = optuna.create_study(study_name=name, storage=storage, direction=direction(base))
    study.set_user_attr(IDENTITY, identity(base, space))
    if owner := folder_owner(store, name):
        study.set_user_attr(ID, owner)
    by_number = {record.number: record for record in records}
    for number in range(max(by_number) + 1):
        record = by_number.get(number)
        failed = create_trial(state=TrialState.FAIL)
        study.add_trial(failed if record is None else _trial(record, space))
    storage.engine.dispose()


def _trial(record: TrialRecord, space: Mapping[str, SearchRange]) -> FrozenTrial:
    """A trial as `StudyBook` left it in Optuna."""
    complete = record.outcome == "complete"
    history = {each.epoch: each for each in record.history}
    last = _PRUNED.match(record.message)
    judged = [epoch for epoch in history if last is None or epoch <= int(last[1])]
    values = {epoch: kept_value(record.spec, history, epoch) for epoch in judged}
    notes = {"source": record.source, "message": record.message}
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=record.value if complete else None,
        params=nearest(record.settings, space),
        distributions={key: distribution(kind) for key, kind in space.items()},
        intermediate_values={epoch: v for epoch, v in values.items() if v is not None},
        user_attrs={
            "outcome": record.outcome,
            "epochs": len(history),
            **{key: text for key, text in notes.items() if text},
        },
    )
