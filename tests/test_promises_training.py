"""What a training keeps, and when it stops, follows validation and the metric that selects alone.

The network here learns nothing: its errors are written down for every epoch, so that the training
loss, the error on validation and the mean PSNR on validation each have another best epoch.
"""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.benchmark.plan import Request, plan
from bench.core.errors import CheckFailed
from bench.core.protocol import EvaluationConfig, TrainConfig, load_protocol
from bench.core.spec import EpochValues, RunSpec
from bench.core.store import Store
from bench.data import load_splits
from bench.evaluation.evaluate import Labelled
from bench.execution import runner
from bench.execution.recomputing import recompute
from bench.execution.runner import build, execute, ignore_epochs
from bench.models.base import Answers, ImageModel, LossTerms
from bench.records.files import read_weights
from bench.training import train
from bench.training.train import FitConfig, FitData, FitResult, fit

ERRORS = [
    (0.10, 0.10),
    (0.04, 0.04),  # the least mean error
    (0.0001, 0.20),  # the highest mean PSNR: that of one image is very high
    (0.04, 0.04),  # as good as the second epoch, and later
    (0.05, 0.05),
    (0.06, 0.06),
    (0.07, 0.07),
    (0.30, 0.30),
]
"""Squared errors of the two validation images by epoch; those of training fall all the time."""
BEST = {"mse": 2, "psnr": 3}
EPOCHS = len(ERRORS)
TRAINING, VALIDATION = 0, 1


class Written(ImageModel):
    """A network of one weight, the number of its epochs, and errors that are written down."""

    watched = ("mse", "psnr")
    age: Tensor

    def __init__(self) -> None:
        super().__init__((1, 12, 12))
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    @property
    def sizes(self) -> dict[str, float]:
        return {}

    def loss(self, x: Tensor, labels: Tensor) -> LossTerms:
        self.age += 1
        with torch.no_grad():
            self.weight.copy_(1 / self.age)
        return LossTerms(self.weight * 1.0, self.weight * 1.0, None)

    def answers(self, x: Tensor, labels: Tensor) -> Answers:
        epoch = int(self.age)
        errors = [1 / (10 * epoch)] * 2 if labels[0] == TRAINING else ERRORS[epoch - 1]
        shift = torch.tensor(errors).sqrt().view(2, 1, 1, 1)
        return {"images": x, "reconstructions": x + shift}

    def snapshot(self, x: Tensor) -> Tensor:
        return x


def _images(label: int) -> Labelled:
    return Labelled(
        torch.full((2, 1, 12, 12), 50 * label, dtype=torch.uint8), torch.full((2,), label)
    )


DATA = FitData(_images(TRAINING), _images(VALIDATION))


def _config(metric: str, checkpoint: Path | None = None, **changes: object) -> FitConfig:
    recipe = TrainConfig(epochs=EPOCHS, batch_size=2, lr=1e-6)
    recipe = dataclasses.replace(recipe, **changes)  # type: ignore[arg-type]
    return FitConfig(recipe, EvaluationConfig(), metric, seed=0, checkpoint=checkpoint)


def _fit(config: FitConfig, stop_after: int = 0) -> tuple[Written, FitResult]:
    model = Written()
    return model, fit(model, DATA, config, lambda values: values.epoch == stop_after)


def _values(result: FitResult, key: str) -> list[float]:
    return [values.values[key] for values in result.history]


def test_the_orders_disagree() -> None:
    """Otherwise the tests below would say nothing."""
    _, result = _fit(_config("mse"))
    losses, errors, ratios = (_values(result, k) for k in ("train/loss", "val/mse", "val/psnr"))
    assert losses == sorted(losses, reverse=True)
    assert errors.index(min(errors)) + 1 == BEST["mse"]
    assert ratios.index(max(ratios)) + 1 == BEST["psnr"]
    assert ratios.index(min(ratios)) + 1 == EPOCHS
    assert errors == pytest.approx([sum(pair) / 2 for pair in ERRORS], rel=1e-4)


