"""Published figures: what the protocols claim, how a run is judged, and `bench reproduce`."""

import dataclasses
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core import protocol as protocols
from bench.core.protocol import Expected, load_protocol, origin_protocols
from bench.core.store import Store, shipped
from bench.core.track import Track
from bench.data import load_splits
from bench.evaluation.evaluate import mean_loss
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.ledger import LedgerRow, ledger_of, row_of
from bench.leaderboard.origins import (
    MISSED,
    NOT_RUN,
    OTHER,
    REPRODUCED,
    UNPUBLISHED,
    PublishedFigure,
    claims_of,
    findings_of,
    origins_page,
)
from bench.models.zoo import build_model
from bench.registry.results import read_results

PUBLISHED = {
    ("deep_ae", 64, "test", "mse", None): 0.009931,
    ("mlp_classifier", None, "test", "accuracy", None): 0.9007,
    ("mlp_classifier", None, "test", "macro_f1", None): 0.90,
    ("fc_ae", None, "test", "mse", None): 0.0079,
    ("cnn_ae", None, "test", "mse", None): 0.0032,
    ("sparse_ae", None, "test", "mse", None): 0.0078,
    ("rnn_ae", None, "test", "loss", None): 0.0001,
    ("vae", None, "test", "loss", None): 0.0725,
    ("fc_ae", None, "test", "mse", 1): 0.0188,
    ("fc_ae", None, "test", "mse", 10): 0.0101,
    ("cnn_ae", None, "test", "mse", 1): 0.0085,
    ("cnn_ae", None, "test", "mse", 10): 0.0040,
    ("rnn_ae", None, "test", "loss", 1): 0.0021,
    ("rnn_ae", None, "test", "loss", 10): 0.0004,
    ("vae", None, "test", "loss", 1): 0.0774,
    ("vae", None, "test", "loss", 10): 0.0735,
    ("conv_baseline_ae", 128, "test", "ssim", None): 0.8991,
    ("conv_modified_ae", 128, "test", "ssim", None): 0.9180,
    ("conv_modified_ae", 64, "test", "ssim", None): 0.8737,
    ("tapered_ae", None, "train", "loss", None): 0.1431,
    ("conv_bn_ae", None, "train", "loss", None): 0.0019,
}
TINY = """
name = "s9"
description = "a recipe of two epochs, for tests"
dataset = "fashion_mnist_mini"
models = ["pca", "fc_ae", "vae"]
latent_dims = [4]
seeds = [42]
selection_metric = "mse"
ranked = false
compare_with = "quick"
experiment = "reproduction"
[split]
kind = "pooled"
validation = 0
test = 7600
[train]
epochs = 2
batch_size = 64
lr = 1e-3
keep = "last"
[evaluation]
metrics = ["mse"]
whole_loss = true
[[expected]]
model = "fc_ae"
latent_dim = 4
metric = "mse"
value = 0.1
tolerance = 0.9
minutes = 0.1
[[expected]]
model = "vae"
latent_dim = 4
metric = "loss"
value = 1e-6
tolerance = 0.5
[[expected]]
model = "fc_ae"
latent_dim = 4
metric = "mse"
epoch = 1
value = 0.1
tolerance = 0.9
"""


def test_tolerances_of_rnn_ae_are_twice_the_rounding_of_its_figures() -> None:
    """They were printed with four decimals."""
    claims = [claim.expected for claim in claims_of(origin_protocols())]
    binding = [each for each in claims if each.model == "rnn_ae" and each.binding]
    assert len(binding) == 4
    assert {each.margin for each in binding} == {2 * 0.00005}


def test_the_protocols_claim_what_was_published() -> None:
    claims = claims_of(
        [p for p in origin_protocols() if p.name in ("s0", "s0_classifier", "s1", "s2")]
    )
    claims += claims_of([p for p in origin_protocols() if p.name.startswith("s3")])
    found = {
        (e.model, e.latent_dim, e.part, e.metric, e.epoch): e.value
        for e in (claim.expected for claim in claims)
    }
    assert PUBLISHED.items() <= found.items()


@pytest.mark.parametrize("protocol", origin_protocols(), ids=lambda p: p.name)
def test_every_claim_can_be_planned_and_has_a_cost(protocol: protocols.Protocol) -> None:
    assert not protocol.ranked
    assert protocol.compare_with in protocols.shipped_protocols()
    for expected in protocol.expected:
        assert expected.model in protocol.models
        free = protocol.native or protocol.task == "classification"
        assert expected.latent_dim in protocol.latent_dims or free
        assert expected.definition
    assert any(expected.minutes for expected in protocol.expected)


