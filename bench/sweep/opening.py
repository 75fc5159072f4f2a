"""Opening a study: who may work on it, which one of several generations, is it the same one."""

import contextlib
from collections.abc import Iterator

import optuna
from optuna.storages import RDBStorage

from bench.errors import BadInput
from bench.sharing import locked
from bench.store import Store
from bench.sweep.plan import StudyPlan
from bench.sweep.results import study_folder
from bench.sweep.space import differences, direction, identity

IDENTITY = "identity"


@contextlib.contextmanager
def attend(store: Store, name: str) -> Iterator[None]:
    """Be one of the heads of a study on this store; the system forgets us when we die.

    Raises BadInput where somebody else must be alone with it now.
    """
    with _lock(store, name, shared=True) as locked:
        if not locked:
            raise BadInput(
                f"study {name} is being told to MLflow by another command; wait for it, then "
                "repeat the command"
            )
        yield


@contextlib.contextmanager
def alone(store: Store, name: str) -> Iterator[bool]:
    """Whether no head works on a study on this store; none can begin meanwhile."""
    with _lock(store, name, shared=False) as locked:
        yield locked


@contextlib.contextmanager
def _lock(store: Store, name: str, *, shared: bool) -> Iterator[bool]:
    folder = study_folder(store, name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "head.lock").open("a+") as stream:
        yield locked(stream.fileno(), shared=shared)


def generation(plan: StudyPlan, storage: RDBStorage) -> str:
    """The name of the study to work on: `quick.fc_ae.d8`, then `quick.fc_ae.d8.2`, ...

    The newest there is, or one more with --new-study.
    """
    names = {study.study_name for study in storage.get_all_studies()}
    count = 0
    while _numbered(plan.name, count + 1) in names:
        count += 1
    new = plan.request.new_study or count == 0
    return _numbered(plan.name, count + 1 if new else count)


def _numbered(name: str, count: int) -> str:
    return name if count == 1 else f"{name}.{count}"


def open_study(plan: StudyPlan, name: str, storage: RDBStorage) -> optuna.Study:
    """The study of that name, made if it is not there.

    Raises BadInput naming what differs when it was begun for something else: trials of different
    protocols, data, revisions or ranges must not be compared.
    """
    wanted = identity(plan.base, plan.space)
    study = optuna.create_study(
        study_name=name, storage=storage, direction=direction(plan.base), load_if_exists=True
    )
    # Optuna ignores another direction silently.
    stored = study.user_attrs.get(IDENTITY)
    actual = study.direction.name.lower()
    if stored is None and not study.get_trials(deepcopy=False) and actual == direction(plan.base):
        study.set_user_attr(IDENTITY, wanted)
        return study
    if stored is None:
        raise BadInput(
            f"there is a study {name} that bench did not make; begin another one with --new-study"
        )
    found = differences({**stored, "direction": actual}, wanted)
    if found:
        raise BadInput(
            f"study {name} was begun for something else: {'; '.join(found)}; go on under what it "
            "was begun with, or begin another one with --new-study"
        )
    return study
