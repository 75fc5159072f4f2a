"""Samples and paths: every measure against a second implementation, on small sets of features."""

import dataclasses
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from looks import texts
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from tiny import TINY
from torch import Tensor

from bench.benchmark.plan import Request, plan
from bench.core.protocol import EvaluationConfig, load_protocol
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store
from bench.data import dataset_label, load_set, load_splits
from bench.evaluation import feature_network
from bench.evaluation.scoring import score
from bench.execution.recomputing import recompute
from bench.execution.runner import build, execute, ignore_epochs, load_weights
from bench.figures import draw_figures
from bench.leaderboard.badges import task_badges
from bench.metrics import METRICS, Seen, metrics_of, why_absent
from bench.metrics.generation import (
    Sampler,
    as_bytes,
    closeness,
    draw_codes,
    frechet,
    nearest,
    overlap,
    reach,
)
from bench.metrics.interpolation import POINTS, between, pairs
from bench.models.base import Autoencoder, ClosedFormAutoencoder
from bench.records.feature_cards import network_for
from bench.records.files import read_arrays, read_weights

CONFIG = EvaluationConfig()
Floats = NDArray[np.float64]


def _sets(real: int = 90, fake: int = 70, size: int = 5) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(3)
    mixing = torch.randn(size, size, generator=drawn)
    shifted = torch.randn(fake, size, generator=drawn) * 0.8 + 0.4
    return torch.randn(real, size, generator=drawn) @ mixing, shifted @ mixing


def test_the_frechet_distance_is_that_of_scipys_square_root() -> None:
    one, other = _sets()
    a, b = one.double().numpy(), other.double().numpy()
    first, second = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        first + second - 2 * np.real(sqrtm(first @ second))
    )
    assert frechet(one, other) == pytest.approx(expected, rel=1e-8)
    assert frechet(one, one) == pytest.approx(0, abs=1e-8)
    # A single image has no covariance.
    alone = ((a.mean(0) - b[0]) ** 2).sum() + np.trace(first)
    assert frechet(one, other[:1]) == pytest.approx(alone, rel=1e-8)


def _by_loops(real: Floats, fake: Floats) -> tuple[float, float, float, float]:
    """Precision, recall (k = 3), density, coverage (k = 5), pair by pair."""

    def radius(of: Floats, i: int, k: int) -> float:
        return sorted(float(np.linalg.norm(of[i] - x)) for j, x in enumerate(of) if j != i)[k - 1]

    def inside(point: Floats, of: Floats, k: int) -> list[bool]:
        return [bool(np.linalg.norm(point - x) <= radius(of, i, k)) for i, x in enumerate(of)]

    within = [inside(y, real, 5) for y in fake]
    return (
        float(np.mean([any(inside(y, real, 3)) for y in fake])),
        float(np.mean([any(inside(x, fake, 3)) for x in real])),
        sum(map(sum, within)) / (5 * len(fake)),
        float(np.mean(np.any(within, axis=0))),
    )


def test_precision_recall_density_and_coverage_are_those_of_loops() -> None:
    real, fake = _sets(40, 30, 5)
    found = overlap(real, fake, reach(real), reach(fake))
    expected = _by_loops(real.double().numpy(), fake.double().numpy())
    assert found == pytest.approx(expected, rel=1e-12)
    assert all(0 < share < 1 for share in (*expected[:2], expected[3])), "nothing is trivial"
    assert overlap(real, real, reach(real), reach(real))[:2] == (1, 1)
    far = fake + 100
    assert overlap(real, far, reach(real), reach(far)) == (0, 0, 0, 0)


def test_the_nearest_training_images_are_scikit_learns() -> None:
    training, images = _sets()
    search = NearestNeighbors(algorithm="brute").fit(training.double().numpy())
    distances, places = search.kneighbors(images.double().numpy(), 1)
    found = nearest(images, training)
    assert found.place.tolist() == places[:, 0].tolist()
    np.testing.assert_allclose(found.distance, distances[:, 0], rtol=1e-7)
    apart = search.kneighbors(training.double().numpy(), 2)[0][:, 1]
    expected = np.mean(distances[:, 0] < apart[places[:, 0]])
    assert closeness(found, training) == pytest.approx(expected)
    assert 0 < expected < 1
    copies = training[::3] + 1e-4
    assert closeness(nearest(copies, training), training) == 1


