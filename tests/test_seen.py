"""What metrics read: every row's `needs` is true, and each part is encoded once."""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from tiny import TINY
from torch import Tensor
from typer.testing import CliRunner

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.errors import BadInput
from bench.core.protocol import EvaluationConfig, load_protocol
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data import load_splits
from bench.evaluation.evaluate import Labelled, evaluate, mean_scores, seen_by
from bench.evaluation.scoring import score
from bench.execution.recomputing import recompute
from bench.execution.runner import build, execute, ignore_epochs, load_weights
from bench.leaderboard.ledger import row_of
from bench.metrics import METRICS, Made, Metric, Need, Seen, per_image, seen_of, whole_set
from bench.metrics.neighbours import _nearest, _nearest_of_all
from bench.metrics.seen import SENT
from bench.models.base import Autoencoder
from bench.models.zoo import build_model
from bench.records.files import read_arrays, read_weights

CONFIG = EvaluationConfig()
WITH_KNN = EvaluationConfig(metrics=("mse", "knn_accuracy"))


SHAPE = (-1, 1, 16, 16)
NEEDS: frozenset[Need] = frozenset(get_args(Need))


class Reader(Seen):
    """Random content for every need; notes what is read, also of the training part."""

    def __init__(self, needs: frozenset[Need] = NEEDS, images: int = 40) -> None:
        drawn = torch.Generator().manual_seed(images)
        self.read: set[Need] = set()

        def made(name: Need, make: Callable[[], Made]) -> Callable[[], Made]:
            return lambda: (self.read.add(name), make())[1]

        def pixels() -> Tensor:
            return torch.rand(images, 1, 16, 16, generator=drawn)

        others = needs - {"train", "validation", "counterpart"}

        def network(x: Tensor) -> Tensor:
            return x.float().flatten(1)[:, :6] / 255

        sources: dict[Need, Callable[[], Made]] = {
            "images": made("images", pixels),
            "reconstructions": made("reconstructions", pixels),
            "codes": made("codes", lambda: torch.randn(images, 3, generator=drawn)),
            **{need: made(need, pixels) for need in SENT},
            "labels": made("labels", lambda: torch.arange(images) % 4),
            "logits": made("logits", lambda: torch.randn(images, 4, generator=drawn)),
            "kl": made("kl", lambda: torch.rand(images, 3, generator=drawn)),
            "others": made("others", lambda: torch.rand(30, 1, 16, 16, generator=drawn)),
            "decode": made("decode", lambda: lambda z: z.mean(1).view(-1, 1, 1, 1).expand(SHAPE)),
            "reconstruct": made("reconstruct", lambda: lambda x: 0.9 * x),
            "model": made("model", lambda: build_model("mean_image", (1, 16, 16), 3)),
            "vectors": made("vectors", lambda: torch.randn(images, 3, generator=drawn)),
            "short_vectors": made("short_vectors", lambda: torch.randn(images, 3, generator=drawn)),
            "features": made("features", lambda: torch.rand(images, 6, generator=drawn)),
            "untrained_features": made(
                "untrained_features", lambda: torch.rand(images, 6, generator=drawn)
            ),
            "network": made("network", lambda: network),
            "untrained_network": made("untrained_network", lambda: network),
            "confidence": made("confidence", lambda: lambda z: z.softmax(dim=1).amax(dim=1)),
            "pairs": made("pairs", lambda: torch.tensor([[0, 1], [1, 2], [2, 0]])),
            "mean_image": made("mean_image", lambda: torch.rand(1, 1, 16, 16, generator=drawn)),
            "counterpart": made("counterpart", lambda: Reader(others, 45)),
            "train": made("train", lambda: Reader(others, 1_100)),
            "validation": made("validation", lambda: Reader(others, 50)),
        }
        super().__init__({name: source for name, source in sources.items() if name in needs})


