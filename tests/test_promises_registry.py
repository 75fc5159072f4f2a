"""`registry/` changes as a whole: writers wait for each other, a kill costs nothing that the next
command does not repair, and no name that is read from a file leads out of a folder."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from invented import EVERYTHING, disagreeing, invent_row, write
from registry_store import D8, FRONT, files_of, tiny_protocol

from bench.core.errors import BadInput, CheckFailed
from bench.core.identity import digest
from bench.core.protocol import Protocol
from bench.core.spec import RunRecord
from bench.core.store import Store, child
from bench.core.strict import adapter
from bench.registry import changes, publishing
from bench.registry.cards import Card, read_card, sealed
from bench.registry.champions import (
    champion,
    champions,
    describe_champions,
    find_champion,
    previous,
)
from bench.registry.promotion import promote, rollback
from bench.registry.results import CELLS, RESULTS, read_results
from bench.registry.verification import targets
from bench.sweep.results import study_folder
from bench.sweep.winner import read_winner, winner_path

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")

ROOT = Path(__file__).parent.parent
COMMANDS = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
import invented
from bench.core.store import Store
from bench.registry import publishing
from bench.registry.promotion import promote, rollback
from bench.registry.results import Scope
invented.believe()
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
{"promote": lambda: promote(store, Scope()),
 "rollback": lambda: rollback(store, "fashion_mnist_mini.quick.d8"),
 "write": lambda: publishing.write(store, Scope(), refresh=False)}[sys.argv[2]]()
"""
HOSTILE = ("../../outside", "/tmp/outside", "a/b")


@pytest.fixture
def small(store: Store) -> Protocol:
    return tiny_protocol(store.root)


@pytest.fixture
def challenged(store: Store, small: Protocol) -> Store:
    """deep_ae is champion; fc_ae is better and in the ledger, but not promoted yet."""
    (store.root / "README.md").write_text(FRONT)
    invent_row(store, small, "deep_ae", val=0.04, test=0.04)
    write(store)
    promote(store, EVERYTHING)
    invent_row(store, small, "fc_ae", val=0.03, test=0.03)
    write(store)
    return store


@pytest.fixture
def aside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the workspace."""
    return tmp_path_factory.mktemp("aside")


def paths_around(store: Store) -> set[Path]:
    """All that lies in the workspace and beside it."""
    return {*store.root.rglob("*"), *store.root.parent.iterdir()}


def at_once(store: Store, *commands: str) -> None:
    """Run these in processes of their own that begin at the same time."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COMMANDS, str(store.root), command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "BENCH_TRACKING": "off"},
            cwd=ROOT,
            text=True,
        )
        for command in commands
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def champion_and_before(store: Store) -> tuple[str, str]:
    card = champion(store.registry, D8)
    older = previous(store.registry, card)
    return card.spec.model, older.spec.model if older else ""


def is_sound(store: Store) -> None:
    assert publishing.check(store)
    assert not list(store.registry.rglob(".*"))
    assert not (store.mlruns / "registry.change").exists()


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (("promote", "promote"), ("fc_ae", "deep_ae")),
        (("promote", "write"), ("fc_ae", "deep_ae")),
        (("rollback", "rollback"), ("fc_ae", "deep_ae")),
    ],
)
def test_two_writers_at_once_leave_what_one_after_the_other_leaves(challenged, commands, expected):
    if "rollback" in commands:
        promote(challenged, EVERYTHING)
    at_once(challenged, *commands)
    assert champion_and_before(challenged) == expected
    is_sound(challenged)


@pytest.mark.parametrize(
    "look",
    [
        lambda store: [
            row["champion"] for row in describe_champions(store) if not row["committed_with_bench"]
        ],
        lambda store: [find_champion(store, D8)[1].summary.row],
        lambda store: [target.summary.row for target in targets(store, [], everything=False)],
        lambda store: [publishing.check(store), "fc_ae"][1:],
    ],
)
def test_a_reader_beside_a_promotion_sees_all_of_it_or_none(challenged, monkeypatch, look):
    """It looks while the champion's folder is away, between the two renames of a promotion."""
    seen: list[object] = []
    rename = os.rename

    def reader():
        try:
            seen.append(look(challenged))
        except Exception as error:
            seen.append(error)

    thread = threading.Thread(target=reader)

    def renamed(source, target, **more):
        rename(source, target, **more)
        if Path(source) == challenged.registry / "fashion_mnist_mini" / "quick.d8":
            thread.start()
            thread.join(timeout=0.3)

    monkeypatch.setattr(os, "rename", renamed)
    promote(challenged, EVERYTHING)
    thread.join()
    assert seen == [["fc_ae"]]