NORMAL = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
UNIFORM = torch.rand(140, 4, generator=torch.Generator().manual_seed(2))
SAMPLERS: tuple[Sampler, ...] = ("prior", "gaussian", "mixture")


class TestSamplers:
    codes = torch.cat([NORMAL[:300] * 0.1 - 4, NORMAL[300:] * 0.5 + 3])

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_draws_are_the_same_with_more_threads_and_after_other_draws(
        self, sampler: Sampler
    ) -> None:
        first = draw_codes(sampler, self.codes, 50)
        threads = torch.get_num_threads()
        torch.manual_seed(7)
        np.random.seed(7)
        torch.set_num_threads(2)
        try:
            assert torch.equal(draw_codes(sampler, self.codes, 50), first)
        finally:
            torch.set_num_threads(threads)
        assert first.shape == (50, 2)
        assert first.dtype == torch.float32

    def test_the_prior_does_not_look_at_codes(self) -> None:
        drawn = draw_codes("prior", self.codes, 20_000).double()
        np.testing.assert_allclose(drawn.mean(0), [0, 0], atol=0.03)
        np.testing.assert_allclose(torch.cov(drawn.T), np.eye(2), atol=0.03)

    def test_the_gaussian_has_the_moments_of_the_codes(self) -> None:
        drawn = draw_codes("gaussian", self.codes, 20_000).double()
        np.testing.assert_allclose(drawn.mean(0), self.codes.mean(0), atol=0.1)
        np.testing.assert_allclose(torch.cov(drawn.T), torch.cov(self.codes.T), rtol=0.05)

    def test_the_mixture_is_as_likely_as_scikit_learns(self) -> None:
        drawn = draw_codes("mixture", self.codes, 5_000).double().numpy()
        model = GaussianMixture(10, random_state=0, max_iter=200).fit(self.codes.double().numpy())
        assert model.score(drawn) == pytest.approx(-model_entropy(model), abs=0.1)
        empty = (np.abs(drawn) < 1.0).all(axis=1).mean()
        assert empty < 0.01, "nothing between the two groups, where a Gaussian has its middle"

    def test_a_collapsed_code_gives_the_one_code(self) -> None:
        for sampler in SAMPLERS[1:]:
            drawn = draw_codes(sampler, torch.full((30, 3), 0.5), 8)
            assert torch.equal(drawn, torch.full((8, 3), 0.5))

    def test_a_number_that_does_not_vary_is_allowed(self) -> None:
        codes = torch.cat([self.codes * 1e-3, torch.full((600, 1), 2e-3)], dim=1)
        for sampler in SAMPLERS[1:]:
            drawn = draw_codes(sampler, codes, 500)
            np.testing.assert_allclose(drawn[:, 2], 2e-3, rtol=0.01)


def model_entropy(model: GaussianMixture) -> float:
    """By Monte Carlo, in nats."""
    return -float(model.score(model.sample(20_000)[0]))


def test_samples_are_rounded_to_bytes() -> None:
    images = torch.tensor([[0.0, 1.0, 0.5, 1.2, -1.0, torch.nan]])
    assert as_bytes(images).tolist() == [[0, 255, 128, 255, 0, 0]]


def _seen(decode: Callable[[Tensor], Tensor], codes: Tensor, training: Tensor) -> Seen:
    """A part whose images are 1 x 2 x 2 and whose features are their pixels."""

    def network(x: Tensor) -> Tensor:
        return x.float().flatten(1) / 255

    def part(of: Tensor, rest: dict) -> Seen:
        features = network(as_bytes(decode(of)))
        sources = {
            **{name: lambda: of for name in ("vectors", "short_vectors")},
            **{name: lambda: features for name in ("features", "untrained_features")},
            **{name: lambda: network for name in ("network", "untrained_network")},
            "decode": lambda: decode,
            "confidence": lambda: lambda z: z.softmax(dim=1).amax(dim=1),
            "mean_image": lambda: decode(training).mean(0, keepdim=True),
        }
        return Seen(sources | rest | {"pairs": lambda: pairs(len(of))})

    train = part(training, {})
    return part(codes, {"train": lambda: train, "counterpart": lambda: train})


