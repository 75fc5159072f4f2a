"""Hostile names in every place where a name is given or read.

Nothing outside the workspace is written, what is refused is refused in one line, and what is shown
has no control characters, no HTML and no table cells of its own.
"""

import contextlib
import csv
import functools
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.identity import digest
from bench.core.store import Store

from . import forked
from .ground import Ground, Try

_BASES = (
    # The first ten are those of the short form.
    *("\x1b[31mred", "../../outside", "<script>alert(1)</script>", "a|b|c", "a\nb", "\u202eevil"),
    *("$x^2$", "a\0b", "", "x" * 5000),
    *("/tmp/outside", "..", ".", " ", "a/b", "a\\b", "C:\\x", "CON", "nul.txt", "aux", "a\rb"),
    *("\x1b]0;title\x07", "\u2066x\u2069"),
    *("\u200bzero", "\ufeffbom", "<img src=x onerror=alert(1)>"),
    *("| a | b |", "**bold**", "[x](javascript:alert(1))", "![x](http://h/x.png)"),
    *("`code`", "# heading", "---", "$", "$\\frac{1}{0}$", "a_b^c", "\\input{x}", "%s%n"),
    *("{0}", "{{x}}", "${HOME}", "$(mkdir executed-by-a-file)", "`mkdir executed-by-a-file`"),
    *(
        "; mkdir executed-by-a-file",
        "--help",
        "-p",
        "=1+1",
        "@SUM(1)",
        "'",
        '"',
        "\u0435vil",
        "\ufb01",
    ),
    *("x" * 300, "\ud800", "\U0001f600", "a\u0301" * 50, ".git", ".hidden", "mlruns"),
    *("a\tb", "\x7f", "\x9b31m", "true", "null", "1", "NaN", "~nobody/x", "file:///etc/passwd"),
    *("sqlite:///", "csv:", "folder:..", "&amp;", "<!-- leaderboard:end -->", "[bold]x[/bold]"),
)
_WRAPPED = ("{}", "a{}z", "{}.toml", "{}{}", "0{}", "{} ", "\n{}")
_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_BATCH = 50
_LONGEST_LINE = 3000
_CALLS = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate")


def hostile_names(count: int) -> list[str]:
    """So many different names, always the same, the plain ones first."""
    dice = random.Random(0)
    made = list(_BASES)
    while len(made) < count:
        form, base = dice.choice(_WRAPPED), dice.choice(_BASES)
        name = form.replace("{}", base) if dice.random() < 0.7 else base + dice.choice(_BASES)
        if name not in made:
            made.append(name)
    return made[:count]


Place = Callable[[Store, str], Sequence[Sequence[str]]]
"""Puts a name into a workspace; returns the commands that then meet it."""


def _option(*arguments: str) -> Place:
    """A command with the name in the place of `{}`."""
    return lambda store, name: [[part.replace("{}", name) for part in arguments]]


def _protocol(key: str) -> Place:
    def plant(store: Store, name: str) -> Sequence[Sequence[str]]:
        text = (store.root / "few.toml").read_text()
        quoted = json.dumps(name.encode("utf-8", "replace").decode())
        value = f'["{"pca"}", {quoted}]' if key == "models" else quoted
        lines = [f"{key} = {value}" if x.startswith(f"{key} =") else x for x in text.splitlines()]
        (store.root / "few.toml").write_text("\n".join(lines))
        return [["run", "-p", "few.toml", "--dry-run"], ["leaderboard", "-p", "few.toml"]]

    return plant


SHOWN = (["leaderboard", "--write"], ["promote"])


def _document(pattern: str, *keys: str) -> Place:
    """In a JSON document, with the right digest."""

    def plant(store: Store, name: str) -> Sequence[Sequence[str]]:
        for path in store.root.glob(pattern):
            data = json.loads(path.read_bytes())
            place: Any = data
            for key in keys[:-1]:
                place = place[key]
            last = keys[-1]
            place[last] = [name] * len(place[last]) if isinstance(place[last], list) else name
            if "track_name" in data:
                data["digest"] = digest({**data, "digest": ""})
            elif "digest" in data:
                data["digest"] = digest({k: v for k, v in data.items() if k != "digest"})
            path.write_text(json.dumps(data))
        track = next(store.registry.glob("*/*/card.json")).parent
        shown = f"{track.parent.name}.{track.name}"
        return [*SHOWN, ["registry", "show", shown], ["doctor", "--fix"]]

    return plant


