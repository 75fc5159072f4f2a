"""Opening a study: locks, its generation (--new-study begins another), and its identity."""

import contextlib
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudySummary
from optuna.trial import TrialState

from bench.core.errors import BadInput
from bench.core.locks import is_held, open_lock, try_lock
from bench.core.paths import regular
from bench.core.store import Store, write_atomically
from bench.sweep.plan import StudyPlan
from bench.sweep.results import has_trials, study_folder
from bench.sweep.space import differences, direction, identity
from bench.sweep.storage import existing_storage, reading_studies

IDENTITY, ID, SEARCH = "identity", "id", "search"
_LOCK = "head.lock"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@contextlib.contextmanager
def attend(store: Store, name: str) -> Iterator[None]:
    """Work on a study as one of its heads; the lock ends with the process.

    Raises BadInput while another command has exclusive access.
    """
    with _lock(store, name, shared=True) as is_ours:
        if not is_ours:
            raise BadInput(
                f"study {name} is being sent to MLflow by another command; wait for it, then "
                "repeat the command"
            )
        yield


@contextlib.contextmanager
def alone(store: Store, name: str) -> Iterator[bool]:
    """Whether no head on this store works on the study; none can start meanwhile."""
    with _lock(store, name, shared=False) as is_alone:
        yield is_alone


def is_attended(store: Store, name: str) -> bool:
    """Whether a command works on the study; writes nothing."""
    return is_held(study_folder(store, name) / _LOCK)


@contextlib.contextmanager
def _lock(store: Store, name: str, *, shared: bool) -> Iterator[bool]:
    with open_lock(study_folder(store, name) / _LOCK) as stream:
        yield try_lock(stream.fileno(), shared=shared)


def generation(plan: StudyPlan, storage: RDBStorage, store: Store) -> str:
    """The name of the study to work on in this storage: see `_newest`."""
    return _newest(plan, {study.study_name for study in storage.get_all_studies()}, store)


def _newest(plan: StudyPlan, names: Collection[str], store: Store) -> str:
    """The name of the study to work on: `quick.fc_ae.d8`, then `quick.fc_ae.d8.2`, ...

    The newest of `names`, or the next one with --new-study. The next one also skips folders on
    this store that hold trials of a study from another storage.
    """
    count = 0
    while _numbered(plan.name, count + 1) in names:
        count += 1
    if not plan.request.new_study:
        return _numbered(plan.name, max(count, 1))
    while has_trials(store, _numbered(plan.name, count + 1)):
        count += 1
    return _numbered(plan.name, count + 1)


def _numbered(name: str, count: int) -> str:
    return name if count == 1 else f"{name}.{count}"


def generation_number(plan: StudyPlan, name: str) -> int:
    """1 for the first study of a plan, 2 for the next one begun with --new-study, ..."""
    suffix = name.removeprefix(plan.name).removeprefix(".")
    return int(suffix) if suffix else 1


@dataclass(frozen=True)
class Before:
    """The state of a study before it resumes: its name with its generation, and its trials."""

    name: str
    finished: int = 0


def look_up(plans: Sequence[StudyPlan], store: Store) -> list[Before]:
    """The state of each plan's study; writes nothing.

    Raises BadInput naming the differences if a study was begun for something else.
    """
    storage = existing_storage(store, plans[0].request.storage)
    if storage is None:
        return [Before(_newest(plan, (), store)) for plan in plans]
    with reading_studies(storage):
        studies = {study.study_name: study for study in optuna.get_all_study_summaries(storage)}
        return [_before(plan, studies, storage, store) for plan in plans]


def _before(
    plan: StudyPlan, studies: Mapping[str, StudySummary], storage: RDBStorage, store: Store
) -> Before:
    name = _newest(plan, studies, store)
    if name not in studies:
        return Before(name)
    summary = studies[name]
    if (stored := summary.user_attrs.get(IDENTITY)) is not None:
        _refuse_differences(plan, name, stored, summary.direction.name.lower())
    trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    return Before(name, sum(trial.state in FINISHED for trial in trials))


def occupy_folder(store: Store, study: optuna.Study) -> str:
    """The identifier of a study, which now owns its folder on this store.

    Raises BadInput if the folder holds the trials of another study of the same name, from another
    --storage or a deleted database.
    """
    if ID not in study.user_attrs:
        study.set_user_attr(ID, uuid.uuid4().hex[:16])
    own = str(study.user_attrs[ID])
    path = study_folder(store, study.study_name) / "study.id"
    there = folder_owner(store, study.study_name)
    if there not in ("", own) and has_trials(store, study.study_name):
        raise BadInput(
            f"{path.parent} holds the trials of another study {study.study_name}, from another "
            "--storage or a database that is gone; give its --storage, move the folder away, or "
            "begin another study with --new-study"
        )
    if there != own:
        write_atomically(path, own.encode())
    return own


def folder_owner(store: Store, study: str) -> str:
    """The identifier of the study whose trials a folder holds; "" if there is none."""
    path = study_folder(store, study) / "study.id"
    return path.read_text(errors="replace").strip() if regular(path).exists() else ""


def open_study(plan: StudyPlan, name: str, storage: RDBStorage) -> optuna.Study:
    """The study of that name, created if missing.

    Raises BadInput naming the differences if it was begun for something else: trials of different
    protocols, data, revisions or ranges must not be compared.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, direction=direction(plan.base), load_if_exists=True
    )
    # Optuna silently ignores a changed direction.
    stored = study.user_attrs.get(IDENTITY)
    actual = study.direction.name.lower()
    if stored is None and not study.get_trials(deepcopy=False) and actual == direction(plan.base):
        study.set_user_attr(IDENTITY, identity(plan.base, plan.space))
        study.set_user_attr(SEARCH, _search(plan))
        return study
    if stored is None:
        raise BadInput(
            f"there is a study {name} that bench did not make; begin another one with --new-study"
        )
    _refuse_differences(plan, name, stored, actual)
    return study


def _search(plan: StudyPlan) -> dict[str, str]:
    return {"sampler": plan.request.sampler, "pruner": plan.request.pruner}


def changed_search(plan: StudyPlan, study: optuna.Study) -> list[str]:
    """One line for each part of the search that differs from how the study began. Its trials
    remain comparable, so this is reported but allowed."""
    begun = study.user_attrs.get(SEARCH, {})
    return [
        f"the {part} is {now} from here on; the study was begun with {begun[part]}"
        for part, now in _search(plan).items()
        if begun.get(part, now) != now
    ]


def _refuse_differences(plan: StudyPlan, name: str, stored: Mapping[str, str], actual: str) -> None:
    found = differences({**stored, "direction": actual}, identity(plan.base, plan.space))
    if found:
        raise BadInput(
            f"study {name} was begun for something else: {'; '.join(found)}; continue with the "
            "original settings, or begin another one with --new-study"
        )
