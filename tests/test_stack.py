"""Seeds of one variant as one network: the results of one-by-one training, member by member."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from bench.core.protocol import EvaluationConfig, TrainConfig
from bench.core.spec import EpochValues, Scalar
from bench.evaluation.evaluate import Labelled, mean_scores
from bench.models.base import ImageModel
from bench.models.zoo import MODELS, build_network
from bench.training.stack import fit_together
from bench.training.train import FitConfig, FitData, FitResult, fit

RECIPE = TrainConfig(epochs=4, batch_size=32, lr=2e-3, schedule="one_cycle")
CASES: list[tuple[str, dict[str, Scalar]]] = [
    *((name, {}) for name, row in MODELS.items() if row.stacks),
    ("denoising_ae", {"corruption": "masking", "level": 0.3}),
    ("rae", {"gradient_penalty": 0.1}),
]


@pytest.fixture(scope="module")
def data() -> FitData:
    """150 + 50 images with structure: a bright square on noise. The last batch is a part."""
    drawn = torch.Generator().manual_seed(3)
    images = torch.randint(0, 90, (200, 1, 12, 12), generator=drawn, dtype=torch.uint8)
    for image, place in zip(images, torch.randint(0, 7, (200, 2), generator=drawn), strict=True):
        row, column = place.tolist()
        image[0, row : row + 5, column : column + 5] += 150
    labels = torch.zeros(200, dtype=torch.int64)
    return FitData(Labelled(images[:150], labels[:150]), Labelled(images[150:], labels[150:]))


def _member(name: str, seed: int, size: int = 5, **extra: Scalar) -> ImageModel:
    torch.manual_seed(seed)
    return build_network(name, (1, 12, 12), size, extra)


def _config(seed: int, recipe: TrainConfig = RECIPE, checkpoint: Path | None = None) -> FitConfig:
    return FitConfig(recipe, EvaluationConfig(), "mse", seed, checkpoint)


def _never(values: EpochValues) -> bool:
    return False


def _together(
    models: Sequence[ImageModel],
    data: FitData,
    configs: Sequence[FitConfig],
    hook: Callable[[int, EpochValues], bool] = lambda place, values: False,
) -> list[FitResult]:
    def of(place: int) -> Callable[[EpochValues], bool]:
        return lambda values: hook(place, values)

    found = dict(fit_together(models, data, configs, [of(i) for i in range(len(models))]))
    return [found[place] for place in range(len(models))]


def _assert_same(one: FitResult, other: FitResult) -> None:
    """The same training, bit for bit; only the time differs."""
    assert (one.status, one.best_epoch, one.images) == (
        other.status,
        other.best_epoch,
        other.images,
    )
    assert len(one.history) == len(other.history)
    for left, right in zip(one.history, other.history, strict=True):
        assert (left.epoch, left.step, left.values) == (right.epoch, right.step, right.values)
    assert list(one.snapshots) == list(other.snapshots)


@pytest.mark.parametrize(("name", "extra"), CASES, ids=str)
def test_results_are_those_of_one_by_one_training(
    name: str, extra: dict[str, Scalar], data: FitData
) -> None:
    """To the bit: differences of 1e-7 move the final error of a deep network by 2 %, and its row
    would not be reproduced where seeds train another way."""
    seeds = (0, 1, 7)
    alone = [_member(name, seed, **extra) for seed in seeds]
    expected = [
        fit(model, data, _config(seed), _never) for model, seed in zip(alone, seeds, strict=True)
    ]
    models = [_member(name, seed, **extra) for seed in seeds]
    found = _together(models, data, [_config(seed) for seed in seeds])
    for one, other in zip(found, expected, strict=True):
        _assert_same(one, other)
        assert one.seconds > 0
    for model, same in zip(models, alone, strict=True):
        for name_of, weights in model.state_dict().items():
            assert torch.equal(weights, same.state_dict()[name_of]), name_of
    losses = {result.history[-1].values["train/loss"] for result in found}
    assert len(losses) == len(seeds), "members share no number"


def test_a_code_of_one_number(data: FitData) -> None:
    """Where a weight is a single row or column."""
    alone, models = ([_member("plain_ae", seed, 1) for seed in (0, 1)] for _ in range(2))
    expected = [fit(model, data, _config(seed), _never) for seed, model in enumerate(alone)]
    for one, other in zip(_together(models, data, [_config(0), _config(1)]), expected, strict=True):
        _assert_same(one, other)


def test_each_member_ends_by_its_own_patience_and_keeps_its_own_best(data: FitData) -> None:
    """At a rate so high that scores go up and down, seeds end in different epochs."""
    recipe = TrainConfig(
        epochs=40, batch_size=32, lr=6e-2, schedule="constant", patience=2, keep="best"
    )
    seeds = range(4)
    alone = [_member("fc_ae", seed) for seed in seeds]
    expected = [fit(model, data, _config(s, recipe), _never) for s, model in enumerate(alone)]
    assert len({len(result.history) for result in expected}) > 1
    models = [_member("fc_ae", seed) for seed in seeds]
    found = _together(models, data, [_config(seed, recipe) for seed in seeds])
    for result, model, same in zip(found, models, expected, strict=True):
        _assert_same(result, same)
        scores = [values.values["val/mse"] for values in result.history]
        assert result.best_epoch == 1 + scores.index(min(scores))
        assert len(result.history) == min(result.best_epoch + 2, 40)
        score = mean_scores(model, data.validation, ("mse",), EvaluationConfig())["mse"]
        assert score == pytest.approx(min(scores), rel=1e-6), "the best weights were kept"
    assert len({len(result.history) for result in found}) > 1


def test_a_member_that_diverges_takes_no_other_along(data: FitData) -> None:
    alone = _member("plain_ae", 0)
    expected = fit(alone, data, _config(0), _never)
    broken = _member("plain_ae", 1)
    with torch.no_grad():
        next(broken.parameters())[0, 0] = math.inf
    good, bad = _together([_member("plain_ae", 0), broken], data, [_config(0), _config(1)])
    assert (bad.status, len(bad.history)) == ("diverged", 1)
    _assert_same(good, expected)


def test_a_member_is_stopped_alone_and_goes_on_alone(data: FitData, tmp_path: Path) -> None:
    """Its checkpoint serves one-by-one training as well, with the noise that was due."""
    files = [tmp_path / f"{seed}.ckpt" for seed in range(3)]
    configs = [_config(seed, checkpoint=files[seed]) for seed in range(3)]
    expected = [fit(_member("vae", seed), data, _config(seed), _never) for seed in range(3)]
    found = _together(
        [_member("vae", seed) for seed in range(3)],
        data,
        configs,
        lambda place, values: place == 1 and values.epoch == 2,
    )
    assert [result.status for result in found] == ["finished", "stopped", "finished"]
    assert [len(result.history) for result in found] == [4, 2, 4]
    assert [file.exists() for file in files] == [False, True, False]
    for place in (0, 2):
        _assert_same(found[place], expected[place])
    told: list[int] = []
    resumed = fit(
        _member("vae", 1), data, configs[1], lambda values: bool(told.append(values.epoch))
    )
    assert told == [1, 2, 3, 4]
    _assert_same(resumed, expected[1])


def test_members_resume_together_whatever_their_epochs(data: FitData, tmp_path: Path) -> None:
    """One had been trained alone for three epochs, two in a stack for two, one not at all."""
    configs = [_config(seed, checkpoint=tmp_path / f"{seed}.ckpt") for seed in range(4)]
    expected = [fit(_member("vae", seed), data, _config(seed), _never) for seed in range(4)]
    fit(_member("vae", 0), data, configs[0], lambda values: values.epoch == 3)
    _together(
        [_member("vae", seed) for seed in (1, 2)],
        data,
        configs[1:3],
        lambda place, values: values.epoch == 2,
    )
    told: dict[int, list[int]] = {}
    found = _together(
        [_member("vae", seed) for seed in range(4)],
        data,
        configs,
        lambda place, values: bool(told.setdefault(place, []).append(values.epoch)),
    )
    assert told == {place: [1, 2, 3, 4] for place in range(4)}
    for one, other in zip(found, expected, strict=True):
        _assert_same(one, other)


def test_variants_that_do_not_stack_are_refused() -> None:
    """Their weights lie outside of linear layers; no row says that they stack."""
    from bench.models.stacking import stacked

    members = [_member("cnn_ae", seed, 8) for seed in (0, 1)]
    with pytest.raises(AssertionError, match="outside of linear layers"):
        stacked(members, [torch.Generator(), torch.Generator()])
    assert not any(MODELS[name].stacks for name in ("cnn_ae", "rnn_ae", "res_ae", "mlp_classifier"))
