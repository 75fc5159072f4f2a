"""Input that once ended in a traceback: its own line, and one boundary for what nobody foresaw."""

import contextlib
import csv
import dataclasses
import http.server
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import TINY
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import BadInput, BenchError, CheckFailed
from bench.core.identity import digest
from bench.core.paths import given_path
from bench.core.protocol import load_protocol
from bench.core.store import Store, open_store
from bench.data.csv_file import read_csv
from bench.data.loading import dataset_reference, load_set
from bench.registry.cards import read_card, sealed
from bench.registry.loading import load_champion
from bench.sweep.storage import open_storage
from bench.sweep.winner import read_winner, winner_path
from bench.tracking.address import find_address
from bench.tracking.database import damage_of, prepare_database, prepared_address

ROOT = Path(__file__).parent.parent
LONG = "a" * 300
ODD_TEXT = "CAST(x'66FFB3' AS TEXT)"


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


@pytest.mark.parametrize("cell", ["9" * 5000, "0" * 5000 + "256", "1" * 4301, "-1", "1e3", "nan"])
def test_a_cell_that_is_no_pixel(tmp_path: Path, cell: str) -> None:
    """int() refuses more than 4,300 digits."""
    header = "label," + ",".join(f"pixel{i}" for i in range(144))
    rows = ["a," + ",".join(["1"] * 144), "b," + ",".join(["1"] * 143 + [cell])]
    path = tmp_path / "images.csv"
    path.write_text("\n".join([header, *rows]))
    with pytest.raises(BadInput, match=r"line 3, column 145: .* is not a whole number") as caught:
        read_csv(path)
    assert len(str(caught.value)) < 400


def odd_schema(content: bytes) -> bytes:
    """The database with a byte that is no text in the SQL of a table, which SQLite quotes."""
    place = content.index(b"CREATE TABLE") + 9
    return content[:place] + b"\xff" + content[place + 1 :]


def test_damage_that_sqlite_cannot_put_in_words_is_one_line(store: Store) -> None:
    """Its message quotes the bytes, and Python cannot decode them."""
    mlflow = store.mlruns / "mlflow.db"
    prepare_database(mlflow, store.artifacts)
    open_storage(store).engine.dispose()
    studies = store.mlruns / "optuna.db"
    for path in (mlflow, studies):
        path.write_bytes(odd_schema(path.read_bytes()))
    for read, path in (
        (lambda: prepare_database(mlflow, store.artifacts), mlflow),
        (lambda: open_storage(store), studies),
    ):
        with pytest.raises(BadInput, match=re.escape(str(path))) as caught:
            read()
        assert "\n" not in str(caught.value)
    assert "decode" in damage_of(mlflow)
    mended = CliRunner().invoke(cli.app, ["doctor", "--fix"])
    assert mended.exit_code == 0, mended.output
    assert damage_of(mlflow) == ""
    open_storage(store).engine.dispose()


@pytest.mark.parametrize("name", ["pixel1\npixel2", "x" * 5000, "a\r\n" * 300])
def test_a_column_of_an_odd_name_is_named_in_one_short_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "images.csv"
    header = ["label", *(f"pixel{i}" for i in range(143)), name]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, ["a", *["1"] * 144]])
    with pytest.raises(BadInput) as caught:
        read_csv(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


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
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
        )
        assert done.returncode in (2, 3), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert str(database) in done.stderr


@pytest.mark.parametrize(
    "row",
    [
        "experiments (experiment_id, name, artifact_location) VALUES (7, 'odd', {})",
        "runs (run_uuid, artifact_uri) VALUES ('7', {})",
        "model_versions (name, version, storage_location) VALUES ('odd', 1, {})",
    ],
)
def test_damage_where_paths_are_kept_is_one_line(store: Store, row: str) -> None:
    """A moved workspace is looked for there, before MLflow reads a word."""
    database = store.mlruns / "mlflow.db"
    prepare_database(database, store.artifacts)
    with contextlib.closing(sqlite3.connect(database)) as opened:
        opened.execute(f"INSERT INTO {row.format(ODD_TEXT)}")
        opened.commit()
    with pytest.raises(BadInput, match=r"mlflow\.db cannot be used: .*bench doctor --fix"):
        prepared_address(store)


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


# A dense network: its weights know every pixel, while convolutions pad 28 x 27 to 28 x 28.
CHAMPION = ROOT / "registry" / "fashion_mnist_mini" / "quick.d8"