def test_a_shorter_budget_is_a_protocol_of_its_own_that_is_never_ranked() -> None:
    s1 = load_protocol("origins/s1")
    names = {(p.name, p.fingerprint) for p in protocols.known_protocols() if not p.ranked}
    shorter = protocols.after_epochs(s1, 10)
    assert shorter.train.epochs == 10
    assert shorter.fingerprint != s1.fingerprint
    assert (shorter.name, shorter.fingerprint) in names


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> tuple[protocols.Protocol, LedgerRow]:
    """The ledger row of a real run under a protocol of an origin's kind."""
    home = tmp_path_factory.mktemp("origins")
    (home / "s9.toml").write_text(TINY)
    protocol = load_protocol(str(home / "s9.toml"))
    store = Store(home).prepare()
    spec = plan(Request(protocol, ("fc_ae",), device="cpu"), store).specs[0]
    record = execute(spec, store, ignore_epochs)
    return protocol, row_of(record)


def judged(protocol: protocols.Protocol, row: LedgerRow, **changes: object) -> str:
    """The verdict on the row's own test error, claimed with these changes."""
    expected = Expected("fc_ae", "mse", row.scores["test_mse"], 0.05, latent_dim=4)
    claim = PublishedFigure(protocol, dataclasses.replace(expected, **changes))
    return findings_of([claim], ledger_of([row]))[0].verdict


def test_verdicts(row: tuple[protocols.Protocol, LedgerRow]) -> None:
    protocol, cells = row
    mse = cells.scores["test_mse"]
    assert judged(protocol, cells) == REPRODUCED
    assert judged(protocol, cells, value=mse / 1.04) == REPRODUCED
    assert judged(protocol, cells, value=mse / 1.06) == MISSED
    assert judged(protocol, cells, value=mse / 1.06, tolerance=mse, relative=False) == REPRODUCED
    assert judged(protocol, cells, value=mse + 0.011, tolerance=0.01, relative=False) == MISSED
    assert judged(protocol, cells, value=mse / 2, binding=False) == OTHER
    assert judged(protocol, cells, latent_dim=8) == NOT_RUN
    assert judged(protocol, cells, part="val") == NOT_RUN
    other = dataclasses.replace(protocol, train=dataclasses.replace(protocol.train, epochs=3))
    assert judged(other, cells) == NOT_RUN


def test_where_only_an_order_was_published_it_is_judged(
    row: tuple[protocols.Protocol, LedgerRow],
) -> None:
    protocol, cells = row
    small = dataclasses.replace(cells, latent_dim=2, run_key="f" * 16, scores={"test_mse": 0.9})

    def verdict(latent_dim: int, lower_than_at: int | None, *rows: LedgerRow) -> str:
        wanted = Expected("fc_ae", "mse", latent_dim=latent_dim, lower_than_at=lower_than_at)
        return findings_of([PublishedFigure(protocol, wanted)], ledger_of(list(rows)))[0].verdict

    assert verdict(4, 2, cells, small) == REPRODUCED
    assert verdict(2, 4, cells, small) == MISSED
    assert verdict(4, 2, cells) == verdict(4, 2, small) == NOT_RUN
    assert verdict(4, None, cells, small) == UNPUBLISHED