def _table(file: str, column: str) -> Place:
    def plant(store: Store, name: str) -> Sequence[Sequence[str]]:
        path = store.registry / file
        with path.open(newline="") as stream:
            columns, *rows = csv.reader(stream)
        cells = {**dict(zip(columns, rows[0], strict=True)), column: name}
        kept = {key: cell for key, cell in cells.items() if cell and key != "row_digest"}
        out = io.StringIO()
        signed = [*list(cells.values())[:-1], digest(kept)]
        csv.writer(out, lineterminator="\n").writerows([columns, signed, *rows[1:]])
        path.write_bytes(out.getvalue().encode("utf-8", "replace"))
        return [*SHOWN, ["leaderboard", "--check"]]

    return plant


def _winner(store: Store, name: str) -> Sequence[Sequence[str]]:
    path = next(store.mlruns.glob("studies/*/winner.toml"))
    text = path.read_text()
    quoted = json.dumps(name.encode("utf-8", "replace").decode())
    for key in ("recipe", "model", "dataset"):
        other = re.sub(rf"^{key} = .*$", lambda _: f"{key} = {quoted}", text, flags=re.M)  # noqa: B023
        (store.root / f"{key}.toml").write_text(other)
    return [
        ["sweep", "--winner", str(store.root / f"{key}.toml"), "--dry-run"]
        for key in ("recipe", "model", "dataset")
    ]


def _study(store: Store, name: str) -> Sequence[Sequence[str]]:
    for path in store.mlruns.glob("studies/*/trials/*.json"):
        data = json.loads(path.read_bytes())
        path.write_text(json.dumps({**data, "study": name}))
    return [["sync"], ["sweep", "-p", "few.toml", "-m", "fc_ae", "--dry-run"]]


def _file_name(store: Store, name: str) -> Sequence[Sequence[str]]:
    """A data set whose file has the name."""
    with contextlib.suppress(OSError, ValueError):
        if "/" not in name and name not in ("", ".", ".."):
            shutil.copy2(store.root / "few.npz", store.root / f"{name}.npz")
    return [
        ["run", "-p", "few.toml", "--dataset", f"npz:{name}.npz", "--dry-run"],
        ["data", "check", f"npz:{name}.npz"],
    ]


PLACES: dict[str, Place] = {
    "protocol option": _option("run", "-p", "{}", "--dry-run"),
    "model option": _option("run", "-p", "few.toml", "-m", "{}", "--dry-run"),
    "dataset option": _option("run", "-p", "few.toml", "--dataset", "{}", "--dry-run"),
    "csv path": _option("data", "check", "csv:{}"),
    "folder path": _option("data", "check", "folder:{}"),
    "data file": _file_name,
    "track": _option("registry", "show", "{}"),
    "rolled back track": _option("registry", "rollback", "{}"),
    "verified name": _option("verify", "{}"),
    "synced protocol": _option("sync", "--protocol", "{}"),
    "storage": _option("sweep", "-p", "few.toml", "-m", "fc_ae", "--storage", "{}", "--dry-run"),
    "study file": _option(
        "sweep", "-p", "few.toml", "-m", "fc_ae", "--storage", "sqlite:///{}", "--dry-run"
    ),
    "sampler": _option("sweep", "-p", "few.toml", "-m", "fc_ae", "--sampler", "{}", "--dry-run"),
    "winner option": _option("sweep", "--winner", "{}", "--dry-run"),
    "device": _option("run", "-p", "few.toml", "--device", "{}", "--dry-run"),
    "executor": _option("run", "-p", "few.toml", "--executor", "{}", "--dry-run"),
    "origin": _option("reproduce", "{}", "--list"),
    "fetched set": _option("data", "fetch", "{}"),
    "protocol name": _protocol("name"),
    "protocol text": _protocol("description"),
    "protocol data": _protocol("dataset"),
    "protocol models": _protocol("models"),
    "record protocol": _document("mlruns/records/*/boards/*.json", "spec", "protocol"),
    "record label": _document("mlruns/records/*/boards/*.json", "spec", "dataset_label"),
    "record recipe": _document("mlruns/records/*/boards/*.json", "spec", "recipe"),
    "record source": _document("mlruns/records/*/boards/*.json", "data_source"),
    "record classes": _document("mlruns/records/*/record.json", "class_names"),
    "record machine": _document("mlruns/records/*/record.json", "environment", "device"),
    "card classes": _document("registry/*/*/card.json", "class_names"),
    "card row": _document("registry/*/*/card.json", "summary", "row"),
    "card badges": _document("registry/*/*/card.json", "summary", "badges"),
    "card track": _document("registry/*/*/card.json", "track"),
    "ledger recipe": _table("results.csv", "recipe"),
    "ledger device": _table("results.csv", "device"),
    "ledger data": _table("results.csv", "dataset"),
    "scores row": _table("scores.csv", "row"),
    "scores data": _table("scores.csv", "dataset"),
    "scores seeds": _table("scores.csv", "seeds"),
    "winner file": _winner,
    "study": _study,
}


