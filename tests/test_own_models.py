"""Models of your own: named by a file, trained alone, ranked beside the committed rows."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from tiny import TINY
from typer.testing import CliRunner, Result

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.store import Store, shipped
from bench.execution import Finished
from bench.execution.cluster import Trainer
from bench.execution.parcel import Parcel
from bench.execution.runner import build_for
from bench.leaderboard.competitions import Competition, competitions, in_protocol
from bench.leaderboard.ledger import LedgerRow, current
from bench.models import own
from bench.models.zoo import MODELS, build, known_model, variant
from bench.records.files import iter_records, read_arrays
from bench.registry.own import _Beside
from bench.registry.results import read_results

ROOT = Path(__file__).parent.parent


def here(*arguments: str) -> Result:
    """The end of a command that is run in this process."""
    return CliRunner().invoke(app, arguments)


def readme_model() -> str:
    """The model in the README."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (found,) = [block for block in blocks if "(Autoencoder)" in block]
    return str(found)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No model is known before a test, as in a new process."""
    for known in (own._known, own._rows):
        known.clear()
    yield
    for known in (own._known, own._rows):
        known.clear()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace in which the README's model was run; its file is gone since."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "tiny.toml").write_text(TINY.replace("[0, 1]", "[0, 1, 2]"))
    (folder / "mine.py").write_text(readme_model())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_HOME", str(folder))
        for name in ("MLFLOW_TRACKING_URI", "BENCH_TRACKING"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        ended = here("run", "-p", "tiny.toml", "--model", "mine.py:Net", "--json")
        assert ended.exit_code == 0, ended.output
        (folder / "said.txt").write_text(ended.stderr)
        (folder / "result.json").write_text(ended.stdout)
        shutil.move(folder / "mine.py", folder / "mine.py.away")
        yield folder


def test_the_model_of_the_readme_has_ten_lines() -> None:
    code = readme_model().partition("class Net")[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_it_is_trained_alone_with_the_closed_forms_and_told_where_it_would_stand(
    home: Path,
) -> None:
    result = json.loads((home / "result.json").read_text())
    (line,) = result["own"]
    assert line in " ".join((home / "said.txt").read_text().splitlines())
    assert re.search(
        r"mine\.net-[0-9a-f]{6} at latent size 4: .*would be rank \d( to \d)? of 3 in "
        r"fashion_mnist_mini.tiny.d4; [+−][\d.]+ % over PCA on test",
        line,
    )
    models = {record.spec.model for record in iter_records(Store(home).records)}
    assert models == {"mean_image", "pca", line.partition(" ")[0]}
    sources = {r.spec.model: r.spec.source for r in iter_records(Store(home).records)}
    name = line.partition(" ")[0]
    assert sources.pop(name)[:6] == name[-6:] and not any(sources.values())


def test_it_stands_in_a_table_of_its_own_and_never_in_the_ledger(home: Path) -> None:
    shown = here("leaderboard", "-p", "tiny.toml", "--json")
    rows = json.loads(shown.stdout)
    assert [row["own"] for row in rows].count(True) == 1
    assert all(row["own"] == row["model"].startswith("mine.net-") for row in rows)
    assert "Models of your own" in here("leaderboard", "-p", "tiny.toml").stdout
    written = here("leaderboard", "--write")
    assert written.exit_code == 0, written.output
    assert here("promote").exit_code == 0
    assert here("leaderboard", "--check").exit_code == 0
    for path in (home / "registry").rglob("*"):
        assert "mine.net" not in path.name
        assert path.is_dir() or b"mine.net" not in path.read_bytes()


def test_commands_without_its_file_say_what_to_give(home: Path) -> None:
    for command in (("leaderboard",), ("sync",), ("figures", "tiny"), ("doctor",)):
        assert here(*command).exit_code == 0
    every = here("verify", "--all")
    assert every.exit_code == 0 and "--model path/to/file.py:Class" in every.output
    (key, *_) = [r.run_key for r in iter_records(Store(home).records) if r.spec.source]
    one = here("verify", key)
    assert one.exit_code == 2 and "--model path/to/file.py:Class" in one.stderr
    assert "\n" not in one.stderr.strip()


def test_with_its_file_it_is_verified_and_nothing_is_trained_again(home: Path) -> None:
    shutil.copy(home / "mine.py.away", home / "mine.py")
    try:
        done = here("verify", "--model", "mine.py:Net", "--json")
        assert done.exit_code == 0, done.output
        assert [row["problem"] for row in json.loads(done.stdout)] == ["", "", ""]
        again = here("run", "-p", "tiny.toml", "-m", "mine.py:Net", "--json")
        assert json.loads(again.stdout)["trained"] == 0
        (home / "mine.py").write_text(readme_model() + "# changed\n")
        changed = here("verify", "--model", "mine.py:Net")
        assert changed.exit_code == 2 and "there is no record of mine.net-" in changed.stderr
        dry = here("run", "-p", "tiny.toml", "-m", "mine.py:Net", "--dry-run", "--json")
        runs = json.loads(dry.stdout)["runs"]
        assert [run["recorded"] for run in runs if run["model"].startswith("mine.")] == [False] * 3
    finally:
        (home / "mine.py").unlink()


def test_it_is_compared_filtered_and_used_by_its_class(home: Path) -> None:
    (name,) = {r.spec.model for r in iter_records(Store(home).records) if r.spec.source}
    shutil.copy(home / "mine.py.away", home / "mine.py")
    try:
        shown = here("leaderboard", "-p", "tiny.toml", "-m", "mine.py:Net", "--json")
        assert [row["model"] for row in json.loads(shown.stdout)] == [name]
        compared = here("compare", "mine.py:Net", "pca", "-p", "tiny.toml", "--json")
        assert compared.exit_code == 0, compared.output
        (side,) = json.loads(compared.stdout)
        assert [row["row"] for row in side["rows"]] == [name, "pca"]
        (pair,) = side["pairs"]
        by_seed = [r for r in iter_records(Store(home).records) if r.spec.model == name]
        (pca,) = {
            r.scores["val"]["mse"]
            for r in iter_records(Store(home).records)
            if r.spec.model == "pca"
        }
        ours = np.mean([r.scores["val"]["mse"] for r in by_seed])
        assert pair["difference"] == pytest.approx(100 * (ours / pca - 1), rel=1e-2)
        drawn = here("compare", "pca", name, "-p", "tiny.toml", "--out", str(home / "differ.png"))
        assert drawn.exit_code == 0 and "no weights at hand" not in drawn.output, drawn.output
        known = here(
            "encode", "fashion_mnist_mini", "--from", "mine.py:Net:4", "--out", "codes.npz"
        )
        assert known.exit_code == 0, known.output
        median = sorted(by_seed, key=lambda r: r.scores["val"]["mse"])[1]
        assert f"run {median.run_key}" in " ".join(known.output.split())
        with np.load(home / "codes.npz") as codes:
            assert codes["codes"].shape[1] == 4
        other = here("encode", "fashion_mnist_mini", "--from", "mine.py:Net:5", "--out", "no.npz")
        assert other.exit_code == 2
        assert "bench run --model mine.py:Net --latent-dim 5" in " ".join(other.stderr.split())
        assert not (home / "no.npz").exists()
    finally:
        (home / "mine.py").unlink()


def test_the_served_model_brings_its_code(home: Path) -> None:
    (folder,) = (home / "mlruns" / "artifacts").rglob("code/own")
    assert [path.name for path in folder.iterdir()] == ["mine.py"]
    logged = next(parent for parent in folder.parents if (parent / "MLmodel").is_file())
    record = next(
        r
        for r in iter_records(Store(home).records)
        if r.run_key == json.loads((logged / "artifacts/card.json").read_text())["run_key"]
    )
    arrays = read_arrays(Store(home).records, record)
    served = mlflow.pyfunc.load_model(str(logged))
    again = served.predict(arrays["shown/test/x"].astype(np.float32))
    np.testing.assert_allclose(again, arrays["shown/test/x_hat"], atol=1e-5)
    (folder / "mine.py").write_text(readme_model() + "\n")
    own._rows.clear()
    with pytest.raises(Exception, match="has changed"):
        mlflow.pyfunc.load_model(str(logged))


def test_under_quick_only_the_own_model_is_planned(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closed forms of `quick` are committed; at another size they run along."""
    monkeypatch.setattr("bench.benchmark.plan.shipped", shipped)
    (tmp_path / "mine.py").write_text(readme_model())
    models = (f"{tmp_path}/mine.py:Net",)
    given = Request(load_protocol("quick"), models, baselines=True, beside_committed=True)
    assert {spec.model for spec in plan(given, store).specs} == {own.named(models[0])}
    other = plan(dataclasses.replace(given, latent_dims=(5,)), store)
    assert {"pca", "mean_image"} < {spec.model for spec in other.specs}


