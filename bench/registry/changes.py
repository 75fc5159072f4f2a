"""Changes of `registry/` and of the README's table: one command at a time, all of a change or none.

Every writer holds one lock while it decides, writes and renders, so no decision rests on a table
that another command is changing. It works on a copy (hard links) in `mlruns/registry.change/`, on
the same file system; nothing temporary is ever in a committed folder. Only the renames at the end
touch `registry/`. What a kill leaves is decided by names alone:

| in `mlruns/registry.change/` | state                                 | the next writer or doctor |
|------------------------------|---------------------------------------|---------------------------|
| `building/`                  | not decided; `registry/` is untouched | removes it                |
| `decided/`                   | decided; some parts may be in place   | puts the rest in place    |
| `replaced/`                  | the folders that gave way             | removes it afterwards     |

Readers of several files hold a second lock with each other (`unchanged`), which a writer takes
alone only for the renames: so they see the state before or after, and wait for milliseconds.

The rename of `building/` to `decided/` is the commit. `decided/` holds only what changes; a part
leaves it in the same rename that puts it in place, so repeating the last step is always right, and
the tables, cards and pages that belong together are all of the same change in the end.
"""

import contextlib
import dataclasses
import filecmp
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.core.errors import BadInput
from bench.core.locks import is_held, locked, locked_with_others, open_lock
from bench.core.repairs import Care, Finding
from bench.core.store import Store, child, is_temporary, sync_folder, writing_to

FRONT = "README.md"
_REGISTRY = "registry"
_BUILDING, _DECIDED, _REPLACED = "building", "decided", "replaced"
_ASIDE, _NEW = ".aside-", ".new-"


@contextlib.contextmanager
def one_writer(store: Store) -> Iterator[None]:
    """Wait until no other command writes the registry; then finish what a kill interrupted.

    Not reentrant. Raises BadInput if the lock or the registry cannot be written.
    """
    with contextlib.ExitStack() as held:
        with writing_to("the registry"):
            held.enter_context(locked(_lock(store)))
            open_lock(_parts_lock(store)).close()  # readers do not make it
            _finish(store)
        yield


def mend_registry(store: Store) -> int:
    """Finish or discard an interrupted change, remove leftovers; returns how many there were.

    Waits for a command that is writing.
    """
    if not (_place(store).exists() or _leftovers(store)):
        return 0
    with one_writer(store):
        pass
    return 1


def mend_changes(care: Care) -> Iterator[Finding]:
    """An interrupted change, and leftovers; a command that is changing the registry goes on."""
    store, kind = care.store, "interrupted changes of the registry"
    place = _place(store)
    found = [place] if place.exists() else _leftovers(store)
    if found and not is_held(_lock(store)):
        deed = "finished" if (place / _DECIDED).exists() else "discarded"
        names = ", ".join(map(care.name, found))
        yield care.settle(kind, names, deed, mend_registry, store)


def _lock(store: Store) -> Path:
    return store.locks / "registry.lock"


@contextlib.contextmanager
def changing(store: Store) -> Iterator[Store]:
    """A store whose `registry/` and README.md are a copy, put in place if the block ends well.

    Needs `one_writer`. Files and folders (of a champion, of a data set's scores) whose bytes stay
    the same are not touched.
    If the block raises, nothing changes. Raises BadInput if something cannot be written.
    """
    place = _place(store)
    building = place / _BUILDING
    with writing_to("the registry"):
        try:
            _copy(store, building)
            yield dataclasses.replace(store, staging=building)
            for part in list(_parts(building)):
                if _is_same(part, store.root / part.relative_to(building)):
                    _remove(part)
            _sync(building)
            building.rename(place / _DECIDED)
        except BaseException:
            if not (place / _DECIDED).exists():
                shutil.rmtree(place, ignore_errors=True)
            raise
        sync_folder(place)
        _finish(store)


