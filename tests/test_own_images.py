"""The protocol `own`: people's own images get a budget in steps, and say so if it is small."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_protocol import GOOD
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.commands import repeat_command
from bench.core.errors import BadInput
from bench.core.protocol import TrainConfig, default_protocol, load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.core.strict import adapter
from bench.data import load_set
from bench.execution.recomputing import recompute
from bench.execution.runner import execute, ignore_epochs
from bench.figures import draw_files
from bench.leaderboard.steps import few_steps
from bench.records.files import read_arrays, read_weights
from bench.training.train import batches

Folder = Callable[..., str]


@pytest.fixture
def photos(tmp_path: Path) -> Folder:
    """A folder of real images as a person would give it: `photos(600)` is `folder:PATH`."""

    def draw(count: int, name: str = "photos") -> str:
        part = load_set("fashion_mnist_mini").parts["train"]
        for position in np.random.default_rng(0).permutation(len(part.images))[:count]:
            path = tmp_path / name / f"class{part.labels[position]}" / f"{position}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part.images[position].squeeze()).save(path)
        return f"folder:{tmp_path / name}"

    return draw


@pytest.mark.parametrize("dataset", ["csv:a.csv", "npz:a.npz", "folder:a", "folder[size=8x8]:a"])
def test_own_images_have_a_default_protocol_of_their_own(dataset: str) -> None:
    assert default_protocol(dataset) == "own"
    assert default_protocol("mnist_mini") == default_protocol("") == "quick"


def test_own_trains_few_and_many_images_for_as_many_steps() -> None:
    recipe = load_protocol("own").train
    for images in (8, 450, 6_000, 60_000):
        resolved = recipe.for_images(images)
        steps = resolved.epochs * resolved.steps_per_epoch(images)
        assert recipe.steps <= steps < recipe.steps + resolved.steps_per_epoch(images)
        assert resolved.for_images(images) == resolved


@pytest.mark.parametrize("images", [1, 2, 63, 64, 65, 66, 129])
def test_an_epoch_has_the_steps_that_are_planned(images: int) -> None:
    import torch

    from bench.evaluation.evaluate import Labelled

    recipe = TrainConfig(epochs=1, batch_size=64, lr=0.1)
    data = Labelled(torch.zeros(images, 1, 4, 4, dtype=torch.uint8), torch.zeros(images).long())
    assert len(list(batches(data, recipe, 0, 0))) == recipe.steps_per_epoch(images)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ("epochs = 2\nsteps = 100", ["train.steps", "excludes train.epochs"]),
        ("", ["train.epochs", "missing", "steps"]),
        ("steps = 0", ["train.steps", "greater than or equal to 1"]),
        ("steps = 1.5", ["train.steps", "integer"]),
    ],
)
def test_a_protocol_has_one_budget(tmp_path: Path, new: str, words: list[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("epochs = 2", new))
    with pytest.raises(BadInput) as caught:
        load_protocol(str(path))
    assert all(word in str(caught.value) for word in ["mine.toml", *words])


def test_a_budget_of_too_many_epochs_is_refused_when_it_is_planned(
    tiny_protocol: str, store: Store
) -> None:
    path = Path(tiny_protocol)
    path.write_text(path.read_text().replace("epochs = 3", "steps = 2_000_000"))
    result = CliRunner().invoke(app, ["run", "-p", tiny_protocol, "--dry-run"])
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "train.steps: 2,000,000 steps are 133,334 epochs of 900 training images" in line


def test_a_budget_in_steps_is_the_same_training_as_its_epochs(
    tiny_protocol: str, store: Store
) -> None:
    """900 images in batches of 64 are 15 steps: 31 to 45 steps are 3 epochs."""
    text = Path(tiny_protocol).read_text()
    Path(tiny_protocol).write_text(text.replace("epochs = 3", "steps = 31"))
    by_steps = plan(Request(load_protocol(tiny_protocol)), store)
    Path(tiny_protocol).write_text(text)
    by_epochs = plan(Request(load_protocol(tiny_protocol)), store)
    assert [a.run_key for a in by_steps.specs] == [b.run_key for b in by_epochs.specs]
    assert by_steps.protocol.fingerprint != by_epochs.protocol.fingerprint
    spec = by_steps.specs[0]
    again = adapter(RunSpec).validate_json(adapter(RunSpec).dump_json(spec))
    assert again == spec and again.definition is not None
    assert (again.train.epochs, again.definition.train.steps) == (3, 31)


def test_own_needs_images_and_says_how_to_give_them(store: Store) -> None:
    result = CliRunner().invoke(app, ["run", "--protocol", "own", "--dry-run"])
    assert result.exit_code == 2
    assert "own has no data set of its own; give one with --dataset" in result.stderr
    listed = CliRunner().invoke(app, ["protocols", "--json"])
    row = next(row for row in json.loads(listed.stdout) if row["name"] == "own")
    assert row["cost_note"] == "give --dataset"


def test_own_images_are_planned_under_own_and_repeated_by_the_command_that_is_shown(
    photos: Folder, store: Store
) -> None:
    dataset = photos(40)
    made = plan(Request(load_protocol(default_protocol(dataset)), dataset=dataset), store)
    spec = made.specs[0]
    assert spec.protocol == "own" and f"--dataset {dataset}" in repeat_command(spec)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (30, 31)], ids=str)
def test_images_of_any_sides_are_trained_scored_and_verified_on_their_own_pixels(
    tmp_path: Path, store: Store, size: tuple[int, int]
) -> None:
    part = load_set("fashion_mnist_mini").parts["train"]
    images = np.pad(part.images[:60].squeeze(1), ((0, 0), (2, 2), (2, 2)))
    cut = images[:, -size[0] :, -size[1] :]
    np.savez(tmp_path / "odd.npz", x_train=cut, y_train=part.labels[:60])
    protocol = load_protocol("own")
    brief = dataclasses.replace(protocol, train=dataclasses.replace(protocol.train, steps=4))
    wanted = Request(brief, ("cnn_ae", "pca"), (4,), dataset=f"npz:{tmp_path / 'odd.npz'}")
    specs = {spec.model: spec for spec in plan(wanted, store).specs}
    for spec in specs.values():
        record = execute(spec, store, ignore_epochs)
        assert record.image_shape == (1, *size)
        arrays = read_arrays(store.records, record)
        assert arrays["shown/test/x_hat"].shape[1:] == (1, *size)
        assert len(draw_files.__wrapped__(record, arrays)) >= 6
        again = recompute(spec, read_weights(store.records, record)).scores
        assert again == {part: dict(scores) for part, scores in record.scores.items()}


def test_600_photographs_get_enough_steps_by_default_and_quick_says_few(
    photos: Folder, store: Store
) -> None:
    dataset = photos(600)
    by_quick = plan(Request(load_protocol("quick"), ("cnn_ae",), dataset=dataset), store)
    few = "192 steps a run are few to compare networks by"
    assert any(note.startswith(few) for note in by_quick.notes)
    by_default = plan(
        Request(load_protocol(default_protocol(dataset)), ("cnn_ae",), dataset=dataset), store
    )
    assert not by_default.notes
    sizes, train = by_default.sizes, by_default.specs[0].train
    assert train.epochs * train.steps_per_epoch(sizes.train) >= 2000


@pytest.mark.slow
def test_600_photographs_are_ranked_by_default_as_after_a_long_training(
    photos: Folder, store: Store
) -> None:
    """Ten times as many epochs as `quick` has: .0163 for cnn_ae and .0200 for fc_ae."""
    dataset = photos(600)
    errors: dict[str, float] = {}
    for model in ("cnn_ae", "fc_ae"):
        request = Request(load_protocol("own"), (model,), (32,), seeds=(0,), dataset=dataset)
        (spec,) = plan(request, store).specs
        record = execute(spec, store, ignore_epochs)
        assert not few_steps(record)
        errors[model] = record.scores["val"]["mse"]
    assert errors["cnn_ae"] < 0.9 * errors["fc_ae"]
    assert errors["cnn_ae"] < 0.019
