"""PCA and the mean image run along, so that a missing margin over PCA has its reason."""

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.benchmark.plan import Plan, Request, plan
from bench.cli import app
from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.store import Store
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.cells import TableCell
from bench.leaderboard.wording import notes
from bench.records.files import iter_records
from bench.registry.publishing import look
from bench.registry.results import Scope
from bench.sweep.plan import SweepRequest, plan_studies

CLOSED = {"mean_image", "pca"}


def _cells(made: Plan) -> set[tuple[str, int | None, int]]:
    return {(spec.model, spec.latent_dim, spec.seed) for spec in made.specs}


def _plan(path: str, store: Store, *models: str, **wanted: object) -> Plan:
    request = Request(load_protocol(path), models, seeds=(7,), baselines=True)
    return plan(dataclasses.replace(request, **wanted), store)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("models", "sizes", "native", "along"),
    [
        (("fc_ae",), (4, 6), False, {("pca", 4), ("pca", 6), ("mean_image", 4), ("mean_image", 6)}),
        (("fc_ae", "pca"), (4,), False, {("mean_image", 4)}),
        (("vae", "cnn_ae"), (), True, {("pca", 32), ("mean_image", 32)}),
        (("vq_vae", "fc_ae"), (), True, {("pca", 64), ("mean_image", 64)}),
        (("fc_ae", "pca"), (), True, {("mean_image", 64)}),
        (("pca",), (4,), False, set()),
    ],
)
def test_closed_forms_run_along_at_the_sizes_of_trained_autoencoders(
    tiny_protocol: str,
    store: Store,
    models: tuple[str, ...],
    sizes: tuple[int, ...],
    native: bool,
    along: set[tuple[str, int]],
) -> None:
    made = _plan(tiny_protocol, store, *models, latent_dims=sizes, native=native)
    asked = {(model, size, 7) for model in models for size in (*sizes, *([None] if native else []))}
    assert _cells(made) == asked | {(model, size, 0) for model, size in along}
    assert any(" along, for the margins" in note for note in made.notes) == bool(along)


def test_classifiers_have_no_closed_forms(store: Store) -> None:
    made = plan(Request(load_protocol("classifier_quick"), baselines=True), store)
    assert not made.notes and {spec.model for spec in made.specs}.isdisjoint(CLOSED)


def test_the_command_names_what_runs_along_and_repeats_nothing(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_TRACKING", "off")
    command = ["run", "-p", tiny_protocol, "--model", "fc_ae", "--seed", "1", "--workers", "1"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "mean_image and pca run along" in first.stderr
    assert {record.spec.model for record in iter_records(store.records)} == CLOSED | {"fc_ae"}
    table = CliRunner().invoke(app, ["leaderboard", "-p", tiny_protocol, "--wide"])
    (row,) = (line for line in table.stdout.splitlines() if " fc_ae " in line)
    assert "%" in row and "no PCA" not in row


def test_a_size_beyond_the_rank_of_the_images_is_said_and_left_out(
    tiny_protocol: str, store: Store
) -> None:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("test = 7000", "test = 7860"))  # 40 are left
    made = _plan(tiny_protocol, store, "fc_ae", latent_dims=(39, 40))
    assert {(model, size) for model, size, _ in _cells(made) if model == "pca"} == {("pca", 39)}
    assert made.notes[0].startswith("pca is left out at code size 40: 40 training images")
    with pytest.raises(BadInput, match="nothing to run: pca is left out at code size 64"):
        _plan(tiny_protocol, store, "pca", native=True)


def test_a_code_as_large_as_the_image_is_said(tiny_protocol: str, store: Store) -> None:
    made = _plan(tiny_protocol, store, "fc_ae", latent_dims=(783, 784, 1000))
    (note,) = (note for note in made.notes if "no bottleneck" in note)
    assert "784, 1,000 is no bottleneck: an image has 784 numbers" in note


def _row(store: Store, model: str) -> TableCell:
    boards = look(store, Scope()).boards
    return next(cell for board in boards for cell in board.cells if cell.model == model)


@pytest.mark.parametrize(
    ("model", "size", "reason"),
    [
        ("fc_ae", 4, "no PCA run at this code size"),
        ("fc_ae", 50, "no PCA: at most 39 components from so few images"),
        ("fc_ae", 800, "no PCA: not a bottleneck"),
        ("vq_vae", None, "no PCA: a discrete code"),
    ],
)
def test_a_row_without_a_margin_says_why(
    tiny_protocol: str, store: Store, model: str, size: int | None, reason: str
) -> None:
    path = Path(tiny_protocol)
    text = path.read_text().replace("test = 7000", "test = 7860")
    path.write_text(text.replace("epochs = 3", "epochs = 1"))
    sizes = () if size is None else (size,)
    request = Request(load_protocol(tiny_protocol), (model,), sizes, size is None, (0,))
    (spec,) = plan(request, store).specs
    execute(spec, store, ignore_epochs)
    assert reason in notes(_row(store, model))


def test_a_winner_is_measured_beside_closed_forms_that_keep_their_recipe(
    tiny_protocol: str, store: Store
) -> None:
    (study,) = plan_studies(SweepRequest(load_protocol(tiny_protocol), ("fc_ae",)), store)
    assert {spec.model for spec in study.defaults.specs} == {"fc_ae"}
    confirming = study.with_recipe(
        {**study.known["default"], "lr": 0.01}, "tuned (3 trials)", store
    )
    runs = [(spec.model, spec.recipe, spec.train.lr) for spec in confirming.specs]
    assert sorted(set(runs)) == [
        ("fc_ae", "default", 0.003),
        ("fc_ae", "tuned (3 trials)", 0.01),
        ("mean_image", "default", 0.003),
        ("pca", "default", 0.003),
    ]