def test_several_seeds_are_judged_by_their_mean_and_then_counted(
    row: tuple[protocols.Protocol, LedgerRow],
) -> None:
    """Never by the one that came last; a figure that only some seeds reach says so."""
    protocol, cells = row

    def seeded(seed: int, mse: float, year: int, revision: int = 1) -> LedgerRow:
        return dataclasses.replace(
            cells,
            seed=seed,
            scores={"test_mse": mse},
            finished=datetime(year, 1, 1, tzinfo=UTC),
            run_key=f"{seed:08d}{year}{revision:04d}",
            model_revision=revision,
        )

    rows = [seeded(42, 0.4, 2026), seeded(0, 0.5, 2027), seeded(0, 0.7, 2025)]
    claim = PublishedFigure(protocol, Expected("fc_ae", "mse", 0.45, 0.01, latent_dim=4))
    (found,) = findings_of([claim], ledger_of(rows))
    assert (found.ours, found.verdict) == (pytest.approx(0.45), REPRODUCED)
    assert found.run_keys == (rows[1].run_key, rows[0].run_key)
    assert "| 0.45 (0.5, 0.4) |" in origins_page([found])
    claim = PublishedFigure(protocol, Expected("fc_ae", "mse", 0.5, 0.01, latent_dim=4))
    (found,) = findings_of([claim], ledger_of(rows))
    assert found.verdict == "not reproduced (1 of 2 seeds within)"
    assert found.missed, "one lucky seed is no reproduction"
    claim = PublishedFigure(protocol, Expected("fc_ae", "mse", 0.6, 0.01, latent_dim=4))
    (found,) = findings_of([claim], ledger_of(rows))
    assert found.verdict == MISSED
    # What was run here is judged, not what somebody committed.
    (here,) = findings_of([claim], ledger_of(rows), [seeded(42, 0.6, 2028)])
    assert (here.ours, here.verdict, here.local) == (0.6, REPRODUCED, True)
    assert here.committed is not None
    assert (here.committed.ours, here.committed.verdict) == (pytest.approx(0.45), MISSED)
    diverged = dataclasses.replace(seeded(1, 0.6, 2029), status="diverged", scores={})
    (here,) = findings_of([claim], ledger_of(rows), [diverged])
    assert (here.ours, here.verdict, here.missed) == (None, "diverged", True)
    (here,) = findings_of([claim], ledger_of(rows), [seeded(42, 0.6, 2028), diverged])
    assert (here.verdict, here.missed) == ("not reproduced (1 of 2 seeds within)", True)
    (raised,) = findings_of([claim], ledger_of([*rows, seeded(1, 0.9, 2024, 2)]))
    assert (raised.scores, raised.verdict) == ({1: 0.9}, MISSED)


def test_s0s_note_on_pca_is_true_of_the_published_figure_and_not_of_ours() -> None:
    """Against PCA at the same code size, solved on the same 60,000 images (a row of S1)."""
    (claim,) = claims_of([load_protocol("origins/s0")])
    note = "the published figure is worse than PCA-64 (0.00984), our run is better"
    assert note in claim.expected.note
    ledger = read_results(shipped().registry).ledger
    (pca,) = (row for row in ledger if (row.protocol, row.model) == ("s1", "pca"))
    (deep,) = (row for row in ledger if (row.protocol, row.model) == ("s0", "deep_ae"))
    (found,) = findings_of([claim], ledger)
    assert (pca.code_size, pca.split_digest) == (deep.code_size, deep.split_digest)
    assert claim.expected.value is not None and found.ours is not None
    assert found.ours < pca.scores["test_mse"] < claim.expected.value
    assert f"{pca.scores['test_mse']:.3g}" == "0.00984"


def test_the_figures_of_s2s_baseline_are_not_reproduced() -> None:
    """Only one of three seeds is within the tolerance; the origin ran one."""
    claims = claims_of([load_protocol("origins/s2")])
    found = findings_of(claims, read_results(shipped().registry).ledger)
    baseline = [f.verdict for f in found if f.claim.expected.model == "conv_baseline_ae"]
    assert baseline == ["not reproduced (1 of 3 seeds within)"] * 2


def test_the_row_holds_the_losses_that_origins_publish(
    row: tuple[protocols.Protocol, LedgerRow],
) -> None:
    _, cells = row
    # Without a penalty and on [0, 1], the whole loss is the mean squared error, but not clipped
    # and not averaged image by image.
    assert cells.scores["test_loss"] == pytest.approx(cells.scores["test_mse"], rel=1e-4)
    assert cells.facts["train_loss"] > 0


def test_the_page_shows_published_and_ours(
    row: tuple[protocols.Protocol, LedgerRow],
) -> None:
    protocol, cells = row
    claims = [
        PublishedFigure(protocol, Expected("fc_ae", "mse", 0.5, 0.05, latent_dim=4, note="so so"))
    ]
    findings = findings_of(claims, ledger_of([cells]))
    page = origins_page(findings)
    assert "## S9: `origins/s9`" in page
    line = next(line for line in page.splitlines() if line.startswith("| fc_ae d=4"))
    assert f"| 0.5000 | 5 % | {cells.scores['test_mse']:.4g} |" in line
    assert MISSED in line
    assert line.endswith("| so so |")


