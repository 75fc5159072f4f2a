"""Opening a study: who may work on it, which one of several generations, is it the same one."""

import contextlib
import os
from collections.abc import Iterator

import optuna
from optuna.storages import RDBStorage

from bench.errors import BadInput
from bench.store import Store
from bench.sweep.plan import StudyPlan
from bench.sweep.results import study_folder
from bench.sweep.space import differences, direction, identity
from bench.tracking.writing import owner

IDENTITY = "identity"


@contextlib.contextmanager
def claim(store: Store, name: str) -> Iterator[None]:
    """Be the only head of a study on this store; the system gives it back when we die.

    Raises BadInput naming the head that works on it now.
    """
    folder = study_folder(store, name)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "head.lock"
    with path.open("a+") as stream:
        if not _locked(stream.fileno()):
            stream.seek(0)
            host, _, rest = stream.read().strip().partition(":")
            raise BadInput(
                f"study {name} is being worked on by process {rest.partition(':')[0]} on {host}; "
                "wait for it or stop it, then repeat the command"
            )
        stream.seek(0)
        stream.truncate()
        stream.write(owner())
        stream.flush()
        yield


def _locked(handle: int) -> bool:
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