def _committed(track: str) -> Competition:
    ledger = read_results(shipped().registry).ledger
    return next(each for each in competitions(current(ledger)) if each.title == track)


def test_a_twin_of_a_committed_row_would_have_its_ranks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed scores per image of a row as those of an own model: no range but its own."""
    competition = _committed("fashion_mnist_mini.quick.d8")
    beside = _Beside(store)
    rows = next(rows for rows in competition.cells.values() if rows[0].model == "cnn_ae")
    twins = [
        dataclasses.replace(
            row, model="mine.net-123456", source="1234567890abcdef", configuration="c" * 16
        )
        for row in rows
    ]
    assert in_protocol(rows[0]) and not in_protocol(dataclasses.replace(rows[0], source="1" * 16))
    original, before = {row.seed: row for row in rows}, beside._scores

    def scores(row: LedgerRow, part: str) -> object:
        return before(original[row.seed] if row.source else row, part)

    monkeypatch.setattr(beside, "_scores", scores)
    cell = beside.placed(competition, twins)
    assert cell.among == 16 and not cell.in_protocol
    # Seventh of fifteen: significantly worse than six, better than eight; and one more beside it.
    assert cell.ranks == (7, 8)
    assert cell.margin == pytest.approx(39.0, abs=0.1)


MODEL = """
from torch import nn
from bench.models import Autoencoder, Choice, FloatRange, Hyperparameter, IntRange
class Net(Autoencoder):
    def __init__(self, image_shape, latent_dim{more}):
        super().__init__(image_shape, latent_dim)
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(self.pixels, latent_dim))
        self.outer = nn.Sequential(nn.Linear(latent_dim, self.pixels), nn.Unflatten(1, image_shape))
    def encode(self, x): return self.inner(x)
    def decode(self, z): return self.outer(z)