def tries(material: Path, count: int, shown: int, every: int = 1) -> Iterator[Try]:
    """`count` names in every place (or every so many); `shown` of them as classes of images
    that are run and shown.

    Few names differ from place to place, so that each of the first ones is given somewhere.
    """
    names = hostile_names(max(count, shown))
    for turn, place in enumerate(list(PLACES)[every - 1 :: every]):
        here = [names[(turn * count + number) % len(names)] for number in range(count)]
        for number, start in enumerate(range(0, count, _BATCH)):
            some = here[start : start + _BATCH]
            work = functools.partial(give_names, material, place, some)
            yield Try(f"names/{place}/{number}", work)
    for kind in CLASSES:
        for number, start in enumerate(range(0, shown, 10)):
            work = functools.partial(show_classes, material, kind, names[start : start + 10])
            yield Try(f"names/classes in {kind}/{number}", work)


def give_names(material: Path, place: str, names: Sequence[str], ground: Ground) -> None:
    """Give each name in the place, in a workspace of its own."""
    store = ground.copy(material)
    ground.found.tries = len(names)
    work = functools.partial(_give_all, store, material, place, names, ground.folder)
    for kind, text in forked.answer(work, ground.folder, BENCH_HOME=str(store.root)):
        ground.fault(kind, text)


def _give_all(
    store: Store, material: Path, place: str, names: Sequence[str], allowed: Path
) -> list[tuple[str, str]]:
    watch = Outside(allowed)
    faults = []
    for name in names:
        shutil.rmtree(store.root)
        shutil.copytree(material, store.root)
        os.chdir(store.root)
        try:
            commands = PLACES[place](store, name)
        except UnicodeEncodeError:
            continue  # no file can hold it
        for arguments in commands:
            for kind, text in invoke(arguments, watch):
                faults.append((kind, f"{name[:60]!r} in {' '.join(arguments)[:80]!r}: {text}"))
        faults += [(kind, f"{name[:60]!r}: {text}") for kind, text in rendered(store)]
    return faults


class Outside:
    """What this process changes outside of a folder and of those for temporary files."""

    def __init__(self, allowed: Path) -> None:
        temporary = Path(tempfile.gettempdir()) / "tmp"
        own = (allowed, "/dev/null", "/proc", Path.home() / ".cache", temporary)
        self._allowed = tuple(map(str, own))
        self.changed: list[str] = []
        sys.dont_write_bytecode = True  # it is no change by a command
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            changes = bool((mode and set(str(mode)) & set("wax+")) or flags & (os.O_CREAT | 3))
        else:
            path, changes = (arguments or ("",))[0], event in _CALLS
        if changes and isinstance(path, str | bytes | os.PathLike):
            full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (follows no link)
            if not full.startswith(self._allowed):
                self.changed.append(f"{event} {full}")