@pytest.mark.parametrize("row", METRICS.values(), ids=list(METRICS))
class TestNeeds:
    def test_a_metric_reads_what_it_needs_and_no_more(self, row: Metric) -> None:
        config = dataclasses.replace(CONFIG, metrics=(row.id,))
        seen = Reader(row.needs)
        found = row.compute(seen, config)
        assert row.needs and row.needs <= NEEDS
        assert seen.read == row.needs
        assert found.shape == ((40,) if row.per_image else ())
        assert found.dtype == (torch.float32 if row.per_image else torch.float64)
        if row.compared:
            again = row.compute(Reader(), config)
            assert torch.equal(found, again), "what else there is is not read"

    def test_a_metric_without_one_of_its_needs_says_which(self, row: Metric) -> None:
        for need in row.needs:
            with pytest.raises(ValueError, match=f"no {need} to read"):
                row.compute(Reader(row.needs - {need}), CONFIG)


def test_a_formula_that_reads_more_than_its_row_says_is_refused() -> None:
    row = dataclasses.replace(METRICS["mse"], needs=frozenset({"images"}))
    with pytest.raises(ValueError, match="reconstructions cannot be read here; there is images"):
        row.compute(Reader(), CONFIG)
    knn = METRICS["knn_accuracy"]
    looks = dataclasses.replace(knn, score=lambda seen, _: seen.train.images.mean())
    with pytest.raises(ValueError, match="images cannot be read here; there is codes, labels"):
        looks.compute(Reader(), CONFIG)


def test_what_is_read_is_made_once() -> None:
    made: list[str] = []
    seen = Seen({"codes": lambda: (made.append("codes"), torch.zeros(2, 3))[1]})
    assert seen.only({"codes"}).codes is seen.codes is seen.only({"codes"}).codes
    assert made == ["codes"]


def _nearest_by_hand(fitted: Tensor, labels: Tensor, own: Tensor) -> np.ndarray:
    """The vote in plain loops over scikit-learn's neighbours."""
    scaler = StandardScaler().fit(fitted.double().numpy())
    known, asked = (scaler.transform(codes.double().numpy()) for codes in (fitted, own))
    search = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(known)
    called = []
    for row in search.kneighbors(asked, return_distance=False):
        near = labels[row].tolist()
        most = max(near.count(label) for label in near)
        called.append(next(label for label in near if near.count(label) == most))
    return np.array(called)


def _clouds(images: int, classes: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Codes (N, size) around their class's centre, on very different scales, and labels."""
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=drawn)
    centres = torch.randn(classes, size, generator=torch.Generator().manual_seed(0)) * 1.5
    codes = centres[labels] + torch.randn(images, size, generator=drawn)
    return (codes + 7) * torch.logspace(-3, 3, size), labels


def _knn(fitted: Tensor, fitted_labels: Tensor, own: Tensor, own_labels: Tensor) -> float:
    train = seen_of({"codes": fitted, "labels": fitted_labels})
    seen = seen_of({"codes": own, "labels": own_labels}, {"train": lambda: train})
    return whole_set(["knn_accuracy"], seen, CONFIG)["knn_accuracy"]


@pytest.mark.parametrize("size", [1, 2, 16, 64])
@pytest.mark.parametrize("classes", [2, 10])
def test_knn_accuracy_is_that_of_scikit_learn(size: int, classes: int) -> None:
    fitted, labels = _clouds(900, classes, size, 1)
    own, wanted = _clouds(500, classes, size, 2)
    ours = _knn(fitted, labels, own, wanted)
    by_hand = _nearest_by_hand(fitted, labels, own)
    assert ours == pytest.approx((by_hand == wanted.numpy()).mean(), abs=1e-12)
    assert 0.1 < ours < 1 or size > 2
    if classes == 2:  # five votes for two classes are never tied
        scaler = StandardScaler().fit(fitted.double().numpy())
        theirs = KNeighborsClassifier(5).fit(scaler.transform(fitted.double().numpy()), labels)
        found = theirs.score(scaler.transform(own.double().numpy()), wanted)
        assert ours == pytest.approx(found, abs=1e-12)


def test_knn_accuracy_over_many_blocks_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, labels = _clouds(900, 10, 8, 1)
    own, wanted = _clouds(500, 10, 8, 2)
    whole = _knn(fitted, labels, own, wanted)
    monkeypatch.setattr("bench.metrics.neighbours._DISTANCES_AT_ONCE", 5_000)
    assert _knn(fitted, labels, own, wanted) == whole


def test_knn_ties_go_to_the_nearest_and_then_to_the_first() -> None:
    column = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [100.0]])
    two_each = torch.tensor([1, 2, 2, 1, 0, 5])
    at = torch.tensor([[0.1]])  # votes 1: 2, 2: 2, 0: 1; a 1 is nearest
    assert _knn(column, two_each, at, torch.tensor([1])) == 1
    same = torch.ones(7, 2)  # constant columns count as 0: all are equally near, the first 5 vote
    votes = torch.tensor([3, 4, 4, 3, 4, 3, 3])
    assert _knn(same, votes, torch.tensor([[9.0, -9.0]]), torch.tensor([4])) == 1
    assert _knn(column[:3], two_each[:3], at, torch.tensor([2])) == 1, "fewer than five to ask"


@pytest.mark.parametrize(
    "fitted",
    [
        torch.randn(3000, 4, generator=torch.Generator().manual_seed(0)),
        torch.randint(0, 3, (600, 2), generator=torch.Generator().manual_seed(0)),
        torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).repeat(20, 1),
        torch.randn(600, 2, generator=torch.Generator().manual_seed(0)) * 1e-3 + 1e4,
        torch.ones(100, 3),
    ],
    ids=["usual", "many ties", "copies", "far from zero", "all equal"],
)
def test_the_nearest_are_those_of_all_distances(fitted: Tensor) -> None:
    """However many are equally near: the first of them."""
    fitted = fitted.double()
    own = fitted[:50] + torch.tensor([0.0, 1e-4]).repeat(25)[:, None]
    distances = (own[:, None] - fitted).square().sum(dim=2).sqrt()
    expected = distances.argsort(dim=1, stable=True)[:, :5]
    found = _nearest(own, fitted)
    assert torch.equal(distances.gather(1, found), distances.gather(1, expected))
    assert torch.equal(found, _nearest_of_all(own, fitted)), "candidates change nothing"


def test_knn_ignores_a_constant_number_of_the_code() -> None:
    fitted, labels = _clouds(300, 5, 4, 1)
    own, wanted = _clouds(200, 5, 4, 2)
    dead, moved = torch.full((300, 1), 0.1), torch.arange(200.0).view(-1, 1)
    with_dead = _knn(torch.cat([fitted, dead], 1), labels, torch.cat([own, moved], 1), wanted)
    assert with_dead == _knn(fitted, labels, own, wanted)


def test_knn_of_codes_that_are_not_finite_is_no_score() -> None:
    fitted, labels = _clouds(50, 5, 4, 1)
    broken = fitted.clone()
    broken[3, 2] = torch.inf
    assert np.isnan(_knn(broken, labels, fitted, labels))
    assert np.isnan(_knn(fitted, labels, broken, labels))


class Counting(Autoencoder):
    """Halves of images as codes; counts the images that it has encoded and decoded."""

    def __init__(self) -> None:
        super().__init__((1, 12, 12), code_size=72)
        self.register_buffer("place", torch.zeros(1))
        self.encoded = self.decoded = 0

    def encode(self, x: Tensor) -> Tensor:
        self.encoded += len(x)
        return x.flatten(1)[:, :72]

    def decode(self, z: Tensor) -> Tensor:
        self.decoded += len(z)
        return torch.cat([z, z], dim=1).view(len(z), 1, 12, 12)


def _part(images: int, seed: int) -> Labelled:
    drawn = torch.Generator().manual_seed(seed)
    shape = (images, 1, 12, 12)
    pixels = torch.randint(256, shape, generator=drawn, dtype=torch.uint8)
    return Labelled(pixels, torch.randint(3, (images,), generator=drawn))


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> str:
    """A metric of a whole set of reconstructions, such as the guide invites."""
    row = dataclasses.replace(
        METRICS["mse"],
        id="spread",
        needs=frozenset({"reconstructions", "images"}),
        score=lambda seen, _: (seen.reconstructions.std(0) / seen.images.std(0)).mean(),
        per_image=False,
    )
    monkeypatch.setattr("bench.metrics.METRICS", {**METRICS, "spread": row})
    return row.id


@pytest.mark.parametrize("images", [7, 500, 1203])
def test_a_metric_of_a_whole_set_scores_autoencoders(spread: str, images: int) -> None:
    model, data = Counting(), _part(images, 1)
    found = evaluate(model, data, EvaluationConfig(metrics=("mse", spread, "mae")))
    x = data.images / 255
    x_hat = model.reconstruct(x)
    assert found.whole[spread] == pytest.approx((x_hat.std(0) / x.std(0)).mean().item(), rel=1e-5)
    assert list(found.scores) == ["mse", "mae"] and list(found.whole) == [spread]
    plain = evaluate(model, data, EvaluationConfig(metrics=("mse", "mae")))
    for name, values in plain.scores.items():
        np.testing.assert_array_equal(found.scores[name], values)
    assert plain.output_std == found.output_std and not plain.whole


def test_each_part_is_encoded_once(spread: str) -> None:
    model, train, validation, test = Counting(), *(_part(n, n) for n in (1300, 501, 700))
    config = EvaluationConfig(metrics=("mse", "knn_accuracy", spread, "psnr"))
    fitted = seen_by(model, train)
    assert model.encoded == 0, "nothing is computed before it is read"
    for part, before in ((validation, 1300), (test, 1300 + 501)):
        found = evaluate(model, part, config, lambda: fitted)
        assert model.encoded == before + len(part)
        assert set(found.whole) == {"knn_accuracy", spread}
        np.testing.assert_array_equal(found.codes, model.encode(part.images / 255))
        model.encoded -= len(part)
    assert model.decoded == 501 + 700, "the training part is encoded, and not decoded"


def test_without_such_a_metric_the_training_part_is_not_read() -> None:
    def never() -> Seen:
        raise AssertionError

    assert evaluate(Counting(), _part(20, 1), CONFIG_PIXELS, never).whole == {}


CONFIG_PIXELS = EvaluationConfig(metrics=("mse", "mae", "psnr"))


def test_a_model_without_a_code_gets_no_value() -> None:
    model = build_model("mean_image", (1, 12, 12), 4)
    train = seen_by(model, _part(30, 1))
    found = evaluate(model, _part(20, 2), WITH_KNN, lambda: train)
    assert found.whole == {} and list(found.scores) == ["mse"] and found.codes.shape == (20, 0)


def test_metrics_of_a_whole_set_are_not_computed_while_training() -> None:
    found = mean_scores(Counting(), _part(20, 1), ["mse", "knn_accuracy"], CONFIG)
    assert list(found) == ["mse"]


def test_scores_per_image_are_those_of_the_batches() -> None:
    """Bit by bit: the same images at a time, in the same order, whatever else is scored."""
    model, data = Counting(), _part(1100, 1)
    train = seen_by(model, data)
    config = dataclasses.replace(CONFIG, ssim_gaussian=CONFIG.ssim)
    listed = dataclasses.replace(config, metrics=(*config.metrics, "knn_accuracy"))
    found = evaluate(model, data, listed, lambda: train).scores
    for name in config.metrics:
        batches = [
            per_image(
                [name], seen_of({"images": x, "reconstructions": model.reconstruct(x)}), config
            )
            for x in (batch.float() / 255 for batch in data.images.split(500))
        ]
        expected = torch.cat([batch[name] for batch in batches]).numpy()
        np.testing.assert_array_equal(found[name], expected)


KNN_TINY = TINY + '[evaluation]\nmetrics = ["mse", "psnr", "knn_accuracy"]\n'


@pytest.fixture
def knn_protocol(tmp_path: Path) -> str:
    path = tmp_path / "knn.toml"
    path.write_text(KNN_TINY.replace('name = "tiny"', 'name = "knn"'))
    return str(path)


def _spec(protocol: str, store: Store, model: str) -> RunSpec:
    return plan(Request(load_protocol(protocol), (model,), seeds=(0,)), store).specs[0]


def test_a_record_holds_the_accuracy_of_both_parts(knn_protocol: str, store: Store) -> None:
    spec = _spec(knn_protocol, store, "pca")
    record = execute(spec, store, ignore_epochs)
    splits = load_splits(spec.dataset, spec.split)
    model = build(spec, splits)
    load_weights(model, read_weights(store.records, record))
    model.eval()

    def codes(images: np.ndarray) -> Tensor:
        return model.encode(torch.from_numpy(images) / 255)  # type: ignore[operator]

    fitted, labels = codes(splits.train.images), torch.from_numpy(splits.train.labels)
    for part, data in (("val", splits.validation), ("test", splits.test)):
        expected = (_nearest_by_hand(fitted, labels, codes(data.images)) == data.labels).mean()
        assert record.scores[part]["knn_accuracy"] == pytest.approx(expected, abs=2e-4)
        assert 0.4 < expected < 1
    again = recompute(spec, read_weights(store.records, record)).scores
    assert again["test"] == pytest.approx(dict(record.scores["test"]), rel=1e-6)
    assert not any("knn_accuracy" in name for name in read_arrays(store.records, record))
    row = row_of(dataclasses.replace(record, closed_form=True))
    assert row.scores["test_knn_accuracy"] == pytest.approx(record.scores["test"]["knn_accuracy"])


def test_a_run_encodes_every_image_once(
    knn_protocol: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both scored parts look at one training part; pictures, which encode a few more, aside."""
    spec = _spec(knn_protocol, store, "fc_ae")
    splits = load_splits(spec.dataset, spec.split)
    model, encoded = build(spec, splits), []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda x: (encoded.append(len(x)), encode(x))[1])
    monkeypatch.setattr("bench.evaluation.scoring.build_gallery", lambda *_: {})
    found = score(model, spec, splits)
    assert set(found.means()["val"]) == {"mse", "psnr", "knn_accuracy"}
    assert sum(encoded) == sum(
        len(part.images) for part in (splits.train, splits.validation, splits.test)
    )


def test_a_known_record_gets_the_accuracy_without_training(
    tiny_protocol: str, knn_protocol: str, store: Store
) -> None:
    first = execute(_spec(tiny_protocol, store, "fc_ae"), store, ignore_epochs)
    spec = _spec(knn_protocol, store, "fc_ae")
    assert spec.run_key == first.run_key
    epochs: list[object] = []
    again = execute(spec, store, lambda values: bool(epochs.append(values)))
    assert not epochs and again.weights_sha256 == first.weights_sha256
    assert set(again.scores["test"]) == {"mse", "psnr", "knn_accuracy"}
    assert again.scores["test"]["mse"] == pytest.approx(first.scores["test"]["mse"], rel=1e-6)


def test_the_whole_way_to_the_leaderboard(knn_protocol: str, store: Store) -> None:
    def bench(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "-p", knn_protocol])
        assert done.exit_code == 0, done.output
        return done.output

    bench("run", "-m", "pca", "-m", "mean_image", "--workers", "1")
    bench("leaderboard", "--write")
    rows = list(csv.DictReader((store.registry / "results.csv").open()))
    values = {row["model"]: row["test_knn_accuracy"] for row in rows}
    assert values["mean_image"] == "" and 0 < float(values["pca"]) < 1
    pages = "".join(path.read_text() for path in store.registry.rglob("*.md"))
    assert "test 5-nearest-neighbour accuracy" in pages and f"{float(values['pca']):.4f}" in pages


def test_a_set_without_labels_is_refused_before_training(
    knn_protocol: str, store: Store, tmp_path: Path
) -> None:
    np.savez(tmp_path / "plain.npz", images=np.full((400, 28, 28), 200, np.uint8))
    small = load_protocol(knn_protocol)
    split = dataclasses.replace(small.split, validation=50, test=50)
    dataset = f"npz:{tmp_path / 'plain.npz'}"
    with pytest.raises(BadInput, match=r"evaluation\.metrics: knn_accuracy needs labels, and"):
        plan(Request(dataclasses.replace(small, split=split, dataset=dataset)), store)


def test_the_accuracy_of_neighbours_selects_nothing(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('selection_metric = "knn_accuracy"\n' + KNN_TINY)
    with pytest.raises(BadInput, match="whole set of images and cannot select or rank"):
        plan(Request(load_protocol(str(path))), store)


def test_what_not_every_model_and_epoch_has_selects_nothing() -> None:
    assert METRICS["mse"].selects and not METRICS["knn_accuracy"].selects
    for need in ("codes", "train"):
        assert not dataclasses.replace(METRICS["mse"], needs=frozenset({need})).selects
