"""The contract of the classifiers, over both of them and several image shapes."""

import math

import pytest
import torch

from bench.core.errors import BadInput
from bench.core.protocol import EvaluationConfig, SplitConfig, TrainConfig
from bench.data import load_splits
from bench.evaluation.evaluate import Labelled, classify, mean_scores
from bench.models.zoo import MODELS, build_classifier, build_model, build_network
from bench.training.train import FitConfig, FitData, FitResult, fit

CLASSIFIERS = [name for name, row in MODELS.items() if row.kind == "classifier"]
Shape = tuple[int, int, int]

every_classifier = pytest.mark.parametrize("name", CLASSIFIERS)
every_shape = pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 12, 20)], ids=str)


def _images(shape: Shape, count: int = 6) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


@every_classifier
@every_shape
@pytest.mark.parametrize("classes", [2, 10, 17])
def test_features_and_logits_have_their_shapes(name: str, shape: Shape, classes: int) -> None:
    model = build_classifier(name, shape, classes).eval()
    x, labels = _images(shape), torch.zeros(6, dtype=torch.int64)
    with torch.no_grad():
        features = model.features(x)
        assert features.shape == (6, model.feature_size)
        assert torch.equal(model.classify(features), model(x))
    answers = model.answers(x, labels)
    given = answers["logits"]
    assert given.shape == (6, classes)
    assert torch.equal(answers["labels"], labels) and torch.equal(answers["images"], x)
    assert not given.requires_grad
    assert model.sizes == {"classes": classes, "feature_size": model.feature_size}


@every_classifier
@every_shape
def test_images_of_a_batch_do_not_influence_each_other(name: str, shape: Shape) -> None:
    torch.manual_seed(0)
    model = build_classifier(name, shape, 4).eval()
    x = _images(shape)
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in x])
        torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)


@every_classifier
@every_shape
def test_every_parameter_gets_a_gradient(name: str, shape: Shape) -> None:
    torch.manual_seed(0)
    model = build_classifier(name, shape, 4).train()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    loss = model.loss(_images(shape), labels)
    loss.total.backward()
    assert 0 <= loss.accuracy.item() <= 1
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@every_classifier
def test_the_loss_is_the_cross_entropy_of_the_logits(name: str) -> None:
    torch.manual_seed(0)
    model = build_classifier(name, (1, 12, 12), 3).eval()
    x, labels = _images((1, 12, 12), 3), torch.tensor([0, 1, 2])
    chosen = model(x).softmax(1)[torch.arange(3), labels]
    assert model.loss(x, labels).total.item() == pytest.approx(-chosen.log().mean().item())


def test_sizes_are_those_of_the_origin_and_below_the_limit() -> None:
    assert build_classifier("mlp_classifier", (1, 28, 28), 10).learned_numbers == 569_226
    assert build_classifier("cnn_classifier", (1, 28, 28), 10).learned_numbers == 89_146


def test_the_dense_one_starts_as_its_origin_does() -> None:
    """Xavier-uniform weights, zero biases, images normalised by (0.2860, 0.3530)."""
    torch.manual_seed(0)
    model = build_classifier("mlp_classifier", (1, 28, 28), 10)
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [512, 256, 128, 10]
    for layer in layers:
        limit = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.98 * limit < layer.weight.abs().max().item() <= limit
        assert not layer.bias.any()
    seen: list[torch.Tensor] = []
    layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.eval()(torch.full((1, 1, 28, 28), 0.639))
    torch.testing.assert_close(seen[0], torch.ones(1, 784), rtol=1e-5, atol=1e-5)
    dropped = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropped == [0.3, 0.3, 0.3]