@pytest.mark.slow
def test_many_writers_at_once(challenged):
    for _ in range(10):
        at_once(challenged, "promote", "write", "promote", "write")
        assert champion_and_before(challenged) == ("fc_ae", "deep_ae")
        is_sound(challenged)


def test_a_promotion_that_was_made_changes_nothing_again(challenged):
    promote(challenged, EVERYTHING)
    before = files_of(challenged.registry)
    done = promote(challenged, EVERYTHING)
    assert done.changed == []
    assert done.decisions[0].why.startswith("already champion")
    assert files_of(challenged.registry) == before


class Killed(BaseException):
    """Stands for a kill: the clean-up of the process does not run either."""


def killed_at(step: int, work, monkeypatch) -> bool:
    """Do the work and die before its `step`-th change of a name; whether it came so far."""
    names, count = ("rename", "replace", "unlink", "rmdir", "mkdir"), 0
    dead = False

    def counting(call):
        def counted(*arguments, **more):
            nonlocal count, dead
            count += 1
            if dead or count == step:
                dead = True
                raise Killed
            return call(*arguments, **more)

        return counted

    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os, name, counting(getattr(os, name)))
        patch.setattr(shutil, "rmtree", counting(shutil.rmtree))
        try:
            work()
        except Killed:
            return True
    return dead


def kills(store: Store, work, monkeypatch, aside: Path, every: int):
    """The workspace after a kill at each `every`-th step of the work, beginning anew each time."""
    kept = aside / "kept"
    shutil.copytree(store.root, kept)
    step = 1
    while killed_at(step, work, monkeypatch):
        yield step
        shutil.rmtree(store.root)
        shutil.copytree(kept, store.root)
        step += every
    assert step > 5 * every


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_promotion_killed_at_any_step_is_finished_or_undone(
    challenged, monkeypatch, aside, every
):
    old = files_of(challenged.registry)
    seen = set()

    def work():
        promote(challenged, EVERYTHING)

    monkeypatch.setattr("bench.figures.draw_figures", lambda *_: {})
    for _ in kills(challenged, work, monkeypatch, aside, every):
        assert not list(challenged.registry.rglob(".*"))
        changes.mend_registry(challenged)
        is_sound(challenged)
        assert champion_and_before(challenged) in {("deep_ae", ""), ("fc_ae", "deep_ae")}
        seen.add(champion_and_before(challenged))
        if champion_and_before(challenged)[1] == "":
            assert files_of(challenged.registry) == old
    assert len(seen) == 2


def test_a_rollback_killed_at_any_step_is_finished_or_undone(challenged, monkeypatch, aside):
    monkeypatch.setattr("bench.figures.draw_figures", lambda *_: {})
    promote(challenged, EVERYTHING)
    seen = set()
    for _ in kills(challenged, lambda: rollback(challenged, D8), monkeypatch, aside, every=3):
        changes.mend_registry(challenged)
        is_sound(challenged)
        seen.add(champion_and_before(challenged))
    assert seen == {("fc_ae", "deep_ae"), ("deep_ae", "fc_ae")}


@pytest.mark.slow(minutes=0.5)
def test_tables_killed_at_any_step_are_repaired_by_the_next_write(store, small, monkeypatch, aside):
    (store.root / "README.md").write_text(FRONT)
    disagreeing(store, small)
    write(store)
    invent_row(store, small, "cnn_ae", val=0.02, test=0.02)
    for _ in kills(store, lambda: write(store), monkeypatch, aside, every=3):
        assert not list(store.registry.rglob(".*"))
        write(store)
        is_sound(store)


def test_what_kills_of_earlier_versions_left_is_removed(challenged):
    (challenged.registry / "fashion_mnist_mini" / ".new-quick.d8-ab").mkdir()
    (challenged.registry / ".results.csv.ab12cd_9").write_text("half")
    (challenged.root / ".README.md.ab12cd_9").write_text("half")
    (challenged.registry / ".gitkeep").write_text("")
    assert changes.mend_registry(challenged) == 1
    assert [path.name for path in challenged.registry.rglob(".*")] == [".gitkeep"]
    assert not (challenged.root / ".README.md.ab12cd_9").exists()
    assert changes.mend_registry(challenged) == 0


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "/tmp", "a/../..", "link", "link/x", "\0"])
def test_a_path_of_a_name_lies_below_its_root(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="does not name a place below"):
        child(root, name)
    assert child(root, "a", "b") == root / "a" / "b"


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("key", ["protocol", "dataset_label", "model"])
def test_a_record_with_a_hostile_name_is_refused(store, small, key, name):
    record = disagreeing(store, small)[0]
    data = json.loads(record.to_json())
    data["spec"][key] = name
    with pytest.raises(ValueError, match="is not a name we can use"):
        adapter(RunRecord).validate_json(json.dumps(data))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("key", ["protocol", "dataset_label", "model", "track_name", "picture"])
