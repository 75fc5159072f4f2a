"""`bench leaderboard|promote|verify|registry` as a person meets them."""

import errno
import json
import os
import re
import shutil

import pytest
from one_process import run_all
from registry_store import D4, D8, files_of
from typer.testing import CliRunner

from bench.cli import app
from bench.records.files import iter_records

pytest_plugins = ("registry_fixtures",)
pytestmark = pytest.mark.usefixtures("mlflow_told")


def bench(*arguments):
    """Run a command in this process; (exit code, stdout, stderr)."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_from_runs_to_champions(ran):
    code, out, err = bench("leaderboard")
    assert (code, "fc_ae" in out) == (0, True)
    assert "10 rows are new" in err
    assert not ran.registry.exists()
    code, out, err = bench("leaderboard", "--write")
    assert code == 0
    assert "registry/results.csv" in err
    assert bench("promote", "--dry-run")[0] == 0
    code, out, err = bench("promote")
    assert code == 0
    assert "becomes champion" in out
    code, out, err = bench("leaderboard", "--write")
    assert "reproduced 10 of 10 rows of quick on fashion_mnist_mini" in err
    assert "no file changed" in err
    code, out, err = bench("leaderboard", "--check")
    assert (code, out) == (0, "")
    code, out, err = bench("verify")
    assert code == 0
    assert "[2/2]" in err
    assert out.count("verified") == 2


def test_json_is_pure(promoted):
    for arguments in (
        ["leaderboard", "--json"],
        ["promote", "--json"],
        ["registry", "list", "--json"],
        ["registry", "show", D8, "--json"],
        ["verify", D8, "--json"],
    ):
        code, out, _ = bench(*arguments)
        assert code == 0
        json.loads(out)
    rows = json.loads(bench("leaderboard", "--json")[1])
    ranks = {row["row"]: row["rank_low"] for row in rows if not row["committed_with_bench"]}
    assert ranks == {"pca": 1, "fc_ae": 2, "mean_image": 3}


def test_an_altered_table_fails_its_check(promoted):
    path = promoted.registry / "README.md"
    path.write_text(path.read_text().replace("| 1 | **pca** | 0.0", "| 1 | **pca** | 0.1", 1))
    code, _, err = bench("leaderboard", "--check")
    assert code == 3
    assert "registry/README.md line" in err
    assert err.count("\n") == 1


def test_rollback_by_command(replaced):
    before = files_of(replaced.registry)
    code, out, _ = bench("registry", "list")
    assert code == 0
    assert D4 in out
    code, _, err = bench("registry", "rollback", D8)
    assert code == 0
    assert "fc_ae is champion again in place of pca" in err
    assert "fc_ae, champion of" in bench("registry", "show", D8)[1]
    assert bench("leaderboard", "--check")[0] == 0
    assert bench("registry", "rollback", D8)[0] == 0
    assert files_of(replaced.registry) == before


def test_a_rollback_on_a_full_disk_is_one_line_and_changes_nothing(replaced, monkeypatch):
    before = files_of(replaced.root)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, _, err = bench("registry", "rollback", D8)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith(f"bench: cannot write the registry at {replaced.mlruns}/registry.change")
    assert re.search(r": No space left on device; [\d,]+ bytes needed, [\d,]+ free; ", line)
    assert files_of(replaced.root) == before
    assert bench("registry", "rollback", D8)[0] == 0


def test_verify_by_run_key_and_all(promoted):
    record = next(iter_records(promoted.records))
    assert bench("verify", record.run_key[:8])[0] == 0
    weights = promoted.records / record.run_key / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    code, _, err = bench("verify", "--all")
    assert code == 3
    assert record.run_key in err.splitlines()[-1]
    assert "1 of 12 did not verify" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["leaderboard", "--write", "--check"], "exclude each other"),
        (["leaderboard", "--refresh"], "together with --write"),
        (["leaderboard", "--check", "-p", "quick"], "always checks everything"),
        (["leaderboard", "-p", "quik"], "did you mean quick"),
        (["leaderboard", "--dataset", "fashion_mnist_mimi"], "fashion_mnist_mini"),
        (["registry", "show", "fashion_mnist_mini.quick.d9"], "did you mean"),
        (["registry", "rollback", "nothing-like-it"], "known: "),
        (["registry", "rollback", D8], "nothing to roll back to"),
        (["verify", "0000"], "unknown track with a champion, or run"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(promoted, arguments, says):
    before = files_of(promoted.registry)
    code, out, err = bench(*arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert files_of(promoted.registry) == before


def test_an_empty_workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    code, out, err = bench("leaderboard")
    assert code == 0 and "bench run" in err
    assert out.count("ranked by validation") == out.count("committed with bench: ") > 0
    rows = json.loads(bench("leaderboard", "--json")[1])
    assert all(row["committed_with_bench"] for row in rows)
    assert bench("registry", "show", "x")[0] == 2
    assert bench("verify")[0] == 2
    assert bench("promote")[0] == 0
    assert bench("leaderboard", "--check")[0] == 3


def test_an_unwritable_registry_is_said(ran):
    shutil.rmtree(ran.registry, ignore_errors=True)
    ran.registry.write_text("a file where the folder should be")
    code, _, err = bench("leaderboard", "--write")
    assert code == 3
    assert "registry is no folder; move it away" in err
    assert ran.registry.read_text() == "a file where the folder should be"


def test_where_no_number_changed_nothing_is_imported_to_draw_it(promoted):
    """The second `make leaderboard` is short."""
    ended = run_all(
        (("leaderboard", "--write"), ("promote",)),
        ("torch", "matplotlib", "seaborn", "mlflow"),
        BENCH_HOME=str(promoted.root),
        BENCH_TRACKING="off",
    )
    assert (ended.codes, ended.loaded) == ([0, 0], ""), ended.said
