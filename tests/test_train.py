"""fit(): learning, determinism, schedules, keeping the best, stopping, going on, diverging."""

import dataclasses
import math
import random
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench.core.errors import BadInput
from bench.core.protocol import EvaluationConfig, Scalar, SplitConfig, TrainConfig
from bench.core.spec import EpochValues
from bench.data import load_splits
from bench.evaluation.evaluate import Labelled
from bench.models.zoo import MODELS, build_model
from bench.training.checkpoint import load_checkpoint
from bench.training.train import (
    FitConfig,
    FitData,
    FitResult,
    adam_epsilon,
    batches,
    fit,
    learning_rate,
    make_optimizer,
)

RECIPE = TrainConfig(epochs=4, batch_size=64, lr=3e-3, schedule="one_cycle")
TRAINED = [
    name for name, row in MODELS.items() if row.kind == "autoencoder" and not row.closed_form
]


@pytest.fixture(scope="module")
def data() -> FitData:
    splits = load_splits("fashion_mnist_mini", SplitConfig())
    parts = (splits.train, 500), (splits.validation, 200)
    return FitData(
        *(
            Labelled(torch.from_numpy(part.images[:count]), torch.from_numpy(part.labels[:count]))
            for part, count in parts
        )
    )


def _config(recipe: TrainConfig = RECIPE, checkpoint: Path | None = None) -> FitConfig:
    return FitConfig(recipe, EvaluationConfig(), "mse", seed=3, checkpoint=checkpoint)


def _fit(
    data: FitData, config: FitConfig, name: str = "fc_ae", stop_after: int = 0, **given: Scalar
) -> tuple[torch.nn.Module, FitResult]:
    torch.manual_seed(config.seed)
    model = build_model(name, (1, 28, 28), 8, given)
    result = fit(model, data, config, lambda values: values.epoch == stop_after)
    return model, result


def _curve(result: FitResult) -> list[dict[str, float]]:
    return [dict(values.values) for values in result.history]


HEAVY = {
    name: pytest.param(name, marks=pytest.mark.slow(minutes=0.2))
    for name in ("conv_modified_ae", "res_ae")
}


@pytest.mark.parametrize("name", [HEAVY.get(name, name) for name in TRAINED])
def test_every_trained_variant_learns(data: FitData, name: str) -> None:
    _, result = _fit(data, _config(dataclasses.replace(RECIPE, epochs=2)), name)
    first, second = (values["train/loss"] for values in _curve(result))
    assert result.status == "finished"
    assert second < first
    assert result.images == 2 * len(data.train)


@pytest.mark.parametrize(
    ("name", "switched_off"),
    [
        ("denoising_ae", {"level": 0.0}),
        ("contractive_ae", {"contraction": 0.0}),
        ("rae", {"beta": 0.0, "l2": 0.0, "gradient_penalty": 0.0}),
    ],
)
def test_without_its_noise_or_penalty_a_variant_trains_as_the_control_does(
    data: FitData, name: str, switched_off: dict[str, float]
) -> None:
    """`plain_ae` differs from them by one thing: equal seeds give equal weights to the last bit."""
    recipe = dataclasses.replace(RECIPE, epochs=2)
    control = _fit(data, _config(recipe), "plain_ae")[0].state_dict()
    regular = _fit(data, _config(recipe), name, **switched_off)[0].state_dict()
    assert control.keys() == regular.keys()
    assert all(torch.equal(control[key], regular[key]) for key in control)


def test_equal_seeds_give_equal_curves_and_other_seeds_do_not(data: FitData) -> None:
    first, second = _fit(data, _config(), "vae")[1], _fit(data, _config(), "vae")[1]
    assert _curve(first) == _curve(second)
    other = _fit(data, dataclasses.replace(_config(), seed=4), "vae")[1]
    assert _curve(other) != _curve(first)


def test_a_stopped_training_goes_on_to_the_same_result(data: FitData, tmp_path: Path) -> None:
    """With the VAE, whose noise also depends on torch's random state."""
    path = tmp_path / "run.safetensors"
    straight_model, straight = _fit(data, _config(), "vae")
    _, stopped = _fit(data, _config(checkpoint=path), "vae", stop_after=2)
    assert stopped.status == "stopped"
    assert path.is_file()
    resumed_model, resumed = _fit(data, _config(checkpoint=path), "vae")
    assert resumed.status == "finished"
    assert _curve(resumed) == _curve(straight)
    assert list(resumed.snapshots) == list(straight.snapshots)
    for key, value in straight_model.state_dict().items():
        assert torch.equal(value, resumed_model.state_dict()[key]), key


