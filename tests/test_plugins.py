"""Packages that add models, data sets and metrics; what is wrong with one costs nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from installed import EXAMPLE, describe, install
from typer.testing import CliRunner, Result

from bench.cli import app
from bench.core.errors import BadInput
from bench.core.plugins import GROUPS, Table, installed
from bench.core.store import Store
from bench.data import DATASETS
from bench.metrics import METRICS, Metric
from bench.models import own
from bench.models.zoo import variant
from bench.records.files import iter_records

PROTOCOL = """
name = "plug"
description = "a model, a data set and a metric of an installed package, for tests"
dataset = "example_bench.clothes"
models = ["pca", "example_bench.narrow"]
latent_dims = [4]
seeds = [0, 1, 2]
[split]
kind = "pooled"
validation = 10
test = 12
[train]
epochs = 3
batch_size = 16
lr = 0.003
schedule = "one_cycle"
[evaluation]
metrics = ["mse", "psnr", "ssim", "example_bench.worst_pixel"]
"""
Add = Callable[[str, str], None]


def here(*arguments: str) -> Result:
    """The end of a command that is run in this process."""
    return CliRunner().invoke(app, arguments)


def _forget() -> None:
    installed.cache_clear()
    own._rows.clear()
    for table in (DATASETS, METRICS):
        table._loaded.clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the import path for packages; forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    _forget()
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    _forget()


def test_the_example_package_is_listed_run_and_scored(
    site: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    install(EXAMPLE, site)
    assert {len(installed(group)) for group in GROUPS} == {1}
    assert "example_bench.narrow" in here("models").stdout
    assert "example_bench" not in sys.modules, "metadata alone names it"
    assert "example_bench.clothes" in here("data", "list", "--json").stdout
    assert here("data", "check", "example_bench.clothes").exit_code == 0
    protocol = tmp_path / "plug.toml"
    protocol.write_text(PROTOCOL)
    ended = here("run", "-p", str(protocol), "--json")
    assert ended.exit_code == 0, ended.output
    (line,) = json.loads(ended.stdout)["own"]
    assert "would be rank 3 of 3 in example_bench.clothes.plug.d4" in line
    records = list(iter_records(store.records))
    assert {record.spec.model for record in records} == {
        *("pca", "mean_image", "example_bench.narrow"),
    }
    for record in records:
        assert 0 < record.scores["test"]["example_bench.worst_pixel"] <= 1
        assert bool(record.spec.source) == (record.spec.model == "example_bench.narrow")
    shown = here("leaderboard", "-p", str(protocol), "--json")
    rows = {row["model"]: row for row in json.loads(shown.stdout)}
    assert rows["example_bench.narrow"]["own"]
    assert rows["pca"]["test_example_bench.worst_pixel"] > 0
    assert here("verify", "--all").exit_code == 0


def test_the_metric_is_the_largest_error(site: Path) -> None:
    import torch

    from bench.core.protocol import EvaluationConfig
    from bench.metrics import per_image, seen_of

    install(EXAMPLE, site)
    x, x_hat = torch.rand(5, 1, 12, 12), torch.rand(5, 1, 12, 12)
    seen = seen_of({"images": x, "reconstructions": x_hat})
    found = per_image(["example_bench.worst_pixel"], seen, EvaluationConfig())
    expected = [abs(a - b).max() for a, b in zip(x.numpy(), x_hat.numpy(), strict=True)]
    assert found["example_bench.worst_pixel"].tolist() == pytest.approx(expected)


def install_broken(site: Path, code: str) -> None:
    """Install a package whose only module, a plug-in of each kind, holds this code."""
    (site / "broken_bench.py").write_text(code + "\n")
    groups = "".join(f"[{group}]\nbad = broken_bench:ROW\n" for group in GROUPS)
    describe(site, "broken-bench", groups)


@pytest.mark.parametrize(
    "command",
    [
        *(("models",), ("data", "list"), ("protocols",), ("leaderboard",), ("doctor",)),
        *(("run", "-p", "quick", "--model", "pca", "--dry-run"), ("registry", "list")),
    ],
    ids=" ".join,
)
def test_a_broken_plug_in_breaks_no_other_command(
    site: Path, store: Store, command: tuple[str, ...]
) -> None:
    install_broken(site, "raise SystemExit(1)")
    ended = here(*command)
    assert ended.exit_code == 0, ended.output


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import not_there_at_all", "No module named 'not_there_at_all'"),
        ("def x(:", "invalid syntax"),
        ("", "has no ROW"),
        ("ROW = 3", "a int"),
    ],
)
def test_a_broken_plug_in_is_one_line(site: Path, store: Store, code: str, reason: str) -> None:
    install_broken(site, code)
    listed = here("data", "list").stderr
    assert "broken-bench" in listed and reason in listed
    for option in (("--model",), ("--dataset",)):
        ended = here("run", *option, "broken_bench.bad", "--dry-run")
        assert ended.exit_code == 2 and "\n" not in ended.stderr.strip(), ended.stderr
        assert "broken_bench.bad" in ended.stderr
    assert "broken_bench.bad" in str(METRICS.missing("broken_bench.bad"))
    assert "broken_bench.bad" not in METRICS and "mse" in METRICS


def test_what_a_plug_in_prints_goes_to_stderr(site: Path, store: Store) -> None:
    (site / "loud_bench.py").write_text("print('imported')\nROW = 3\n")
    groups = "".join(f"[{group}]\nloud = loud_bench:ROW\n" for group in GROUPS)
    describe(site, "loud-bench", groups)
    said = ""
    for command in ("doctor", "data"):
        ended = here(command, *(("list",) if command == "data" else ()), "--json")
        assert ended.exit_code == 0, ended.output
        json.loads(ended.stdout)
        said += ended.stderr
    assert "imported" in said


def test_no_table_of_ours_needs_a_package(site: Path) -> None:
    """A broken one is there before anything of bench is imported."""
    (site / "broken_bench.py").write_text("raise SystemExit(1)\n")
    describe(site, "broken-bench", "[bench.metrics]\nbad = broken_bench:ROW\n")
    code = "import bench.registry.publishing, bench.figures, bench.report, bench.sweep; print(1)"
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "1\n", done.stderr


def test_a_name_that_exists_is_refused(site: Path) -> None:
    describe(site, "twice", "[bench.models]\nnet = a_bench:Net\nnet = b_bench:Net\n")
    with pytest.raises(BadInput, match="the name exists already"):
        variant("twice.net")
    line = next(line for line in here("models").stdout.splitlines() if "twice" in line)
    assert "exists already" in line or "exists" in here("models", "--json").stdout


def test_a_name_that_cannot_be_in_a_path_is_refused(site: Path) -> None:
    describe(site, "odd", "[bench.models]\n../Net = a_bench:Net\n")
    with pytest.raises(BadInput, match="a name that cannot be used"):
        variant("odd.../Net")


def test_no_package_takes_the_name_of_a_row(site: Path) -> None:
    """Names of packages have a dot, rows of bench have none: these stay what they are."""
    describe(site, "x", "[bench.metrics]\nmse = x_bench:ROW\n[bench.models]\npca = x_bench:ROW\n")
    assert "x.mse" in list(METRICS) and METRICS["mse"].title == "Mean squared error"
    assert variant("pca").closed_form
    table = Table({"x.mse": METRICS["mse"]}, "bench.metrics", Metric)
    assert table["x.mse"].id == "mse", "a row of bench is never replaced"
