"""Small workspaces with real runs, made once and copied for each try, and what two have in common.

The images are 264 of the bundled ones, so that a run takes less than a tenth of a second.
"""

import contextlib
import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.store import Store

from . import forked
from .ground import Ground

FRONT = "# Title\n\n<!-- leaderboard:begin -->\n<!-- leaderboard:end -->\n\nThe end.\n"
PROTOCOL = """\
name = "few"
description = "a few steps on a few of the bundled images"
dataset = "npz:few.npz"
models = ["mean_image", "pca", "fc_ae"]
latent_dims = [4]
seeds = [0, 1, 2]

[split]
kind = "pooled"
validation = 40
test = 40

[train]
epochs = 3
batch_size = 64
lr = 3e-3
"""
EXPECTED = """
[[expected]]
model = "fc_ae"
latent_dim = 4
metric = "mse"
value = 0.1
tolerance = 0.9
definition = "mean over the test images"
"""
ORIGIN = {'"few"': '"origin"', '"mean_image", "pca", "fc_ae"': '"fc_ae"', "[0, 1, 2]": "[0, 1]"}
"""Both turn the protocol into one of an origin, for `bench reproduce`."""
_TEMPORARY = re.compile(r"\.new-|\.aside-|\..+\.[a-z0-9_]{8}\Z")
LIGHT = {"BENCH_TRACKING": "off"}
LIVE = {"MLFLOW_TRACKING_URI": ""}
"""MLflow's store is the workspace's own file."""


@dataclass(frozen=True)
class Templates:
    """The folders: nothing run, all run, tables and champions written, a better row than the
    champion's in the records, in the tables, and promoted, and a study searched to its end."""

    empty: Path
    ran: Path
    promoted: Path
    grown: Path
    challenged: Path
    replaced: Path
    searched: Path

    @property
    def track(self) -> str:
        """The one track of these workspaces, as the registry's commands name it."""
        (card,) = self.promoted.glob("registry/*/*/card.json")
        return f"{card.parent.parent.name}.{card.parent.name}"


RUN = ("run", "-p", "few.toml", "--workers", "1")
SWEEP = ("sweep", "-p", "few.toml", "-m", "fc_ae", "--trials", "2", "--workers", "1")
WRITE = ("leaderboard", "--write")
PROMOTE = ("promote",)
REPRODUCE = ("reproduce", "--workers", "1")
DOCTOR = ("doctor", "--fix")
SYNC = ("sync",)


def make_templates(place: Path) -> Templates:
    """Run what the templates hold, below `place`, or use those that are there already."""
    place = place.resolve()
    made, whole = Templates(*(place / name for name in Templates.__annotations__)), place / "made"
    if whole.exists():
        return made
    place.mkdir(parents=True, exist_ok=True)
    _make_empty(made.empty)
    _rehearse(made.empty)
    _do(made.empty, RUN, then=SWEEP)
    costs = (made.empty / "mlruns/costs.json").read_bytes()
    shutil.rmtree(made.empty / "mlruns")
    Store(made.empty).prepare()
    (made.empty / "mlruns/costs.json").write_bytes(costs)
    _derive(made.empty, made.ran, RUN)
    _derive(made.ran, made.promoted, WRITE, PROMOTE)
    _derive(made.ran, made.searched, SWEEP)
    shutil.copytree(made.ran, made.grown)
    with _aside(made.grown, "pca", "mean_image"):
        _do(made.grown, WRITE, then=PROMOTE)
    _derive(made.grown, made.challenged, WRITE)
    _derive(made.challenged, made.replaced, PROMOTE)
    whole.touch()
    return made


def _make_empty(root: Path) -> None:
    from bench.data import load_set

    parts = load_set("fashion_mnist_mini").parts
    root.mkdir()
    train, test = parts["train"], parts["test"]
    np.savez(
        root / "few.npz",
        x_train=train.images[:200, 0],
        y_train=train.labels[:200],
        x_test=test.images[:64, 0],
        y_test=test.labels[:64],
    )
    (root / "few.toml").write_text(PROTOCOL)
    origin = PROTOCOL
    for here, there in ORIGIN.items():
        assert here in origin
        origin = origin.replace(here, there, 1)
    (root / "origin.toml").write_text(origin + EXPECTED)
    (root / "README.md").write_text(FRONT)


def _rehearse(root: Path) -> None:
    """Train in this process, so that those forked from it have imported all that this imports."""
    from bench.benchmark.plan import Request, plan
    from bench.core.protocol import load_protocol
    from bench.execution.decoding import end_decoder
    from bench.execution.runner import execute, ignore_epochs
    from bench.figures import draw_files
    from bench.records.files import read_arrays
    from bench.sweep.storage import open_storage

    store = Store(root).prepare()
    with contextlib.chdir(root):
        for spec in plan(Request(load_protocol("few.toml"), device="cpu"), store).missing[-1:]:
            record = execute(spec, store, ignore_epochs)
            draw_files(record, read_arrays(store.records, record))
    end_decoder()  # each process that is forked starts its own
    open_storage(store).engine.dispose()
    shutil.rmtree(root / "mlruns")


def _derive(source: Path, target: Path, *commands: tuple[str, ...]) -> None:
    shutil.copytree(source, target)
    for arguments in commands:
        _do(target, arguments)


def _do(root: Path, arguments: tuple[str, ...], then: tuple[str, ...] = ()) -> None:
    for one in filter(None, (arguments, then)):
        said = forked.bench(root, *one, **LIGHT)
        if said.code != 0:
            raise RuntimeError(f"bench {' '.join(one)} failed: {said.text}")


@contextlib.contextmanager
def _aside(root: Path, *models: str) -> Iterator[None]:
    """Without the records of these variants."""
    records, aside = Store(root).records, root / "aside"
    aside.mkdir()
    for folder in list(records.iterdir()):
        if json.loads((folder / "record.json").read_bytes())["spec"]["model"] in models:
            folder.rename(aside / folder.name)
    yield
    for folder in list(aside.iterdir()):
        folder.rename(records / folder.name)
    aside.rmdir()


State = Mapping[str, Any]
"""Everything in a workspace that a fault must not change, by a name."""


def state_of(store: Store) -> State:
    """Records, studies and committed files, without times; CheckFailed for a damaged record."""
    return {**records_of(store), **studies_of(store), **committed_of(store)}


def records_of(store: Store) -> State:
    """What was trained and scored, and the boards that show it."""
    from bench.records.files import iter_records, read_arrays, read_weights

    found: dict[str, Any] = {}
    tuned: dict[str, list[int]] = {}
    for record in iter_records(store.records):
        read_weights(store.records, record)
        read_arrays(store.records, record)
        if record.spec.recipe != "default":
            tuned.setdefault(record.spec.recipe, []).append(record.spec.seed)
            continue
        found[f"record {record.run_key} on {record.spec.board}"] = (
            record.status,
            record.spec.recipe,
            record.evaluation_digest,
            {part: dict(scores) for part, scores in record.scores.items()},
            [dict(values.values) for values in record.history],
            record.weights_sha256,
        )
    # A search that was interrupted goes on from what it knows, and may find another winner.
    incomplete = [name for name, seeds in tuned.items() if sorted(seeds) != [0, 1, 2]]
    return {**found, "recipes without all of their seeds": incomplete}


def studies_of(store: Store) -> State:
    """How many trials of each study count, whether none does twice, and what Optuna says."""
    from bench.sweep.results import iter_trials, studies_folder

    found: dict[str, Any] = {}
    for folder in sorted(studies_folder(store).glob("*")):
        trials = list(iter_trials(store, folder.name))
        keys = {trial.spec.run_key for trial in trials}
        numbers = {trial.number for trial in trials}
        found[f"study {folder.name}"] = (
            len(trials),
            len(keys) == len(numbers) == len(trials),
            [trial.source for trial in trials].count("default"),
            (folder / "winner.toml").exists(),
        )
    database = store.mlruns / "optuna.db"
    if database.exists():
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
            rows = opened.execute("select state, count(*) from trials group by state").fetchall()
        ended = sum(count for state, count in rows if state in ("COMPLETE", "PRUNED"))
        found["trials in Optuna"] = (ended, [state for state, _ in rows if state == "RUNNING"])
    return found


def committed_of(store: Store) -> State:
    """The bytes of `registry/` and of the README."""
    paths = [path for path in store.registry.rglob("*") if path.is_file()]
    front = store.root / "README.md"
    return {
        f"file {path.relative_to(store.root)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*paths, *([front] if front.exists() else [])]
    }


def look_at_mlflow(ground: Ground, store: Store) -> None:
    """After `bench sync`, MLflow has every record once, and no run is left open."""
    from bench.records.files import iter_records
    from bench.tracking.content import KEY, PROTOCOL

    ground.heed(forked.bench(store.root, *SYNC, **LIVE), "sync")
    query = """
        select key.value, protocol.value, runs.experiment_id, runs.status, count(*) from runs
        join tags key on key.run_uuid = runs.run_uuid and key.key = ?
        join tags protocol on protocol.run_uuid = runs.run_uuid and protocol.key = ?
        where runs.lifecycle_stage = 'active' group by 1, 2, 3, 4
    """
    database = f"file:{store.mlruns / 'mlflow.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(database, uri=True)) as opened:
        rows = opened.execute(query, (KEY, PROTOCOL)).fetchall()
    told = {(key, protocol) for key, protocol, *_ in rows}
    lacking = {(each.run_key, each.spec.protocol) for each in iter_records(store.records)} - told
    if lacking:
        ground.fault("lost", f"MLflow lacks {len(lacking)} runs after sync: {sorted(lacking)[:3]}")
    for key, protocol, _, status, count in rows:
        if count > 1:
            ground.fault("mixed", f"MLflow has {count} runs of {key} on {protocol}")
        if status == "RUNNING":
            ground.fault("left behind", f"the run of {key} on {protocol} is open in MLflow")


def compare(ground: Ground, wanted: State, found: State, what: str) -> None:
    """Note what is missing and what differs."""
    missing = sorted(wanted.keys() - found.keys())
    other = sorted(key for key in found if key not in wanted or wanted[key] != found[key])
    if missing:
        ground.fault("lost", f"{what}: {len(missing)} missing: {'; '.join(missing[:3])}")
    for key in other[:2]:
        ground.fault("mixed", f"{what}: {key} is {found[key]}, expected {wanted.get(key)}")


def temporary_names(store: Store, *, committed: bool) -> list[str]:
    """Names in the committed folder that nobody committed, or those of unfinished work in
    `mlruns/`."""
    if committed:
        paths = [*store.registry.rglob(".*"), *store.root.glob(".README*")]
    else:
        place = store.mlruns / "registry.change"
        paths = [path for path in store.mlruns.rglob(".*") if _TEMPORARY.match(path.name)]
        paths += [place] if place.exists() else []
        paths += [path for path in store.locks.glob("*.lock") if len(path.stem) == 16]
        paths += store.checkpoints.glob("[!.]*")
    return sorted(str(path.relative_to(store.root)) for path in paths)


def doctor(ground: Ground, store: Store, environment: Mapping[str, str]) -> None:
    """Repair; nothing temporary may stay."""
    ground.heed(forked.bench(store.root, *DOCTOR, **(environment or LIGHT)), "doctor")
    for names in (temporary_names(store, committed=kind) for kind in (True, False)):
        if names:
            ground.fault("left behind", f"after doctor: {', '.join(names[:5])}")