def test_a_damaged_checkpoint_costs_time_but_no_result(data: FitData, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    _fit(data, _config(checkpoint=path), stop_after=2)
    path.write_bytes(path.read_bytes()[:100])
    assert _curve(_fit(data, _config(checkpoint=path))[1]) == _curve(_fit(data, _config())[1])


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_noticed(data: FitData, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    _fit(data, _config(checkpoint=path), stop_after=2)
    sound = path.read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")
    drawn = random.Random(0)
    places = [drawn.randrange(header) for _ in range(120)]
    for place in [*places, *(drawn.randrange(header, len(sound)) for _ in range(60))]:
        content = bytearray(sound)
        content[place] ^= 1 << drawn.randrange(8)
        path.write_bytes(bytes(content))
        assert load_checkpoint(path) is None, place
        assert not path.exists()


def test_a_checkpoint_of_an_earlier_version_has_no_digest(data: FitData, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    _fit(data, _config(checkpoint=path), stop_after=2)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    metadata.pop("digest")
    save_file(tensors, path, metadata)
    assert load_checkpoint(path) is not None
    save_file(tensors, path, {**metadata, "digesu": "0"})
    assert load_checkpoint(path) is None


def test_the_best_weights_are_kept(data: FitData) -> None:
    """A constant rate that is far too high makes some epochs worse than others."""
    wild = TrainConfig(epochs=8, batch_size=64, lr=0.02)
    model, result = _fit(data, _config(wild))
    scores = [values["val/mse"] for values in _curve(result)]
    assert result.best_epoch == scores.index(min(scores)) + 1
    images = data.validation.images.float() / 255
    kept = (model.reconstruct(images) - images).square().mean().item()  # type: ignore[operator]
    assert math.isclose(kept, min(scores), rel_tol=1e-4)


def test_patience_ends_a_training(data: FitData) -> None:
    recipe = TrainConfig(epochs=60, batch_size=64, lr=0.05, patience=2)
    _, result = _fit(data, _config(recipe))
    assert len(result.history) < 60
    assert len(result.history) == result.best_epoch + 2


def test_a_training_that_explodes_is_called_diverged(data: FitData) -> None:
    torch.manual_seed(0)
    model = build_model("fc_ae", (1, 28, 28), 8)
    with torch.no_grad():
        next(iter(model.parameters())).fill_(math.nan)
    result = fit(model, data, _config(), lambda _: False)
    assert result.status == "diverged"
    assert len(result.history) == 1
    assert all(math.isfinite(v) for values in _curve(result) for v in values.values())


def test_progress_pictures_are_spread_over_the_training(data: FitData) -> None:
    _, result = _fit(data, _config(dataclasses.replace(RECIPE, epochs=12)))
    assert list(result.snapshots) == sorted(result.snapshots)
    assert {1, 12} <= set(result.snapshots)
    assert all(images.shape == (8, 1, 28, 28) for images in result.snapshots.values())


def _epoch(data: Labelled, epoch: int) -> torch.Tensor:
    return torch.cat([x for x, _ in batches(data, RECIPE, seed=0, epoch=epoch)])


def test_an_epoch_shows_every_image_once(data: FitData) -> None:
    seen = _epoch(data.train, 1)
    assert torch.equal(
        seen.sum(dim=(1, 2, 3)).sort().values,
        (data.train.images.float() / 255).sum(dim=(1, 2, 3)).sort().values,
    )
    again, other = _epoch(data.train, 1), _epoch(data.train, 2)
    assert torch.equal(seen, again)
    assert not torch.equal(seen, other)


def test_a_lone_last_image_is_left_out(data: FitData) -> None:
    some = Labelled(data.train.images[:129], data.train.labels[:129])
    sizes = [len(x) for x, _ in batches(some, RECIPE, seed=0, epoch=0)]
    assert sizes == [64, 64]


@pytest.mark.parametrize("images", [1, 60])
def test_batches_of_one_and_a_norm_over_batches_are_refused(data: FitData, images: int) -> None:
    one = dataclasses.replace(RECIPE, batch_size=1 if images > 1 else 64, epochs=1)
    few = Labelled(data.train.images[:images], data.train.labels[:images])
    with pytest.raises(BadInput, match="expected at least 2 images"):
        _fit(FitData(few, few), _config(one), "conv_bn_ae")
    _, learned = _fit(FitData(few, few), _config(one), "fc_ae")
    assert learned.status == "finished"


def test_one_cycle_is_that_of_torch() -> None:
    recipe = TrainConfig(epochs=5, batch_size=1, lr=0.1, schedule="one_cycle", warm_up=0.3)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=501, pct_start=0.3 * 500 / 501 + 1 / 501
    )
    ours, theirs = [], []
    for step in range(500):
        ours.append(learning_rate(recipe, step, 100))
        theirs.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 2e-3 * 0.1


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "cosine", "step"])
def test_schedules_stay_within_the_peak(schedule: str) -> None:
    recipe = TrainConfig(epochs=50, batch_size=1, lr=0.1, schedule=schedule)  # type: ignore[arg-type]
    rates = [learning_rate(recipe, step, 10) for step in range(500)]
    assert all(0 < rate <= 0.1 + 1e-12 for rate in rates)
    peak = rates.index(max(rates))
    assert all(a >= b for a, b in pairwise(rates[peak:]))
    expected = {"constant": 0.1, "one_cycle": 0.1 / 250_000, "cosine": 0.0, "step": 0.025}
    assert math.isclose(rates[-1], expected[schedule], abs_tol=1e-4)