def invoke(arguments: Sequence[str], watch: Outside) -> Iterator[tuple[str, str]]:
    """Give a command in this process; what is wrong with its answer."""
    from typer.testing import CliRunner

    from bench.cli import app

    watch.changed.clear()
    try:
        said = CliRunner().invoke(app, list(arguments))
    except Exception:
        yield "tracebacks", traceback.format_exc()[-600:]
        return
    if watch.changed:
        yield "lost", f"it changed {watch.changed[:3]}"
    if said.exception is not None and not isinstance(said.exception, SystemExit):
        yield "tracebacks", "".join(traceback.format_exception(said.exception))[-600:]
        return
    text = said.stdout + said.stderr
    if said.exit_code not in (0, 2, 3, 4) or "Traceback" in text:
        yield "tracebacks", f"exit code {said.exit_code}: {said.stderr[-400:]}"
    told = [line for line in said.stderr.splitlines() if line.startswith("bench: ")]
    if said.exit_code in (2, 3) and (len(told) != 1 or len(told[0]) > _LONGEST_LINE):
        yield "tracebacks", f"no single line: {said.stderr[-300:]!r}"
    if found := _ACTING.search(text):
        yield (
            "mixed",
            f"{found[0]!r} reaches the terminal: {text[max(0, found.start() - 80) :][:160]!r}",
        )
    if forked.SECRET in text:
        yield "secrets", text[-300:]


def rendered(store: Store) -> Iterator[tuple[str, str]]:
    """What is wrong with the pages of a workspace."""
    for path in [*store.registry.rglob("*.md"), store.root / "README.md"]:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        where = path.relative_to(store.root)
        if found := _ACTING.search(text):
            yield "mixed", f"{found[0]!r} in {where}"
        if found := re.search(r"<(script|img|a|iframe)\b|\]\(javascript:|\]\(http://h", text):
            yield (
                "mixed",
                f"HTML or a link in {where}: {text[max(0, found.start() - 60) :][:150]!r}",
            )
        width = 0
        for line in text.split("\n"):
            cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
            if cells and width and cells != width:
                yield (
                    "mixed",
                    f"a row of {cells} cells among those of {width} in {where}: {line[:150]!r}",
                )
            width = cells


def _folder(root: Path, images: np.ndarray, names: Sequence[str]) -> str:
    from PIL import Image

    for number, image in enumerate(images):
        name = names[number % len(names)].replace("/", "").replace("\0", "")[:80]
        if name not in ("", ".", "..") and not name.startswith("."):
            folder = root / "hostile" / name.encode("utf-8", "replace").decode()
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    return "folder:hostile"


def _csv(root: Path, images: np.ndarray, names: Sequence[str]) -> str:
    with (root / "hostile.csv").open("w", newline="", encoding="utf-8", errors="replace") as stream:
        table = csv.writer(stream)
        table.writerow(["label", *(f"pixel{i}" for i in range(784))])
        for number, image in enumerate(images):
            name = names[number % len(names)]
            if name.strip() and not set("\0\r\n") & set(name):  # what no cell can hold
                table.writerow([name, *image.reshape(-1).tolist()])
    return "csv:hostile.csv"


def _npz(root: Path, images: np.ndarray, names: Sequence[str]) -> str:
    clean = [name.encode("utf-8", "replace").decode() for name in names if name.strip("\0 ")]
    labels = np.array([clean[number % len(clean)] for number in range(len(images))])
    np.savez(root / "hostile.npz", images=images, labels=labels)
    return "npz:hostile.npz"


CLASSES = {"folder": _folder, "csv": _csv, "npz": _npz}


def show_classes(material: Path, kind: str, names: Sequence[str], ground: Ground) -> None:
    """Train on images of classes with these names, then show them in every way."""
    store = ground.copy(material)
    ground.found.tries = len(names)
    with np.load(store.root / "few.npz") as few:
        reference = CLASSES[kind](store.root, few["x_train"][:200], names)
    text = (store.root / "few.toml").read_text().replace("latent_dims = [4]", "latent_dims = [3]")
    (store.root / "other.toml").write_text(text.replace('"few"', '"other"', 1))
    work = functools.partial(_show_all, store, reference, ground.folder)
    for fault, why in forked.answer(work, ground.folder, BENCH_HOME=str(store.root)):
        ground.fault(fault, f"{why} (classes {[name[:20] for name in names]})")


def _show_all(store: Store, reference: str, allowed: Path) -> list[tuple[str, str]]:
    os.chdir(store.root)
    watch = Outside(allowed)
    given = ("-p", "other.toml", "--dataset", reference)
    faults = []
    commands = (
        ("data", "check", reference),
        ("run", *given, "-m", "pca", "--seeds", "1", "--workers", "1"),
        ("leaderboard", *given, "--write"),
        ("promote", *given),
        ("registry", "list"),
    )
    for arguments in commands:
        faults += list(invoke(arguments, watch))
    return faults + list(rendered(store))