def _images(z: Tensor) -> Tensor:
    return z.clamp(0, 1).view(-1, 1, 2, 2)


def _value(name: str, seen: Seen) -> float:
    return METRICS[name].compute(seen, CONFIG).item()


class TestPaths:
    codes, training = UNIFORM[:12], UNIFORM[60:100]

    def test_pairs_are_of_different_images_each_once(self) -> None:
        for count in (2, 12, 3000):
            starts, ends = pairs(count).T
            assert len(starts) == min(1000, count)
            assert len(pairs(count, 250)) == min(250, count)
            assert (starts != ends).all()
            assert len(starts.unique()) == len(ends.unique()) == len(starts)

    def test_codes_between_are_evenly_spaced_and_have_both_ends(self) -> None:
        first, second = torch.zeros(2, 3), torch.tensor([[1.0, 2, 3], [-1, 0, 1]])
        expected = np.linspace(first.numpy(), second.numpy(), POINTS, axis=1)
        np.testing.assert_allclose(between(first, second), expected, rtol=1e-6)

    def test_measures_are_those_of_loops(self) -> None:
        bent = _seen(lambda z: _images(z**2), self.codes, self.training)
        variations, middles, confidences = [], [], []
        known = bent.train.features.double().numpy()
        for i, j in pairs(12).tolist():
            way = [self.codes[i] * (1 - t) + self.codes[j] * t for t in np.linspace(0, 1, 11)]
            seen = [np.rint(255 * np.square(z.numpy())).astype(int) / 255 for z in way]
            steps = [np.linalg.norm(b - a) for a, b in pairwise(seen)]
            variations.append(np.std(steps) / np.mean(steps))
            middles.append(min(np.linalg.norm(seen[5] - x) for x in known))
            confidences += [np.exp(x).max() / np.exp(x).sum() for x in seen]
        own = [min(np.linalg.norm(x - y) for y in known) for x in bent.features.double().numpy()]
        assert _value("path_variation", bent) == pytest.approx(np.mean(variations), rel=1e-4)
        assert _value("midpoint_distance", bent) == pytest.approx(
            np.mean(middles) / np.mean(own), rel=1e-4
        )
        assert _value("path_confidence", bent) == pytest.approx(np.mean(confidences), rel=1e-5)

    def test_a_straight_way_is_even_a_jump_and_a_standstill_are_not(self) -> None:
        straight = _seen(_images, self.codes, self.training)
        assert _value("path_variation", straight) < 0.05, "only rounding"
        still = _seen(lambda z: _images(z * 0 + 0.3), self.codes, self.training)
        assert _value("path_variation", still) == 3
        two = torch.tensor([[0.0, 0, 0, 0], [1.0, 1, 1, 1]])
        jump = _seen(lambda z: _images((z > 0.55).float()), two, self.training)
        assert _value("path_variation", jump) == pytest.approx(3)

    def test_a_single_image_has_no_paths(self) -> None:
        alone = _seen(_images, self.codes[:1], self.training)
        for name in metrics_of("interpolation"):
            assert np.isnan(_value(name, alone))