def test_values_have_the_keys_that_the_tracker_expects(data: FitData) -> None:
    _, result = _fit(data, _config(), "vae")
    assert isinstance(result.history[0], EpochValues)
    assert set(_curve(result)[0]) == {
        "train/loss",
        "train/reconstruction",
        "train/penalty",
        "train/lr",
        "val/mse",
        "val/psnr",
    }


def test_epsilon_hat_is_the_efficient_form_of_adam() -> None:
    """theta -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps): Kingma and Ba, section 2."""
    recipe = dataclasses.replace(RECIPE, schedule="constant", lr=1e-3, adam_eps_hat=True)
    recipe = dataclasses.replace(recipe, adam_eps=1e-3)
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2, bias=False)
    optimizer = make_optimizer(layer, recipe)
    ours = layer.weight
    by_hand = ours.detach().double().clone()
    mean, square = torch.zeros_like(by_hand), torch.zeros_like(by_hand)
    for step in range(5):
        gradient = torch.randn(2, 3) * 1e-3
        ours.grad = gradient.clone()
        optimizer.step(recipe.lr, adam_epsilon(recipe, step))
        mean = 0.9 * mean + 0.1 * gradient.double()
        square = 0.999 * square + 0.001 * gradient.double() ** 2
        rate = 1e-3 * (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
        by_hand -= rate * mean / (square.sqrt() + 1e-3)
        torch.testing.assert_close(ours.double(), by_hand, rtol=1e-5, atol=1e-8)
    assert adam_epsilon(RECIPE, 0) == RECIPE.adam_eps


@pytest.mark.parametrize(
    ("name", "peer"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimiser_takes_the_steps_of_torch_to_the_last_bit(
    name: Literal["adam", "adamw"], peer: type[torch.optim.Adam]
) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=name, weight_decay=0.01)
    layers = [torch.nn.Linear(5, 4), torch.nn.Linear(5, 4)]
    layers[1].load_state_dict(layers[0].state_dict())
    ours = make_optimizer(layers[0], recipe)
    theirs = peer(layers[1].parameters(), eps=recipe.adam_eps, weight_decay=0.01, fused=True)
    torch.manual_seed(0)
    for step in range(6):
        if step == 3:  # as after a stop
            stopped, ours = ours, make_optimizer(layers[0], recipe)
            ours.load_state_dict(stopped.state_dict())
        for mine, other in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
            # A parameter without a gradient is left alone.
            mine.grad = None if step == 1 and mine.ndim == 1 else torch.randn(mine.shape)
            other.grad = mine.grad
        theirs.param_groups[0]["lr"] = 0.1 / (step + 1)
        theirs.step()
        ours.step(0.1 / (step + 1), recipe.adam_eps)
        for mine, other in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
            assert torch.equal(mine, other)