@contextlib.contextmanager
def unchanged(store: Store) -> Iterator[None]:
    """While the block reads, no other command puts a change in place. Keep it short."""
    with locked_with_others(_parts_lock(store)):
        yield


def remove_folder(store: Store, name: str) -> None:
    """Remove a folder of `registry/` in one rename. Needs `one_writer`."""
    with writing_to("the registry"):
        away = _place(store) / _REPLACED / _REGISTRY
        away.mkdir(parents=True)
        child(store.registry, name).rename(away / name)
        sync_folder(store.registry)
        _finish(store)


def _parts_lock(store: Store) -> Path:
    return store.locks / "registry.parts.lock"


def _place(store: Store) -> Path:
    return store.mlruns / "registry.change"


def _copy(store: Store, building: Path) -> None:
    registry = store.root / _REGISTRY
    building.mkdir(parents=True)
    places = [building, store.root, *([registry] if registry.exists() else [])]
    if len({place.stat().st_dev for place in places}) > 1:
        raise BadInput(
            f"{registry} and {store.mlruns} are on different file systems, so a change cannot be "
            "put in place at once; move them to one"
        )
    if registry.exists():
        shutil.copytree(registry, building / _REGISTRY, symlinks=True, copy_function=_link)
    else:
        (building / _REGISTRY).mkdir()
    if (store.root / FRONT).exists():
        _link(store.root / FRONT, building / FRONT)


def _link(source: Path | str, target: Path | str) -> None:
    """A hard link: files are replaced, never changed in place. Some file systems have none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _parts(root: Path) -> Iterator[Path]:
    """What is put in place at once: README.md, files, and folders of a champion or of a data set's
    scores."""
    if (root / FRONT).exists():
        yield root / FRONT
    for path in sorted((root / _REGISTRY).glob("*")):
        if path.is_dir() and not path.is_symlink():
            yield from sorted(path.iterdir())
        else:
            yield path


def _is_same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.is_dir():
        names = {path.name for path in one.iterdir()}
        return (
            other.is_dir()
            and names == {path.name for path in other.iterdir()}
            and all(_is_same(one / name, other / name) for name in names)
        )
    return other.is_file() and (one.samefile(other) or filecmp.cmp(one, other, shallow=False))


def _sync(building: Path) -> None:
    for folder, _, _ in os.walk(building):
        sync_folder(Path(folder))


def _finish(store: Store) -> None:
    """Put the parts of a decided change in place; remove everything temporary."""
    place = _place(store)
    if (place / _DECIDED).exists():
        with locked(_parts_lock(store)):
            for part in list(_parts(place / _DECIDED)):
                relative = part.relative_to(place / _DECIDED)
                _put_in_place(part, store.root / relative, place / _REPLACED / relative)
    if place.exists():
        # First what says that there is something to do, so that a kill in between costs nothing.
        shutil.rmtree(place / _DECIDED, ignore_errors=True)
        shutil.rmtree(place)
    for path in _leftovers(store):
        final = path.with_name(path.name.removeprefix(_ASIDE))
        if path.name.startswith(_ASIDE) and not final.exists():
            path.rename(final)
        else:
            _remove(path)


def _put_in_place(part: Path, final: Path, replaced: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    if part.is_dir() and final.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        replaced.parent.mkdir(parents=True, exist_ok=True)
        final.rename(replaced)
    try:
        part.replace(final)
    except OSError:
        # Readers go on with the old folder; the change stays decided.
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        raise
    sync_folder(final.parent)


def _leftovers(store: Store) -> list[Path]:
    """Temporary names that a killed command of an earlier version left in committed folders."""
    registry = store.root / _REGISTRY
    found = [path for path in registry.rglob(".*") if _is_temporary(path.name)]
    return found + [path for path in store.root.glob(f".{FRONT}.*") if _is_temporary(path.name)]


def _is_temporary(name: str) -> bool:
    return name.startswith((_ASIDE, _NEW)) or is_temporary(name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