def test_what_stands_beside_is_the_nearest_smaller_code(
    row: tuple[protocols.Protocol, LedgerRow],
) -> None:
    protocol, cells = row

    def of_ours(size: int, seed: int, mse: float) -> LedgerRow:
        return dataclasses.replace(
            cells,
            protocol="quick",
            latent_dim=size,
            code_size=size,
            seed=seed,
            scores={"test_mse": mse},
            track=Track("real", size),
            run_key=f"{size:08d}{seed:08d}",
            configuration=f"{size:016d}",
        )

    rows = [of_ours(3, 0, 0.05), of_ours(3, 1, 0.07), of_ours(8, 0, 0.01)]
    claim = PublishedFigure(protocol, Expected("fc_ae", "mse", 0.5, 0.05, latent_dim=4))
    beside = findings_of([claim], ledger_of([cells, *rows]))[0].beside
    assert beside is not None
    assert (beside.code_size, beside.seeds, beside.score) == (3, 2, pytest.approx(0.06))


def test_the_whole_loss_of_a_variational_model_by_hand() -> None:
    """Mean squared error of sampled codes + 0.5 * mean KL per dimension, as its origin says."""
    images = torch.from_numpy(
        load_splits("fashion_mnist_mini", protocols.SplitConfig()).test.images
    )
    images = images[:1000]
    torch.manual_seed(0)
    model = build_model("vae", (1, 28, 28), 32, {"beta": 12.25})
    x = images.float() / 255
    with torch.no_grad():
        mean, log_variance = (t.double().numpy() for t in model.posterior(x))
        generator = np.random.default_rng(1)
        z = mean + np.exp(log_variance / 2) * generator.standard_normal(mean.shape)
        x_hat = model.decode(torch.from_numpy(z).float()).double().numpy()
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1)
    by_hand = ((x_hat - x.double().numpy()) ** 2).mean() + 0.5 * divergence.mean()
    assert mean_loss(model, images) == pytest.approx(by_hand, rel=2e-3)
    assert mean_loss(model, images) == mean_loss(model, images)


@pytest.fixture
def origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> Store:
    """A package whose only origin has a recipe of seconds."""
    folder = tmp_path / "protocols"
    shutil.copytree(protocols.SHIPPED, folder, ignore=shutil.ignore_patterns("s?*.toml"))
    (folder / "origins" / "s9.toml").write_text(TINY)
    monkeypatch.setattr(protocols, "SHIPPED", folder)
    return store


def test_reproduce_end_to_end(origins: Store) -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["reproduce", "--list", "--json"])
    assert listed.exit_code == 0, listed.stderr
    assert [item["verdict"] for item in json.loads(listed.stdout)] == [NOT_RUN] * 3

    first = runner.invoke(app, ["reproduce", "--first-epochs", "--workers", "1", "--json"])
    assert first.exit_code == 0, first.stderr
    (only,) = json.loads(first.stdout)
    assert (only["verdict"], only["protocol"]) == (REPRODUCED, "s9.epoch1")
    assert (only["ours_from"], only["ledger"]) == ("here", None), "nothing was committed"

    done = runner.invoke(app, ["reproduce", "origins/s9", "--workers", "1"])
    assert done.exit_code == 3, done.stderr
    assert "1 of 3 figures were not reproduced: vae d=4 (test loss)" in done.stderr
    assert "mlflow" not in done.stdout.lower()
    assert REPRODUCED in done.stdout

    written = runner.invoke(app, ["leaderboard", "--write"])
    assert written.exit_code == 0, written.stderr
    assert "fc_ae d=4" in (origins.registry / "origins.md").read_text()
    assert "s9" not in (origins.registry / "README.md").read_text()
    assert runner.invoke(app, ["leaderboard", "--check"]).exit_code == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{origins.mlruns / 'mlflow.db'}")
    experiments = {e.name: e.experiment_id for e in client.search_experiments()}
    assert set(experiments) - {"Default"} == {"reproduction"}
    runs = client.search_runs([experiments["reproduction"]])
    # pca, fc_ae and vae at the full budget, fc_ae after one epoch.
    assert len([run for run in runs if run.info.status == "FINISHED"]) == 4


def test_reproduce_needs_no_tracking(origins: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    done = CliRunner().invoke(app, ["reproduce", "--first-epochs", "--workers", "1"])
    assert done.exit_code == 0, done.stderr
    assert REPRODUCED in done.stdout
    assert "mlflow" not in (done.stdout + done.stderr).lower()
    assert not list(origins.mlruns.glob("*mlflow.db*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fc_aa"], ["fc_aa", "did you mean fc_ae"]),
        (["deep_ae", "--first-epochs"], ["deep_ae: no figure of the first epoch"]),
        (["deep_ae", "fc_ae", "--first-epochs"], ["deep_ae: no figure of the first epoch"]),
        ([""], ["empty"]),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: list[str], store: Store) -> None:
    result = CliRunner().invoke(app, ["reproduce", *arguments])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr
