"""Mutated files and flipped bits: each is noticed or harmless, in one line, and none executes."""

import contextlib
import dataclasses
import functools
import math
import operator
import random
import resource
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import BenchError
from bench.core.store import Store

from . import damage, forked
from .ground import Ground, Try
from .workspaces import Templates

_BATCH = 100
_SECONDS = 20
_ROOM = 2**30
"""The most bytes of address space that the readers of a batch may add."""
Fault = tuple[str, str]


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it is in a workspace, and how the suite reads it.

    `sealed`: a value that is not the `same` as the one that was written is a fault. `judge` says
    what is wrong with a value that was read from a file without a seal.
    """

    name: str
    files: Callable[[Store], list[Path]]
    read: Callable[[Store, Path], Any]
    sealed: bool = False
    judge: Callable[[Any], str] = lambda _: ""
    same: Callable[[Any, Any], bool] = operator.eq
    harm: damage.Damage = damage.damaged
    share: float = 1.0


def _glob(pattern: str) -> Callable[[Store], list[Path]]:
    return lambda store: sorted(path for path in store.root.glob(pattern) if path.is_file())


def _record(store: Store, path: Path) -> Any:
    from bench.core.errors import CheckFailed
    from bench.records.files import survey_records

    sound, damaged = survey_records(store.records)
    if damaged:
        raise CheckFailed(damaged[0])
    return sound


def _tensors(store: Store, path: Path) -> Any:
    """Weights and arrays of the one record, as bytes."""
    from bench.records.files import iter_records, read_arrays, read_weights

    (record,) = iter_records(store.records)
    found = {**read_weights(store.records, record), **read_arrays(store.records, record)}
    return {key: (value.dtype.str, value.shape, value.tobytes()) for key, value in found.items()}


def _checkpoint(store: Store, path: Path) -> Any:
    from bench.training.checkpoint import load_checkpoint

    found = load_checkpoint(path)
    if found is None:
        raise BenchError("it is damaged")
    return _plain(vars(found))


def _plain(value: Any) -> Any:
    """A value with the bytes of its tensors, to be compared."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.numpy().tobytes() if hasattr(value, "numpy") else repr(value)


def _ledger(store: Store, path: Path) -> Any:
    from bench.registry.results import read_results

    found = read_results(store.registry)
    tables = (found.ledger, found.known.cells, found.known.pairs, found.scores)
    return {repr(row) for table in tables for row in table}


def _committed(store: Store, path: Path) -> Any:
    from bench.registry import publishing

    publishing.check(store)
    return path.read_bytes() if path.suffix != ".json" else _card(store, path)


def _card(store: Store, path: Path) -> Any:
    from bench.registry.cards import read_card

    return read_card(path, "card")


def _look(store: Store, path: Path) -> Any:
    """What `bench leaderboard` and `bench registry list` show."""
    from bench.registry import publishing
    from bench.registry.champions import describe_champions
    from bench.registry.results import Scope

    publishing.look(store, Scope())
    describe_champions(store)


def _trials(store: Store, path: Path) -> Any:
    from bench.sweep.results import iter_trials, studies_folder

    (folder,) = studies_folder(store).iterdir()
    return list(iter_trials(store, folder.name))


def _study(store: Store, path: Path) -> Any:
    from bench.records.studies import read_study

    return read_study(path, str(path))


def _explained(store: Store, path: Path) -> Any:
    """Whether a study explains a tuned row of its own board, as `leaderboard --write` asks."""
    from bench.leaderboard.ledger import row_of
    from bench.records.files import iter_records
    from bench.registry.studies import explains

    study = _study(store, path)
    (record,) = iter_records(store.records)
    row, spec = row_of(record), study.base
    explains(
        study,
        dataclasses.replace(
            row,
            recipe="tuned (2 trials)",
            dataset=spec.dataset_label,
            protocol=spec.protocol,
            protocol_fingerprint=spec.protocol_fingerprint,
            data_digest=spec.data_digest,
        ),
    )


def _protocol(store: Store, path: Path) -> Any:
    from bench.core.protocol import load_protocol

    return load_protocol(str(path))


def _winner(store: Store, path: Path) -> Any:
    from bench.sweep.winner import read_winner

    return read_winner(path)


def _images(kind: str) -> Callable[[Store, Path], Any]:
    def read(store: Store, path: Path) -> Any:
        from bench.data import load_set

        place = path.parent.parent if kind == "folder" else path
        return load_set(f"{kind}:{place}")

    return read


def _idx(store: Store, path: Path) -> Any:
    from bench.data.idx import read_pair

    return read_pair(path.parent / "images.idx", path.parent / "labels.idx.gz")


def _judge_images(found: Any) -> str:
    if not hasattr(found, "parts"):
        return "" if found.images.dtype == np.uint8 else f"images of {found.images.dtype}"
    for part, content in found.parts.items():
        if content.images.dtype != np.uint8 or len(content.images) != len(content.labels):
            return f"{part}: {content.images.dtype}, {len(content.labels)} labels"
        if found.class_names and not 0 <= content.labels.min() <= content.labels.max() < len(
            found.class_names
        ):
            return f"{part}: a label out of range"
    return ""


def _command(*arguments: str) -> Callable[[Store, Path], Any]:
    def read(store: Store, path: Path) -> Any:
        from typer.testing import CliRunner

        from bench.cli import app

        with contextlib.chdir(store.root):
            said = CliRunner().invoke(app, arguments)
        if said.exception is not None and not isinstance(said.exception, SystemExit):
            raise said.exception
        if said.exit_code == 1 or "Traceback" in said.output:
            raise RuntimeError(said.output)
        if forked.SECRET in said.output:
            raise RuntimeError("a secret was printed")
        if len(said.stderr) > 3000:
            raise RuntimeError(f"a line of {len(said.stderr)} characters")
        if said.exit_code:
            raise BenchError(said.stderr.strip().splitlines()[-1])

    return read


def _beside_mlflow(*arguments: str) -> Callable[[Store, Path], Any]:
    """In a process of its own: MLflow keeps databases open."""

    def read(store: Store, path: Path) -> Any:
        said = forked.bench(store.root, *arguments, MLFLOW_TRACKING_URI="")
        if said.code not in (0, 2, 3) or "Traceback" in said.text:
            raise RuntimeError(f"exit code {said.code}: {said.text}")
        if said.code:
            raise BenchError(said.err.strip().splitlines()[-1])

    return read


RECORD = "mlruns/records/*/"
KINDS = (
    Kind("protocol", _glob("few.toml"), _protocol),
    Kind("record", _glob(f"{RECORD}record.json"), _record, sealed=True),
    Kind("scores", _glob(f"{RECORD}scores/*/scores.json"), _record, sealed=True),
    Kind("board", _glob(f"{RECORD}boards/*.json"), _record, sealed=True),
    Kind("weights", _glob(f"{RECORD}weights.safetensors"), _tensors, sealed=True),
    Kind("arrays", _glob(f"{RECORD}scores/*/arrays.safetensors"), _tensors, sealed=True),
    Kind("checkpoint", _glob("mlruns/checkpoints/*.safetensors"), _checkpoint, sealed=True),
    # Rows that are missing are computed again, or found missing by the pages.
    Kind("ledger", _glob("registry/*.csv"), _ledger, sealed=True, same=set.issubset),
    Kind("card", _glob("registry/*/*/card.json"), _card, sealed=True),
    Kind("committed", _glob("registry/**/*.*"), _committed, sealed=True, share=0.5),
    Kind("kept", _glob("registry/scores/**/*.safetensors"), _committed, sealed=True, share=0.5),
    Kind("trial", _glob("mlruns/studies/*/trials/*.json"), _trials, sealed=True),
    Kind("study", _glob("mlruns/studies/*/study.json"), _study, sealed=True),
    Kind("winner", _glob("mlruns/studies/*/winner.toml"), _winner),
    Kind("csv", _glob("images.csv"), _images("csv"), judge=_judge_images),
    Kind("npz", _glob("few.npz"), _images("npz"), judge=_judge_images),
    Kind("idx", _glob("*.idx*"), _idx, judge=_judge_images),
    Kind("png", _glob("photos/*/*.png"), _images("folder"), judge=_judge_images),
    Kind(
        "costs",
        _glob("mlruns/costs.json"),
        _command("run", "-p", "few.toml", "--dry-run"),
        share=0.05,  # speeds that are lost are measured again
    ),
    Kind("record again", _glob(f"{RECORD}**/*.json"), _look, harm=damage.resealed, share=0.5),
    Kind(
        "study again",
        _glob("mlruns/studies/*/study.json"),
        _explained,
        harm=damage.resealed,
        share=0.5,
    ),
    Kind("card again", _glob("registry/*/*/card.json"), _look, harm=damage.resealed, share=0.5),
    Kind(
        "studies",
        _glob("mlruns/optuna.db"),
        _command("sweep", "-p", "few.toml", "-m", "fc_ae", "--trials", "2", "--dry-run"),
        share=0.5,
    ),
    Kind("mlflow", _glob("mlruns/mlflow.db"), _beside_mlflow("sync"), share=0.15),
)
SEALED = (
    *("record", "scores", "arrays", "weights", "checkpoint", "board", "card", "ledger", "trial"),
    "study",
)


def make_material(templates: Templates, *, short: bool) -> Path:
    """A workspace with one record and one file of every kind (`short`: but no bombs)."""
    if not short:
        damage.make_bombs(_ROOM + _ROOM // 4)
    root = templates.promoted.parent / "material"
    if (whole := root.with_name("material made")).exists():
        return root
    shutil.copytree(templates.promoted, root)
    records = sorted(Store(root).records.iterdir())
    kept = next(path for path in records if b'"fc_ae"' in (path / "record.json").read_bytes())
    for path in records:
        if path != kept:
            shutil.rmtree(path)
    for name in ("studies", "optuna.db"):
        source, target = templates.searched / "mlruns" / name, root / "mlruns" / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    _write_images(root)
    forked.answer(functools.partial(_write_checkpoint, root), root)
    said = forked.bench(root, "sync", MLFLOW_TRACKING_URI="")
    if said.code != 0:
        raise RuntimeError(said.text)
    whole.touch()
    return root


def _write_images(root: Path) -> None:
    import gzip

    from PIL import Image

    from bench.data.idx import encode_images, encode_labels

    with np.load(root / "few.npz") as few:
        images, labels = few["x_test"], few["y_test"].astype(np.int64)
    header = "label," + ",".join(f"pixel{i}" for i in range(784))
    rows = [
        f"{label}," + ",".join(map(str, image.reshape(-1).tolist()))
        for image, label in zip(images[:20], labels, strict=False)
    ]
    (root / "images.csv").write_text("\n".join([header, *rows]) + "\n")
    (root / "images.idx").write_bytes(encode_images(images[:, None]))
    (root / "labels.idx.gz").write_bytes(gzip.compress(encode_labels(labels)))
    for number, (image, label) in enumerate(zip(images[:12], labels, strict=False)):
        path = root / "photos" / f"class{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def _write_checkpoint(root: Path) -> None:
    from bench.benchmark.plan import Request, plan
    from bench.core.protocol import load_protocol
    from bench.execution.runner import StoppedEarly, execute

    store = Store(root)
    with contextlib.chdir(root), contextlib.suppress(StoppedEarly):
        request = Request(load_protocol("few.toml"), ("fc_ae",), seeds=(7,), device="cpu")
        execute(plan(request, store).specs[0], store, lambda values: values.epoch == 2)


def mutations(material: Path, wanted: int) -> Iterator[Try]:
    """So many mutated files."""
    shares = sum(kind.share for kind in KINDS)
    for kind in KINDS:
        count = math.ceil(wanted * kind.share / shares)
        yield from _batches(f"files/{kind.name}", material, kind, count)


def flips(material: Path, wanted: int) -> Iterator[Try]:
    """So many sealed files with one flipped bit."""
    for kind in (kind for kind in KINDS if kind.name in SEALED):
        flipped = dataclasses.replace(kind, harm=damage.flip)
        yield from _batches(
            f"flips/{kind.name}", material, flipped, math.ceil(wanted / len(SEALED))
        )


def _batches(name: str, material: Path, kind: Kind, wanted: int) -> Iterator[Try]:
    for number, start in enumerate(range(0, wanted, _BATCH)):
        count = min(_BATCH, wanted - start)
        yield Try(f"{name}/{number}", functools.partial(read_damaged, material, kind, count))


def read_damaged(material: Path, kind: Kind, count: int, ground: Ground) -> None:
    """Damage a file of the kind so many times, and read it each time."""
    store = ground.copy(material)
    ground.found.tries = count
    work = functools.partial(_read_all, store, kind, count, ground.dice)
    for fault, text in forked.answer(work, ground.folder, BENCH_HOME=str(store.root)):
        ground.fault(fault, text)


def _read_all(store: Store, kind: Kind, count: int, dice: random.Random) -> list[Fault]:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _ROOM, now + _ROOM))
    signal.signal(signal.SIGALRM, _too_long)
    files = kind.files(store)
    whole = kind.read(store, files[0])
    faults: list[Fault] = []
    for number in range(count):
        path = dice.choice(files)
        content = path.read_bytes()
        other = kind.harm(dice, content)
        if number == 0 and kind.harm is damage.damaged:
            other = damage.execution(Path.cwd())  # each kind at least once
        path.write_bytes(other)
        if kind.name == "committed":
            whole = content if path.suffix != ".json" else None
        signal.alarm(_SECONDS)
        fault = _read_one(store, kind, path, whole)
        signal.alarm(0)
        if fault is not None and other != content:
            kind_of, text = fault
            faults.append((kind_of, f"mutation {number} of {path.name}: {text}"))
        path.write_bytes(content)
    return faults


def _too_long(*_: object) -> None:
    raise TimeoutError(f"it was read for more than {_SECONDS} s")


def _read_one(store: Store, kind: Kind, path: Path, whole: Any) -> Fault | None:
    try:
        found = kind.read(store, path)
    except BenchError as error:
        text = str(error)
        if "\n" in text or forked.SECRET in text:
            return "tracebacks", f"not one line: {text[:300]}"
        return None
    except Exception:
        return "tracebacks", traceback.format_exc()[-700:]
    if kind.sealed and whole is not None and not kind.same(found, whole):
        return "mixed", "another content was accepted"
    if why := kind.judge(found):
        return "mixed", why
    return None