@pytest.mark.parametrize("metric", ["mse", "psnr"])
def test_the_kept_epoch_is_the_best_by_the_metric_that_selects(metric: str) -> None:
    """Lower errors are better, and higher ratios; of equals the earlier epoch is kept."""
    model, result = _fit(_config(metric))
    assert len(result.history) == EPOCHS
    assert result.best_epoch == int(model.age) == BEST[metric]


def test_a_metric_that_is_not_watched_selects_as_well() -> None:
    model, result = _fit(_config("mae"))
    scores = _values(result, "val/mae")
    assert int(model.age) == result.best_epoch == scores.index(min(scores)) + 1


@pytest.mark.parametrize("metric", ["mse", "psnr"])
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_counts_epochs_without_a_better_score(metric: str, patience: int) -> None:
    """It begins anew with every better score; an equal one is no better one."""
    model, result = _fit(_config(metric, patience=patience))
    assert len(result.history) == BEST[metric] + patience
    assert int(model.age) == BEST[metric]


@pytest.mark.parametrize("patience", [None, 2])
def test_the_last_weights_are_kept_where_the_recipe_says_so(patience: int | None) -> None:
    model, result = _fit(_config("mse", keep="last", patience=patience))
    last = EPOCHS if patience is None else BEST["mse"] + patience
    assert len(result.history) == int(model.age) == result.best_epoch == last


@pytest.mark.parametrize("metric", ["mse", "psnr"])
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_stop_changes_neither_patience_nor_what_is_kept(
    metric: str, stop: int, tmp_path: Path
) -> None:
    config = _config(metric, tmp_path / "run.safetensors", patience=3)
    stopped_model, stopped = _fit(config, stop_after=stop)
    assert (stopped.status, int(stopped_model.age)) == ("stopped", stop)
    heard: list[int] = []
    model = Written()
    result = fit(model, DATA, config, lambda values: bool(heard.append(values.epoch)))
    assert heard == list(range(1, BEST[metric] + 4)), "the epochs before the stop are told again"
    assert len(result.history) == BEST[metric] + 3
    assert result.best_epoch == int(model.age) == BEST[metric]


def test_a_killed_training_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asked it to stop: checkpoints are written now and then."""
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", -1.0)
    config = _config("mse", tmp_path / "run.safetensors")

    def killed(values: EpochValues) -> bool:
        if values.epoch == 4:
            raise SystemExit
        return False

    with pytest.raises(SystemExit):
        fit(Written(), DATA, config, killed)
    trained: list[int] = []
    model = Written()
    real = model.loss
    model.loss = lambda x, labels: trained.append(1) or real(x, labels)  # type: ignore[method-assign, func-returns-value]
    result = fit(model, DATA, config, lambda _: False)
    assert len(trained) == EPOCHS - 3, "three epochs were saved"
    assert (result.best_epoch, int(model.age)) == (BEST["mse"], BEST["mse"])
    straight = _fit(_config("mse"))[1]
    assert [v.values for v in result.history] == [v.values for v in straight.history]


def test_a_damaged_checkpoint_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"no checkpoint")
    _, result = _fit(_config("mse", path))
    assert len(result.history) == EPOCHS
    assert not path.exists()


def test_progress_pictures_are_of_validation_images() -> None:
    _, result = _fit(_config("mse"))
    assert result.snapshots
    for images in result.snapshots.values():
        assert torch.allclose(images, DATA.validation.images / 255.0)


def test_every_epoch_has_an_order_of_its_own_and_the_seed_decides_it() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(64, 1, 1, 1)
    data = Labelled(images, torch.arange(64))
    recipe = TrainConfig(epochs=3, batch_size=64, lr=1.0)
    orders = {
        tuple(labels.tolist())
        for seed in (0, 1)
        for epoch in (0, 1, 2)
        for _, labels in train.batches(data, recipe, seed, epoch)
    }
    assert len(orders) == 6


def test_the_seed_decides_the_noise_of_a_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was drawn before it in this process."""
    drawn: list[float] = []
    real = Written.loss

    def noisy(self: Written, x: Tensor, labels: Tensor) -> LossTerms:
        drawn.append(torch.rand(()).item())
        return real(self, x, labels)

    monkeypatch.setattr(Written, "loss", noisy)
    for seed in (0, 1, 0):
        torch.rand(3)
        _fit(dataclasses.replace(_config("mse"), seed=seed))
    first, other, again = (drawn[i : i + EPOCHS] for i in range(0, 3 * EPOCHS, EPOCHS))
    assert first == again
    assert len({*first, *other}) == 2 * EPOCHS