def test_augmentation_moves_every_image_by_whole_pixels_and_mirrors_some() -> None:
    torch.manual_seed(0)
    model = build_classifier("cnn_classifier", (1, 12, 12), 3, {"shift": 2, "mirror": True})
    x = torch.zeros(64, 1, 12, 12)
    x[:, 0, 6, 3], x[:, 0, 6, 4] = 1.0, 0.5
    moved = model.augment(x)
    assert moved.shape == x.shape
    places, mirrored = set(), 0
    for image in moved:
        (row,), (column,) = (image[0] == 1).nonzero(as_tuple=True)
        flipped = image[0, row, column - 1] == 0.5
        assert image.sum() == 1.5
        mirrored += bool(flipped)
        places.add((int(row) - 6, int(column) - (8 if flipped else 3)))
    assert places <= {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    assert len(places) > 15
    assert 15 < mirrored < 49
    assert model.eval()(x).std(0).abs().max() < 1e-5, "nothing is augmented when scoring"
    still = build_classifier("cnn_classifier", (1, 12, 12), 3, {"shift": 0})
    assert torch.equal(still.augment(x), x)


def test_mistaken_requests_are_named() -> None:
    with pytest.raises(BadInput, match="has no code"):
        build_network("mlp_classifier", (1, 28, 28), 8, classes=10)
    with pytest.raises(BadInput, match="at least two classes, these have 1"):
        build_network("mlp_classifier", (1, 28, 28), classes=1)
    with pytest.raises(BadInput, match="is a classifier"):
        build_model("cnn_classifier", (1, 28, 28))
    with pytest.raises(BadInput, match="is an autoencoder"):
        build_classifier("fc_ae", (1, 28, 28), 10)
    with pytest.raises(BadInput, match="do not fit"):
        build_classifier("cnn_classifier", (2, 28, 28), 10)


@pytest.fixture(scope="module")
def data() -> FitData:
    splits = load_splits("fashion_mnist_mini", SplitConfig())
    train, validation = (
        Labelled(torch.from_numpy(part.images[:count]), torch.from_numpy(part.labels[:count]))
        for part, count in ((splits.train, 1000), (splits.validation, 300))
    )
    return FitData(train, validation)


def _fit(data: FitData, name: str, **given: object) -> tuple[torch.nn.Module, FitResult]:
    recipe = TrainConfig(epochs=4, batch_size=64, lr=5e-3, schedule="one_cycle")
    evaluation = EvaluationConfig(metrics=("accuracy", "macro_f1"))
    torch.manual_seed(3)
    model = build_classifier(name, (1, 28, 28), 10)
    config = FitConfig(recipe, evaluation, "accuracy", seed=3, **given)  # type: ignore[arg-type]
    return model, fit(
        model, data, config, lambda values: "checkpoint" in given and values.epoch == 2
    )


@every_classifier
def test_it_learns_and_keeps_its_best_weights(data: FitData, name: str) -> None:
    model, result = _fit(data, name)
    curve = [values.values["val/accuracy"] for values in result.history]
    keys = {"train/loss", "train/accuracy", "train/lr", "val/accuracy", "val/cross_entropy"}
    assert all(set(values.values) == keys for values in result.history)
    assert max(curve) > 0.65, "ten classes: chance is 0.1"
    assert result.best_epoch == curve.index(max(curve)) + 1
    assert not result.snapshots
    kept = mean_scores(model, data.validation, ["accuracy"], EvaluationConfig())  # type: ignore[arg-type]
    assert kept["accuracy"] == pytest.approx(max(curve))


@every_classifier
def test_a_stopped_training_goes_on_to_the_same_result(data, name: str, tmp_path) -> None:
    _, straight = _fit(data, name)
    path = tmp_path / "run.safetensors"
    assert _fit(data, name, checkpoint=path)[1].status == "stopped"
    _, again = _fit(data, name, checkpoint=path)
    assert again.status == "finished"
    assert [v.values for v in again.history] == [v.values for v in straight.history]


def test_classes_follow_their_images(data: FitData) -> None:
    """With shuffled labels there is nothing to learn: they do travel with the images."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.train), generator=generator)
    shuffled = FitData(Labelled(data.train.images, data.train.labels[order]), data.validation)
    _, result = _fit(shuffled, "mlp_classifier")
    assert max(v.values["val/accuracy"] for v in result.history) < 0.35


def test_scoring_gives_what_was_called_and_how_surely(data: FitData) -> None:
    model, _ = _fit(data, "cnn_classifier")
    config = EvaluationConfig(metrics=("accuracy", "cross_entropy", "macro_f1"))
    found = classify(model, data.validation, config)  # type: ignore[arg-type]
    labels = data.validation.labels.numpy()
    assert ((found.predicted == labels) == found.scores["accuracy"].astype(bool)).all()
    assert found.confidence.min() > 0.1
    right = found.scores["cross_entropy"][found.predicted == labels]
    assert right == pytest.approx(
        -torch.from_numpy(found.confidence[found.predicted == labels]).log().numpy(), abs=1e-4
    )
    assert set(found.scores) == {"accuracy", "cross_entropy"}
    assert set(found.whole) == {"macro_f1"}