class TestRows:
    codes, training = UNIFORM[:60], UNIFORM[60:]

    def test_a_decoder_that_copies_is_closer_than_images_are(self) -> None:
        def copies(z: Tensor) -> Tensor:
            return _images(self.training[torch.cdist(z, self.training).argmin(dim=1)])

        for sampler in SAMPLERS:
            assert _value(f"closeness_{sampler}", _seen(copies, self.codes, self.training)) == 1
            honest = _value(f"closeness_{sampler}", _seen(_images, self.codes, self.training))
            assert honest < 0.9
        assert _value("closeness_real", _seen(_images, self.codes, self.training)) < 0.9

    def test_a_decoder_of_one_image_is_no_better_than_the_mean_image(self) -> None:
        def constant(z: Tensor) -> Tensor:
            return torch.zeros(len(z), 1, 2, 2)

        seen = _seen(_images, self.codes, self.training)
        dark = dict(seen._sources) | {"decode": lambda: constant}
        dark["train"] = lambda: Seen(dict(seen.train._sources) | {"decode": lambda: constant})
        for sampler in SAMPLERS:
            assert _value(f"fcd_{sampler}", Seen(dark)) > _value("fcd_mean_image", seen)
            assert _value(f"fcd_{sampler}", seen) < _value("fcd_mean_image", seen)

    def test_each_source_and_network_has_its_row(self) -> None:
        ids = set(metrics_of("generation"))
        for source in (*SAMPLERS, "real"):
            for measure in ("fcd", "precision", "recall", "density", "coverage"):
                assert {f"{measure}_{source}", f"untrained_{measure}_{source}"} <= ids
            assert f"closeness_{source}" in ids
        assert len(ids) == 4 * 11 + 1

    def test_rows_are_those_of_their_functions(self) -> None:
        seen = _seen(_images, self.codes, self.training)
        real = seen.features
        drawn = draw_codes("mixture", self.training, len(real))
        fake = seen.network(as_bytes(_images(drawn)))
        assert _value("fcd_mixture", seen) == frechet(real, fake)
        found = overlap(real, fake, reach(real), reach(fake))
        assert _value("recall_mixture", seen) == found.recall
        assert _value("density_mixture", seen) == found.density
        other = seen.train.features[: len(real)]
        assert _value("fcd_real", seen) == frechet(real, other)
        assert _value("untrained_coverage_mixture", seen) == found.coverage

    def test_a_single_image_gives_no_value(self) -> None:
        alone = _seen(_images, self.codes[:1], self.training)
        row = dataclasses.replace(METRICS["fcd_mixture"])
        assert torch.isnan(row.compute(alone, CONFIG))