@pytest.mark.parametrize(
    "shape", [(1, 32, 32), (3, 28, 28), (1, 28, 27), (0, 0, 0), (1, -28, 28), (1, 10**5, 10**5)]
)
def test_a_card_of_another_size(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """Sealed again, so that only the weights tell; no memory is taken for what it names."""
    folder = shutil.copytree(CHAMPION, tmp_path / "quick.d8")
    card = read_card(folder / "card.json", "card")
    changed = sealed(dataclasses.replace(card, image_shape=shape))
    (folder / "card.json").write_bytes(changed.to_json())
    with pytest.raises(
        CheckFailed, match=r"card\.json and its weights describe different"
    ) as caught:
        load_champion(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>a page</html>"), (404, b""), (200, b"[1, 2]"), (302, b"{}")]
)
@pytest.mark.parametrize("command", ["ui", "sync", "doctor"])
def test_a_server_that_is_not_mlflow(
    store: Store, monkeypatch: pytest.MonkeyPatch, command: str, status: int, body: bytes
) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        done = CliRunner().invoke(cli.app, [command])
        server.shutdown()
    said = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert len(said) <= 1 and "unexpected error" not in done.stderr
    if command == "ui":
        assert done.exit_code == 2
        assert "does not answer as an MLflow server" in said[0]
    elif command == "doctor":
        assert done.exit_code == 3 and "does not answer" in done.stdout


@pytest.mark.parametrize("text", ["a\0b", "\0", '"\\u0000'])
@pytest.mark.parametrize("key", ["name", "dataset", "description", "models"])
def test_a_nul_in_a_protocol(tmp_path: Path, tiny_protocol: str, key: str, text: str) -> None:
    """As a character, which TOML forbids, and as an escape, which it allows."""
    path = tmp_path / "nul.toml"
    for given in (f'{key} = "{text}"', f'{key} = "a\\u0000b"', f'{key} = ["a\\u0000b"]'):
        lines = Path(tiny_protocol).read_text().splitlines()
        path.write_text("\n".join(given if ln.startswith(f"{key} = ") else ln for ln in lines))
        done = CliRunner().invoke(cli.app, ["run", "--dry-run", "--protocol", str(path)])
        if key == "description" and given.startswith('description = "a\\'):
            continue  # a text that is only shown
        assert done.exit_code == 2, (given, done.output)
        (line,) = [line for line in done.stderr.splitlines() if line]
        assert "unexpected error" not in line and "\0" not in line


@pytest.mark.parametrize(
    ("column", "junk"),
    [
        ("val_mse", "[]"),
        ("val_mse", "nan"),
        ("test_mse", "9" * 5000),
        ("parameters", "many"),
        ("latent_dim", "-3"),
        ("closed_form", "perhaps"),
        ("run_key", "../x"),
        ("finished", "yesterday"),
        ("seed", "-1"),
        ("seed", "9" * 5000),
        ("dataset", "../../x"),
        ("protocol", "a|b"),
        ("track", "d-1"),
        ("model", "\x1b[2J"),
        ("recipe", "tuned (lots)"),
        ("status", "odd"),
    ],
)
def test_a_ledger_row_of_junk_with_a_right_digest(store: Store, column: str, junk: str) -> None:
    with (ROOT / "registry" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = list(rows[0])
    cells = {name: text for name, text in {**rows[0], column: junk}.items() if text}
    del cells["row_digest"]
    first = {**cells, "row_digest": digest(cells)}
    store.registry.mkdir()
    with (store.registry / "results.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows([first, *rows[1:]])
    for command in (["leaderboard"], ["leaderboard", "--check"], ["promote"]):
        done = CliRunner().invoke(cli.app, command)
        assert done.exit_code in (2, 3), (command, done.output)
        (line,) = [line for line in done.stderr.splitlines() if line]
        assert "unexpected error" not in line and "results.csv" in line
        assert len(line) < 700 and "\x1b" not in line


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("command", [("models",), ("models", "--json"), ("leaderboard",)])
def test_an_output_that_takes_nothing_is_no_fault_of_the_workspace(store, command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *command],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("bench: "))
    assert (
        line == "bench: cannot write the output: No space left on device; send it to another place"
    )
    assert str(store.root) not in line and "Traceback" not in done.stderr