def test_a_card_with_a_hostile_name_is_refused(challenged, key, name):
    path = challenged.registry / champion(challenged.registry, D8).folder / "card.json"
    card = read_card(path, "card")
    data = json.loads(path.read_bytes())
    if key == "track_name":
        data[key] = name
    elif key == "picture":
        data["pictures"] = {name: "0" * 64}
    else:
        data["spec"][key] = name
    data["digest"] = digest({**data, "digest": ""})
    path.write_text(json.dumps(data))
    before = paths_around(challenged)
    for work in (lambda: promote(challenged, EVERYTHING), lambda: rollback(challenged, D8)):
        with pytest.raises(CheckFailed, match=r"card\.json is damaged .*name"):
            work()
    assert paths_around(challenged) == before
    assert card.folder in str(path)


def test_a_card_in_the_folder_of_another_track_is_refused(challenged):
    folder = challenged.registry / champion(challenged.registry, D8).folder
    folder.rename(folder.with_name("quick.d9"))
    with pytest.raises(CheckFailed, match=r"is the card of fashion_mnist_mini/quick\.d8"):
        champions(challenged.registry)


def test_a_card_that_names_another_track_is_refused(challenged):
    """The name goes into pages and commands as it is."""
    path = challenged.registry / champion(challenged.registry, D8).folder / "card.json"
    card = dataclasses.replace(read_card(path, "card"), track="<script>alert(1)</script>")
    path.write_bytes(sealed(card).to_json())
    with pytest.raises(CheckFailed, match="names the track '<script>alert"):
        champions(challenged.registry)


def test_a_linked_folder_of_the_registry_is_refused(challenged, tmp_path):
    outside = tmp_path / "outside"
    (challenged.registry / "fashion_mnist_mini").rename(outside)
    (challenged.registry / "fashion_mnist_mini").symlink_to(outside)
    before = files_of(outside)
    with pytest.raises(BadInput, match="does not name a place below"):
        promote(challenged, EVERYTHING)
    assert files_of(outside) == before


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("file", [RESULTS, CELLS])
def test_a_table_with_a_hostile_name_is_refused(challenged, file, name):
    path = challenged.registry / file
    with path.open(newline="") as stream:
        columns, first, *rest = csv.reader(stream)
    for column in ("dataset", "protocol", "model", "run_key", "evaluation_digest", "track"):
        if column not in columns:
            continue
        cells = {**dict(zip(columns, first, strict=True)), column: name}
        kept = {key: cell for key, cell in cells.items() if cell and key != "row_digest"}
        with path.open("w", newline="") as stream:
            signed = [*list(cells.values())[:-1], digest(kept)]
            csv.writer(stream, lineterminator="\n").writerows([columns, signed, *rest])
        with pytest.raises(CheckFailed, match=rf"line 2.*{column}"):
            read_results(challenged.registry)


@pytest.mark.parametrize("name", [*HOSTILE, ".."])
def test_a_study_and_its_winner_with_hostile_names_are_refused(store, name):
    with pytest.raises(BadInput, match="does not name a place below"):
        study_folder(store, "../" + name)
    with pytest.raises(BadInput, match="neither a file nor a study"):
        winner_path("no/such", store)
    path = store.root / "winner.toml"
    path.write_text(
        f'protocol = "quick"\nprotocol_fingerprint = "0"\nmodel = "{name}"\nrecipe = "default"\n'
    )
    with pytest.raises(BadInput, match=r"winner\.toml: model: .*is not a name we can use"):
        read_winner(path)


def test_no_card_holds_the_path_of_own_images_and_an_earlier_one_loses_it(challenged):
    path = challenged.registry / champion(challenged.registry, D8).folder / "card.json"
    card: Card = read_card(path, "card")
    secret = "csv:/home/someone/photos.csv"
    path.write_bytes(
        sealed(
            dataclasses.replace(card, spec=dataclasses.replace(card.spec, dataset=secret))
        ).to_json()
    )
    promote(challenged, EVERYTHING)
    for content in files_of(challenged.registry).values():
        assert b"/home/" not in content
    is_sound(challenged)