class TestScoring:
    """Real images through `score` and `execute`, with the committed feature network."""

    @pytest.fixture(scope="class")
    @staticmethod
    def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
        """800 real images, which the network committed for their data set serves here too."""
        home = Store(tmp_path_factory.mktemp("generation")).prepare()
        images = load_set("fashion_mnist_mini").parts["train"]
        np.savez(home.root / "few.npz", x_train=images.images[:800], y_train=images.labels[:800])
        found = network_for(home, "fashion_mnist_mini")
        assert found is not None
        folder = shutil.copytree(found[0], home.registry / "features" / found[0].name)
        label = dataset_label(load_set(f"npz:{home.root / 'few.npz'}"))
        card = dataclasses.replace(found[1], serves=(label,))
        (folder / "card.json").write_text(card.to_json())
        return home

    @staticmethod
    def _spec(
        home: Store, model: str = "pca", store: Store | None = None, **changes: object
    ) -> RunSpec:
        path = home.root / "tiny.toml"
        small = (
            TINY.replace("validation = 100", "validation = 120")
            .replace("test = 7000", "test = 120")
            .replace('"fashion_mnist_mini"', f'"npz:{home.root / "few.npz"}"')
        )
        path.write_text(small + '[evaluation]\ntasks = ["generation", "interpolation"]\n')
        protocol = dataclasses.replace(load_protocol(str(path)), models=(model,))
        spec = plan(Request(protocol), store or home).specs[0]
        return dataclasses.replace(spec, **changes)  # type: ignore[arg-type]

    @pytest.fixture(scope="class")
    @staticmethod
    def record(home: Store) -> RunRecord:
        return execute(TestScoring._spec(home), home, ignore_epochs)

    def test_a_record_has_every_measure_of_both_tasks(self, record: RunRecord) -> None:
        wanted = set(metrics_of("generation")) | set(metrics_of("interpolation"))
        for part in ("val", "test"):
            assert wanted <= set(record.scores[part])
        found = record.scores["test"]
        assert found["fcd_real"] < found["fcd_mixture"] < found["fcd_mean_image"]
        assert found["coverage_real"] > 0.8 > found["coverage_mixture"]
        assert 0 < found["path_variation"] < 3

    def test_scored_again_with_more_threads_the_values_are_the_same(
        self, home: Store, record: RunRecord
    ) -> None:
        weights = read_weights(home.records, record)
        again = recompute(dataclasses.replace(record.spec, threads=2), weights, home).scores
        for name in metrics_of("generation"):
            assert again["test"][name] == pytest.approx(record.scores["test"][name], rel=1e-5)

    def test_every_image_is_encoded_once(
        self, home: Store, record: RunRecord, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = self._spec(home)
        splits = load_splits(spec.dataset, spec.split)
        model = build(spec, splits)
        load_weights(model, read_weights(home.records, record))
        seen: list[int] = []
        encode = type(model).encode
        monkeypatch.setattr(
            type(model), "encode", lambda self, x: (seen.append(len(x)), encode(self, x))[1]
        )
        score(model, spec, splits, home).means()
        parts = (splits.train, splits.validation, splits.test)
        assert sum(seen) == sum(len(part.images) for part in parts)

    def test_the_features_of_images_are_kept_once_for_all_runs(
        self, home: Store, record: RunRecord, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = {path: path.stat().st_mtime_ns for path in (home.mlruns / "features").iterdir()}
        assert len(kept) == 6, "three parts in two networks"
        feature_network._RECENT.clear()
        seen: list[int] = []
        real = feature_network.FeatureNetwork.features
        monkeypatch.setattr(
            feature_network.FeatureNetwork,
            "features",
            lambda self, images: (seen.append(len(images)), real(self, images))[1],
        )
        recompute(record.spec, read_weights(home.records, record), home)
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        sizes = load_splits(record.spec.dataset, record.spec.split)
        assert len(sizes.train.images) not in seen

    def test_samples_and_paths_are_kept_to_be_looked_at(
        self, home: Store, record: RunRecord
    ) -> None:
        arrays = read_arrays(home.records, record)
        splits = load_splits(record.spec.dataset, record.spec.split)
        for sampler in SAMPLERS:
            images, near, index, distance = (
                arrays[f"generated/{sampler}/{key}"]
                for key in ("x_hat", "nearest", "index", "distance")
            )
            assert images.dtype == near.dtype == np.uint8
            assert images.shape == near.shape == (10, 1, 28, 28)
            np.testing.assert_array_equal(near, splits.train.images[index])
            assert (distance > 0).all()
        assert arrays["paths/x"].shape == (6, 2, 1, 28, 28)
        assert arrays["paths/x_hat"].shape == (6, 11, 1, 28, 28)
        assert set(draw_figures(record, arrays)) >= {"samplers", "paths"}

    def test_two_numbers_have_a_grid(self, home: Store) -> None:
        spec = self._spec(home, latent_dim=2)
        found = execute(spec, home, ignore_epochs)
        arrays = read_arrays(home.records, found)
        assert arrays["grid/x_hat"].shape == (15, 15, 1, 28, 28)
        assert (np.diff(arrays["grid/z"], axis=0) > 0).all()
        splits = load_splits(spec.dataset, spec.split)
        model = build(spec, splits)
        load_weights(model, read_weights(home.records, found))
        assert isinstance(model, Autoencoder)
        # The row goes up with the second number, the column with the first.
        z = torch.tensor([[arrays["grid/z"][11, 0], arrays["grid/z"][3, 1]]])
        expected = as_bytes(model.decode_images(z))[0].numpy()
        np.testing.assert_allclose(arrays["grid/x_hat"][3, 11], expected, atol=1)
        figure = draw_figures(found, arrays)["latent_grid"]
        assert "z1" in texts(figure)

    def test_models_without_such_codes_are_left_out(self, home: Store) -> None:
        mean = execute(self._spec(home, "mean_image"), home, ignore_epochs)
        assert "fcd_mixture" not in mean.scores["test"]
        assert mean.scores["test"]["fcd_mean_image"] > mean.scores["test"]["fcd_real"]
        spec = self._spec(home, "vq_vae", latent_dim=None)
        splits = load_splits(spec.dataset, spec.split)
        discrete = score(build(spec, splits), spec, splits, home).means()["test"]
        assert not {"fcd_prior", "fcd_mixture", "path_variation"} & set(discrete)

    def test_images_without_a_network_have_none_of_it_until_one_is_pinned(
        self, home: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, without = self._spec(home).evaluation_digest, Store(tmp_path).prepare()
        with monkeypatch.context() as patch:
            patch.setattr("bench.records.feature_cards.shipped", lambda: without)
            spec = self._spec(home, store=without)
            assert spec.evaluation_digest != before, "scored again once there is one"
            splits = load_splits(spec.dataset, spec.split)
            model = build(spec, splits)
            assert isinstance(model, ClosedFormAutoencoder)
            model.fit(torch.from_numpy(splits.train.images))
            found = score(model, spec, splits, without).means()["test"]
        assert "mse" in found
        assert not (set(metrics_of("generation")) | set(metrics_of("interpolation"))) & set(found)
        said = why_absent(METRICS["fcd_mixture"])
        assert "train one with: bench run --protocol classifier" in said

    def test_without_a_network_the_plan_says_what_is_left_out(
        self, home: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = self._spec(home)
        assert spec.definition is not None

        def notes(*tasks: str) -> str:
            evaluation = dataclasses.replace(spec.definition.evaluation, tasks=tasks)
            wanted = dataclasses.replace(spec.definition, evaluation=evaluation)
            return "\n".join(plan(Request(wanted, dataset=spec.dataset), home).notes)

        assert "left out" not in notes("generation", "interpolation"), "one is committed"
        monkeypatch.setattr("bench.records.feature_cards.feature_registries", lambda _: ())
        said = notes("generation", "interpolation", "cost")
        assert "generation and interpolation are left out: each needs a feature network" in said
        assert "train one with: bench run --protocol classifier" in said
        assert "interpolation is left out: it needs" in notes("interpolation")
        assert "left out" not in notes("representation", "robustness", "cost")

    def _badges(self, home: Store, decode: Callable[[Tensor], Tensor]) -> list[str]:
        """The badges of a row whose decoder is `decode`."""
        spec = self._spec(home, latent_dim=3)
        splits = load_splits(spec.dataset, spec.split)
        model = build(spec, splits)
        assert isinstance(model, ClosedFormAutoencoder)
        model.fit(torch.from_numpy(splits.train.images))
        model.decode = decode  # type: ignore[method-assign]
        means = score(model, spec, splits, home).means()["val"]
        cell = SimpleNamespace(mean=lambda column: means.get(column.removeprefix("val_"), np.nan))
        return list(task_badges("generation", cell))  # type: ignore[arg-type]

    def test_one_image_is_no_better_than_the_mean_image(self, home: Store) -> None:
        found = self._badges(home, lambda z: torch.zeros(len(z), 1, 28, 28))
        for words in ("N(0, I)", "a Gaussian", "10 Gaussians"):
            assert f"samples of {words} no better than the mean image" in found

    def test_a_decoder_that_gives_training_images_has_memorised_them(self, home: Store) -> None:
        train = load_splits(self._spec(home).dataset, self._spec(home).split).train.images
        known = torch.from_numpy(train[:400]).float() / 255
        places = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * 3
        found = self._badges(home, lambda z: known[torch.cdist(z, places).argmin(dim=1)])
        assert "memorised samples of a Gaussian" in found
        assert not any("mean image" in badge for badge in found)

    def test_an_honest_row_has_no_badge(self, home: Store, record: RunRecord) -> None:
        means = record.scores["val"]
        cell = SimpleNamespace(mean=lambda column: means[column.removeprefix("val_")])
        assert list(task_badges("generation", cell)) == []  # type: ignore[arg-type]

    @pytest.mark.slow
    def test_a_mixture_halves_the_distance_of_a_plain_autoencoder(self, home: Store) -> None:
        protocol = load_protocol("quick")
        tasks = dataclasses.replace(protocol.evaluation, tasks=("generation",))
        wanted = dataclasses.replace(protocol, models=("plain_ae",), evaluation=tasks)
        for size in (8, 32):
            spec = plan(Request(wanted, latent_dims=(size,)), home).specs[0]
            found = execute(spec, home, ignore_epochs).scores["test"]
            assert found["fcd_mixture"] <= found["fcd_prior"] / 2
            assert found["fcd_real"] < found["fcd_mixture"] / 4
