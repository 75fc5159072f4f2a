"""Input that once ended in a traceback: its own line, and one boundary for what nobody foresaw."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import TINY
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import BadInput, BenchError
from bench.core.paths import given_path
from bench.core.protocol import load_protocol
from bench.core.store import Store, open_store
from bench.data.csv_file import read_csv
from bench.data.loading import dataset_reference, load_set
from bench.sweep.storage import open_storage
from bench.sweep.winner import read_winner, winner_path
from bench.tracking.address import find_address
from bench.tracking.database import prepare_database

ROOT = Path(__file__).parent.parent
LONG = "a" * 300


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (LONG, "too long"),
        (f"x/{LONG}/y", "too long"),
        ("a/" * 3000, "too long"),
        ("a\0b", "NUL"),
        ("~/\0", "NUL"),
        ("a\ud800b", "not text"),
    ],
)
def test_text_that_names_no_file(store: Store, given: str, said: str) -> None:
    """Everywhere a path is given."""
    places: list[Callable[[], object]] = [
        lambda: given_path(given, "here"),
        lambda: load_protocol(f"{given}.toml"),
        lambda: load_protocol(given),
        lambda: load_set(f"csv:{given}"),
        lambda: load_set(given),
        lambda: dataset_reference(f"folder:{given}"),
        lambda: open_storage(store, f"sqlite:///{given}"),
        lambda: winner_path(given, store),
    ]
    for place in places:
        with pytest.raises(BadInput, match=said) as caught:
            place()
        assert len(str(caught.value)) < 400


def test_an_unknown_home_folder(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("BENCH_HOME", "~nobody-here/x")
    with pytest.raises(BadInput, match=r"BENCH_HOME: .* home folder that is unknown"):
        open_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///~nobody-here/x")
    with pytest.raises(BadInput, match=r"MLFLOW_TRACKING_URI: .* home folder that is unknown"):
        find_address(store)


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(BadInput, match="loop of links"):
        given_path(str(tmp_path / "loop"), "here")


@pytest.mark.parametrize("cell", ["9" * 5000, "0" * 5000 + "256", "1" * 4301, "-1"])
def test_a_cell_that_is_no_pixel(tmp_path: Path, cell: str) -> None:
    """int() refuses more than 4,300 digits."""
    header = "label," + ",".join(f"pixel{i}" for i in range(144))
    rows = ["a," + ",".join(["1"] * 144), "b," + ",".join(["1"] * 143 + [cell])]
    path = tmp_path / "images.csv"
    path.write_text("\n".join([header, *rows]))
    with pytest.raises(BadInput, match=r"line 3, column 145: .* is not a whole number") as caught:
        read_csv(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("how", ["not a database", "flipped", "cut"])
def test_a_damaged_database_is_one_line(store: Store, how: str) -> None:
    """Damage behind the first pages is found by the first reader, wherever that is."""
    database = store.mlruns / "mlflow.db"
    prepare_database(database, store.artifacts)
    content = bytearray(database.read_bytes())
    if how == "not a database":
        content[:16] = b"no database here"
    elif how == "flipped":
        content[4096:] = bytes(255 - byte for byte in content[4096:])
    else:
        del content[8192:]
    database.write_bytes(content)
    for command in (("ui",), ("sync",)):
        done = subprocess.run(
            [sys.executable, "-m", "bench", *command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode in (2, 3), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert str(database) in done.stderr


def _failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("debug", ["", "1"])
def test_the_unforeseen_is_one_line_and_a_log(
    store: Store, monkeypatch: pytest.MonkeyPatch, debug: str
) -> None:
    monkeypatch.setenv("BENCH_DEBUG", debug)
    error = ValueError("odd\nthing at http://ann:hunter2@host")
    monkeypatch.setattr("bench.leaderboard.ledger.decode_ledger", _failing(error))
    monkeypatch.setattr("bench.cli.catalogue.shipped_protocols", _failing(error), raising=False)
    monkeypatch.setattr("bench.core.protocol.shipped_protocols", _failing(error))
    done = CliRunner().invoke(cli.app, ["protocols"])
    assert done.exit_code == BenchError.exit_code == 1
    (log,) = (store.mlruns / "logs").glob("error-*.log")
    assert (
        f"unexpected error: ValueError: odd thing at http://ann:***@host; the traceback is in {log}"
        in done.stderr
    )
    assert "Traceback" in log.read_text()
    assert "hunter2" not in log.read_text() + done.stderr + done.stdout
    assert ("Traceback" in done.stderr) is bool(debug)


def _mine(folder: Path, old: str, new: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(TINY.replace('name = "tiny"', 'name = "mine"').replace(old, new))
    return path


@pytest.mark.parametrize(
    ("seeds", "line"),
    [
        ("[]", "seeds: must not be empty; give a value or remove the key"),
        ("[-1]", "seeds.0: input should be greater than or equal to 0 (got -1)"),
        ("[1.5]", "seeds.0: input should be a valid integer (got 1.5)"),
        ("[0, 0]", "seeds: every value may be listed once (got [0, 0])"),
    ],
)
def test_wrong_seeds_are_named_once(store: Store, tmp_path: Path, seeds: str, line: str) -> None:
    path = _mine(tmp_path, "seeds = [0, 1]", f"seeds = {seeds}")
    done = CliRunner().invoke(cli.app, ["run", "-p", str(path)])
    assert (done.exit_code, done.stderr) == (2, f"bench: {path}: {line}\n")


@pytest.mark.parametrize(
    ("encoding", "fault"),
    [
        ("utf-8-sig", ""),
        ("utf-16", "is UTF-16 text; save it as UTF-8"),
        ("latin-1", "is not UTF-8"),
    ],
)
def test_encodings_of_a_protocol(tmp_path: Path, encoding: str, fault: str) -> None:
    """Windows editors write a byte order mark."""
    path = _mine(tmp_path, "for tests", "für Prüfungen")
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode(encoding))
    if fault:
        with pytest.raises(BadInput, match=fault):
            load_protocol(str(path))
    else:
        assert load_protocol(str(path)).description.endswith("für Prüfungen")


@pytest.mark.parametrize(
    ("command", "option", "key"),
    [
        ("run", "--epochs", "train.epochs"),
        ("run", "--batch-size", "train.batch_size"),
        ("sweep", "--lr", "train.lr"),
        ("run", "--validation", "split.validation"),
        ("sweep", "--latent-dims", "latent_dims"),
    ],
)
def test_what_belongs_to_a_protocol_is_pointed_to(
    store: Store, command: str, option: str, key: str
) -> None:
    done = CliRunner().invoke(cli.app, [command, option, "5"])
    assert done.exit_code == 2
    assert f"{option} is no option: `{key}` belongs to a protocol" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_shipped_protocol_can_be_copied_and_changed(store: Store, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["protocols", "--show", "quick"])
    path = tmp_path / "copy.toml"
    path.write_text(done.stdout)
    assert load_protocol(str(path)).fingerprint == load_protocol("quick").fingerprint


def test_where_there_is_nothing_no_list_is_shown(store: Store) -> None:
    done = CliRunner().invoke(cli.app, ["verify", "nonsense"])
    assert done.stderr.endswith("'nonsense'; there are none yet\n") and done.exit_code == 2
    done = CliRunner().invoke(cli.app, ["registry", "rollback", "x.y.d8"])
    assert f"no champions in {store.registry} yet" in done.stderr and done.exit_code == 2


def test_a_promotion_with_nothing_to_do_writes_nothing(store: Store) -> None:
    before = sorted(store.root.rglob("*"))
    done = CliRunner().invoke(cli.app, ["promote"])
    assert done.exit_code == 0 and "nothing in registry/" in done.stderr
    assert sorted(store.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"seeds = [" + b"9" * 5000 + b"]", "a number of more than 4,300 digits"),
        (b"seeds = " + b"[" * 5000, "nested too deeply"),
        (b'description = "' + b"x" * 5000, "not a TOML file"),
        (b'lr = "' + b"x" * 5000 + b'"', "unknown key|missing"),
    ],
)
def test_a_protocol_of_junk_is_a_short_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "junk.toml"
    path.write_bytes(content)
    for read in (lambda: load_protocol(str(path)), lambda: read_winner(path)):
        with pytest.raises(BadInput, match=said) as caught:
            read()
        assert len(str(caught.value)) < 1500


def test_a_word_that_fills_the_screen_is_cut(store: Store) -> None:
    done = CliRunner().invoke(cli.app, ["run", "--dry-run", "-m", "x" * 5000])
    assert done.exit_code == 2
    assert "x" * 79 + "..." in done.stderr
    assert len(done.stderr) < 1500