"""


@pytest.mark.parametrize(
    ("text", "reference", "says"),
    [
        ("raise SystemExit(3)", "x.py:Net", "cannot be imported (SystemExit: 3)"),
        ("import nothing_here", "x.py:Net", "No module named 'nothing_here'"),
        ("1 / 0", "x.py:Net", "ZeroDivisionError: division by zero"),
        ("def x(:", "x.py:Net", "line 1 is no Python"),
        ("x = " + "-" * 100_000 + "1", "x.py:Net", "x.py is no Python ("),
        ("x = " + "1 + " * 100_000 + "1", "x.py:Net", "x.py is no Python ("),
        ("def f(): f()\nf()", "x.py:Net", "RecursionError"),
        ("class Net: pass", "x.py:Net", "no Autoencoder or Classifier"),
        ("Net = 3", "x.py:Net", "no Autoencoder or Classifier"),
        ("", "x.py:Net", "has no class Net"),
        ("", "y.py:Net", "does not exist"),
        ("", "x.py:", "expected path/to/file.py:Class"),
        ("", "not_there.x:Net", "there is no module not_there"),
        ("", "~nobody_here/x.py:Net", "home folder"),
        (MODEL.replace("def decode", "def other"), "x.py:Net", "lacks decode"),
        (MODEL.replace("{more}", ", depth"), "x.py:Net", "missing a required argument: 'depth'"),
        (MODEL + "    hyperparameters = {'a': [1]}", "x.py:Net", "must be a Hyperparameter("),
        (MODEL + "    hyperparameters = [1]", "x.py:Net", "must be a dict"),
        (
            MODEL + "    hyperparameters = {'lr': Hyperparameter(1.0, FloatRange(0, 1))}",
            "x.py:Net",
            "no key of the recipe",
        ),
        (
            MODEL + "    hyperparameters = {'a': Hyperparameter(9, IntRange(1, 8))}",
            "x.py:Net",
            "default must be a whole number from 1 to 8, got 9",
        ),
        (
            MODEL + "    hyperparameters = {'a': Hyperparameter([], Choice(([],)))}",
            "x.py:Net",
            "must be a FloatRange or IntRange",
        ),
        (
            MODEL + "    hyperparameters = {'a': Hyperparameter(4, IntRange(1, 8))}",
            "x.py:Net",
            "unexpected keyword argument 'a'",
        ),
        (MODEL + "    native_latent_dim = 'x'", "x.py:Net", "native_latent_dim must be"),
    ],
)
def test_what_is_wrong_with_a_model_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reference: str, says: str
) -> None:
    (tmp_path / "x.py").write_text(text.replace("{more}", ""))
    monkeypatch.chdir(tmp_path)
    for command in (("conform", reference), ("run", "--model", reference, "--dry-run")):
        ended = here(*command)
        assert ended.exit_code == 2, ended.output
        assert says in ended.stderr and "\n" not in ended.stderr.strip()


def test_files_of_one_name_keep_their_own_neighbours_and_names(tmp_path: Path) -> None:
    names = []
    for width in (3, 5):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "beside.py").write_text(f"WIDTH = {width}\n")
        text = MODEL.replace("{more}", "").replace(
            "from torch", "from beside import WIDTH\nfrom torch"
        )
        (folder / "mine.py").write_text(text + "    width = WIDTH\n")
        names.append(own.named(f"{folder}/mine.py:Net"))
    assert names[0] != names[1]
    assert [variant(name).build.width for name in names] == [3, 5]  # type: ignore[attr-defined]
    (tmp_path / "3/beside.py").write_text("WIDTH = 4\n")
    assert own.named(f"{tmp_path}/3/mine.py:Net") not in names, "what it imports is its code"
    (tmp_path / "3/unrelated.py").write_text("")
    assert own.named(f"{tmp_path}/5/mine.py:Net") == names[1]


def test_a_file_beside_it_cannot_stand_for_a_library(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    (tmp_path / "mine.py").write_text(MODEL.replace("{more}", ""))
    with pytest.raises(BadInput, match=r"torch.py beside it has the name of a library"):
        own.named(f"{tmp_path}/mine.py:Net")


def test_a_name_alone_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + MODEL)
    with pytest.raises(BadInput, match=r"is your own, .*--model path/to/file.py:Class"):
        variant("mine.net-123456")
    with pytest.raises(BadInput, match=r"unknown model 'mine\.py'"):
        variant("mine.py")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_changes_while_a_command_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL.replace("{more}", ""))
    name = own.named(f"{tmp_path}/mine.py:Net")
    (tmp_path / "mine.py").write_text(MODEL.replace("{more}", "") + "#\n")
    own._rows.clear()  # as in a worker
    with pytest.raises(BadInput, match="has changed since the command began"):
        variant(name)
    with pytest.raises(BadInput, match="has changed since the command began"):
        own.code_of(name)


def test_its_code_travels_to_a_machine_without_its_file(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/mine.py").write_text(MODEL.replace("{more}", ""))
    name = own.named(f"{tmp_path}/here/mine.py:Net")
    torch.manual_seed(0)
    expected = build(name, latent_dim=4).state_dict()
    code = own.code_of(name)
    assert code is not None
    shutil.rmtree(tmp_path / "here")
    own._rows.clear()
    own._known.clear()
    own.adopt(code.written_to(tmp_path / "there"))
    torch.manual_seed(0)
    found = build(name, latent_dim=4).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_worker_of_a_cluster_gets_the_code_with_the_spec(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "mine.py").write_text(readme_model())
    protocol = load_protocol(str(home / "tiny.toml"))
    request = Request(protocol, (f"{tmp_path}/mine.py:Net",), seeds=(7,))
    (spec,) = plan(request, Store(tmp_path)).specs
    parcel = Parcel(code=own.code_of(spec.model))
    (tmp_path / "mine.py").unlink()
    own._rows.clear()
    own._known.clear()
    worker = Trainer()
    worker.train(spec, parcel)
    said = [event for event, _ in worker.listen()]
    assert isinstance(said[-1], Finished), said[-1]


def test_other_code_is_not_taken_for_that_of_a_record(home: Path, tmp_path: Path) -> None:
    record = next(r for r in iter_records(Store(home).records) if r.spec.source)
    own.adopt(dataclasses.replace(_origin(tmp_path), name=record.spec.model))
    with pytest.raises(BadInput, match="was trained with other code"):
        build_for(record.spec, (1, 28, 28), 10)


def _origin(folder: Path) -> own.Origin:
    (folder / "mine.py").write_text(MODEL.replace("{more}", ""))
    found = own.origin_of(own.named(f"{folder}/mine.py:Net"))
    assert found is not None
    return found


def test_a_module_is_named_by_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets_of_test").mkdir()
    (tmp_path / "own_nets_of_test/__init__.py").write_text("")
    (tmp_path / "own_nets_of_test/deep.py").write_text(MODEL.replace("{more}", ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    name = known_model("own_nets_of_test.deep:Net")
    assert re.fullmatch(r"own_nets_of_test_deep\.net-[0-9a-f]{6}|own_nets_of_test[_.]deep.*", name)
    assert build(name, latent_dim=3).code_size == 3  # type: ignore[attr-defined]


def test_a_model_without_a_native_code_is_left_out_there(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL.replace("{more}", ""))
    models = (f"{tmp_path}/mine.py:Net",)
    protocol = load_protocol("quick")
    found = plan(Request(protocol, models, latent_dims=(8,), native=True), store)
    assert {spec.latent_dim for spec in found.specs} == {8}
    assert any("declares no native_latent_dim" in note for note in found.notes)
    with pytest.raises(BadInput, match="declares no native_latent_dim"):
        plan(Request(protocol, models, native=True), store)


BROKEN = {
    "types of numbers": ("self.inner(x)", "self.inner(x).double().float().double()"),
    "the same answer every time": ("self.inner(x)", "self.inner(x) + torch.rand(1)"),
    "images of a batch apart": ("self.inner(x)", "self.inner(x - x.mean(0))"),
    "size of the code": (
        "super().__init__(image_shape, latent_dim)",
        "super().__init__(image_shape, latent_dim + 1)",
    ),
    "every parameter learns": ("self.inner(x)", "self.inner(x).detach()"),
    "the code alone is decoded": (
        "return self.outer(z)",
        "return self.kept if hasattr(self, 'kept') else self.outer(z)",
    ),
    "shapes and value ranges": ("self.outer(z)", "self.outer(z)[:, :, 1:]"),
    "weights stay while it is scored": (
        "return self.inner(x)",
        "self.inner[-1].bias.data.add_(1); return self.inner(x)",
    ),
    "weights written and read": (
        "super().__init__(image_shape, latent_dim)",
        "super().__init__(image_shape, latent_dim); self.k = next(COUNT)",
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_conform_says_which_rule_is_not_kept(tmp_path: Path, rule: str) -> None:
    text = MODEL.replace("{more}", "").replace("from torch", "import itertools, torch\nfrom torch")
    text = text.replace(*BROKEN[rule])
    if rule == "the code alone is decoded":
        text = text.replace("return self.inner(x)", "self.kept = x; return self.inner(x)")
    if rule == "weights written and read":
        text = text.replace("class Net", "COUNT = itertools.count()\nclass Net")
        text = text.replace("self.outer(z)", "self.outer(z) + self.k")
    (tmp_path / "mine.py").write_text(text)
    ended = here("conform", f"{tmp_path}/mine.py:Net", "--json")
    assert ended.exit_code == 2
    assert rule in {row["rule"] for row in json.loads(ended.stdout) if row["missing"]}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit(0)", "SystemExit in line"),
        ("self.levels = 2**40", "Net.levels is 1099511627776, expected a whole number from 1 to"),
        ("self.levels = 'many'", "Net.levels is many, expected a whole number"),
    ],
)
def test_conform_does_not_end_with_its_model(tmp_path: Path, code: str, says: str) -> None:
    text = MODEL.replace("{more}", "")
    if "levels" in code:
        text = text.replace("latent_dim)\n", f"latent_dim); {code}\n", 1)
    else:
        text = text.replace("return self.inner(x)", code)
    text = text.replace("self.outer(z)", "(print('decoded'), self.outer(z))[1]")
    (tmp_path / "mine.py").write_text(f"print('imported')\n{text}")
    ended = here("conform", f"{tmp_path}/mine.py:Net", "--json")
    assert ended.exit_code == 2 and "rules are not kept" in ended.stderr
    assert any(says in row["missing"] for row in json.loads(ended.stdout))
    assert "imported" in ended.stderr


def test_a_model_that_fails_when_it_is_measured_costs_only_its_own_runs(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = MODEL.replace("{more}", "").replace("return self.inner(x)", "os._exit(3)")
    (tmp_path / "bad.py").write_text(f"import os\nprint('imported')\n{text}")
    (tmp_path / "good.py").write_text(readme_model())
    (tmp_path / "tiny.toml").write_text(TINY.replace("test = 7000", "test = 100"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_TRACKING", "off")
    asked = ("run", "-p", "tiny.toml", "--model", "bad.py:Net", "--model", "good.py:Net")
    planned = here(*asked, "--dry-run", "--json")
    assert planned.exit_code == 0, planned.output
    assert "without 2 runs of unknown speed" in " ".join(planned.stderr.split())
    assert "takes is unknown" in planned.stderr and "imported" in planned.stderr
    times = {
        run["model"].partition(".")[0]: run["forecast_seconds"]
        for run in json.loads(planned.stdout)["runs"]
    }
    assert times["bad"] is None and times["good"] > 0
    shown = here(*asked, "--dry-run").stdout
    assert len(re.findall(r"bad\.net-\w+ .* unknown", shown)) == 2
    ended = here(*asked, "--json")
    assert ended.exit_code == 4, ended.output
    result = json.loads(ended.stdout)
    assert {run["run"].partition(".")[0] for run in result["failed"]} == {"bad"}
    assert [run["model"].partition(".")[0] for run in result["runs"]].count("good") == 2


def test_conform_is_content_with_a_good_model_and_a_variant(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(readme_model())
    ended = here("conform", f"{tmp_path}/mine.py:Net", "--model", "fc_ae")
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.count(": kept") == 22 and "MISSING" not in ended.stdout
    assert here("conform").exit_code == 2
    assert "did you mean fc_ae" in here("conform", "fc_a").stderr


@pytest.mark.slow(minutes=1)
def test_the_readme_model_is_ranked_among_the_committed_rows_of_quick(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    (tmp_path / "mine.py").write_text(readme_model())
    ended = here("run", "--model", f"{tmp_path}/mine.py:Net", "-d", "8", "--json")
    assert ended.exit_code == 0, ended.output
    (line,) = json.loads(ended.stdout)["own"]
    assert re.search(r"would be rank \d+( to \d+)? of 16 in fashion_mnist_mini.quick.d8; ", line)
    assert {r.spec.model for r in iter_records(store.records)} == {line.partition(" ")[0]}
    assert os.environ["BENCH_TRACKING"] == "off" and MODELS