def _wild(tiny_protocol: str, store: Store, metric: str, model: str = "fc_ae") -> RunSpec:
    """A rate so high that scores go up and down."""
    path = Path(tiny_protocol)
    text = path.read_text().replace("lr = 0.003", "lr = 0.03").replace("epochs = 3", "epochs = 6")
    path.write_text(text.replace('schedule = "one_cycle"', 'schedule = "constant"'))
    request = Request(load_protocol(tiny_protocol), (model,), seeds=(1,))
    return dataclasses.replace(plan(request, store).specs[0], selection_metric=metric)


@pytest.mark.parametrize("metric", ["mse", "ssim"])
def test_a_record_s_validation_score_is_the_best_of_its_curve(
    metric: str, tiny_protocol: str, store: Store
) -> None:
    """The weights that are scored in the end are those of the best epoch, on the same images."""
    record = execute(_wild(tiny_protocol, store, metric), store, ignore_epochs)
    curve = [values.values[f"val/{metric}"] for values in record.history]
    best = max(curve) if metric == "ssim" else min(curve)
    assert record.scores["val"][metric] == pytest.approx(best, rel=1e-5)
    assert record.scores["test"][metric] != pytest.approx(best, rel=1e-5)
    assert record.facts["best_epoch"] == curve.index(best) + 1


def test_a_closed_form_sees_training_images_alone(tiny_protocol: str, store: Store) -> None:
    spec = _wild(tiny_protocol, store, "mse", "mean_image")
    weights = read_weights(store.records, execute(spec, store, ignore_epochs))
    train_images = load_splits(spec.dataset, spec.split).train.images
    (mean,) = [value for value in weights.values() if value.size == train_images[0].size]
    assert mean.ravel() == pytest.approx(train_images.mean(axis=0).ravel() / 255, abs=1e-5)


def test_seeds_give_other_weights_and_the_same_seed_the_same(
    tiny_protocol: str, store: Store, tmp_path: Path
) -> None:
    spec = _wild(tiny_protocol, store, "mse")
    record = execute(spec, store, ignore_epochs)
    again = execute(spec, Store(tmp_path / "again").prepare(), ignore_epochs)
    other = execute(dataclasses.replace(spec, seed=2), store, ignore_epochs)
    assert record.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert math.isfinite(other.scores["val"]["mse"])


def test_seeds_begin_with_other_weights(tiny_protocol: str, store: Store) -> None:
    """Not only with another order of the images."""
    spec = _wild(tiny_protocol, store, "mse")
    splits = load_splits(spec.dataset, spec.split)
    first, again, other = (
        torch.cat([p.ravel() for p in build(each, splits).parameters()])
        for each in (spec, spec, dataclasses.replace(spec, seed=2))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_seeds_see_the_images_in_another_order(
    tiny_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here both begin with the same weights."""
    spec = _wild(tiny_protocol, store, "mse")
    monkeypatch.setattr(
        runner, "build", lambda each, splits: build(dataclasses.replace(each, seed=0), splits)
    )
    curves = [
        [values.values["train/loss"] for values in execute(each, store, ignore_epochs).history]
        for each in (spec, dataclasses.replace(spec, seed=2))
    ]
    assert curves[0] != curves[1]


def test_weights_are_not_scored_on_other_data(tiny_protocol: str, store: Store) -> None:
    spec = _wild(tiny_protocol, store, "mse", "mean_image")
    weights = read_weights(store.records, execute(spec, store, ignore_epochs))
    with pytest.raises(CheckFailed, match="does not hold the images"):
        recompute(dataclasses.replace(spec, data_digest="0" * 64), weights)
