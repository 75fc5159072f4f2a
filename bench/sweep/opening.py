"""Opening a study: who may work on it, which one of several generations, is it the same one."""

import contextlib
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from bench.core.errors import BadInput
from bench.core.locks import try_lock
from bench.core.store import Store, write_atomically
from bench.sweep.plan import StudyPlan
from bench.sweep.results import has_trials, study_folder
from bench.sweep.space import differences, direction, identity
from bench.sweep.storage import existing_storage

IDENTITY, ID, SEARCH = "identity", "id", "search"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@contextlib.contextmanager
def attend(store: Store, name: str) -> Iterator[None]:
    """Be one of the heads of a study on this store; the system forgets us when we die.

    Raises BadInput where somebody else must be alone with it now.
    """
    with _lock(store, name, shared=True) as is_ours:
        if not is_ours:
            raise BadInput(
                f"study {name} is being told to MLflow by another command; wait for it, then "
                "repeat the command"
            )
        yield


@contextlib.contextmanager
def alone(store: Store, name: str) -> Iterator[bool]:
    """Whether no head works on a study on this store; none can begin meanwhile."""
    with _lock(store, name, shared=False) as is_alone:
        yield is_alone


@contextlib.contextmanager
def _lock(store: Store, name: str, *, shared: bool) -> Iterator[bool]:
    folder = study_folder(store, name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "head.lock").open("a+") as stream:
        yield try_lock(stream.fileno(), shared=shared)


def generation(plan: StudyPlan, storage: RDBStorage, store: Store) -> str:
    """The name of the study to work on, of all in a storage: see `_newest`."""
    return _newest(plan, {study.study_name for study in storage.get_all_studies()}, store)


def _newest(plan: StudyPlan, names: Collection[str], store: Store) -> str:
    """The name of the study to work on: `quick.fc_ae.d8`, then `quick.fc_ae.d8.2`, ...

    The newest there is among `names`, or one more with --new-study: also past a folder on this
    store that keeps the trials of a study from elsewhere.
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
    """1 for the first study of a plan, 2 for the one that --new-study began after it, ..."""
    suffix = name.removeprefix(plan.name).removeprefix(".")
    return int(suffix) if suffix else 1


@dataclass(frozen=True)
class Before:
    """What there is of a study before it goes on: its name with its generation, and trials."""

    name: str
    finished: int = 0


def look_up(plans: Sequence[StudyPlan], store: Store) -> list[Before]:
    """How the study of each plan stands. Nothing is written.

    Raises BadInput naming what differs where one was begun for something else.
    """
    storage = existing_storage(store, plans[0].request.storage)
    if storage is None:
        return [Before(_newest(plan, (), store)) for plan in plans]
    studies = {study.study_name: study for study in optuna.get_all_study_summaries(storage)}
    found = []
    for plan in plans:
        name = _newest(plan, studies, store)
        if name not in studies:
            found.append(Before(name))
            continue
        summary = studies[name]
        if (stored := summary.user_attrs.get(IDENTITY)) is not None:
            _refuse_differences(plan, name, stored, summary.direction.name.lower())
        trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        found.append(Before(name, sum(trial.state in FINISHED for trial in trials)))
    return found


def occupy_folder(store: Store, study: optuna.Study) -> str:
    """The identifier of a study; from now on its folder on this store belongs to it.

    Raises BadInput where the folder keeps the trials of another study of the same name, which
    lives in another --storage, or lived in a data base that is gone.
    """
    if ID not in study.user_attrs:
        study.set_user_attr(ID, uuid.uuid4().hex[:16])
    own = str(study.user_attrs[ID])
    path = study_folder(store, study.study_name) / "study.id"
    there = folder_owner(store, study.study_name)
    if there not in ("", own) and has_trials(store, study.study_name):
        raise BadInput(
            f"{path.parent} keeps the trials of another study {study.study_name}, from another "
            "--storage or a data base that is gone; give its --storage, move the folder away, or "
            "begin another study with --new-study"
        )
    if there != own:
        write_atomically(path, own.encode())
    return own


def folder_owner(store: Store, study: str) -> str:
    """The identifier of the study whose trials a folder keeps; "" for none."""
    path = study_folder(store, study) / "study.id"
    return path.read_text().strip() if path.exists() else ""


def open_study(plan: StudyPlan, name: str, storage: RDBStorage) -> optuna.Study:
    """The study of that name, made if it is not there.

    Raises BadInput naming what differs when it was begun for something else: trials of different
    protocols, data, revisions or ranges must not be compared.
    """
    study = optuna.create_study(
        study_name=name, storage=storage, direction=direction(plan.base), load_if_exists=True
    )
    # Optuna ignores another direction silently.
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
    """A line for each part of the search that goes on otherwise than it began. Trials compare all
    the same, so it is said and not refused."""
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
            f"study {name} was begun for something else: {'; '.join(found)}; go on under what it "
            "was begun with, or begin another one with --new-study"
        )
