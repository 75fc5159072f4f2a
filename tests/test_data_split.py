"""Splits: stratified, disjoint, complete, seeded, hashed; and a search that sees no test image."""

import dataclasses
import os
from typing import Literal

import numpy as np
import pytest

from bench.core.errors import BadInput
from bench.core.protocol import SplitConfig
from bench.data import ImageSet, LabelledImages, load_search_splits, load_set, load_splits
from bench.data.content import PARTS
from bench.data.split import (
    digest_of_indices,
    planned_sizes,
    split_indices,
    split_set,
    stratified_draw,
)

BUNDLED = load_set("mnist_mini")


def reduced(parts: dict[str, int], classes: int = 10) -> ImageSet:
    """A set of real images with the parts of the given sizes, classes of unequal size."""
    train = BUNDLED.parts["train"]
    wanted = [np.flatnonzero(train.labels == label)[: 40 + 30 * label] for label in range(classes)]
    order = np.random.default_rng(1).permutation(np.concatenate(wanted))
    assert sum(parts.values()) <= len(order)
    content, start = {}, 0
    for part, size in parts.items():
        chosen = order[start : start + size]
        content[part] = LabelledImages(train.images[chosen], train.labels[chosen])
        start += size
    return ImageSet("own", BUNDLED.class_names, content, "a part of mnist_mini")


def labels_of(images: ImageSet) -> np.ndarray:
    return np.concatenate([images.parts[part].labels for part in PARTS if part in images.parts])


@pytest.mark.parametrize("seed", range(20))
def test_a_draw_is_exact_in_size_and_in_proportion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, size=int(rng.integers(20, 400)), p=[0.5, 0.3, 0.1, 0.07, 0.03])
    count = int(rng.integers(1, len(labels)))
    drawn = stratified_draw(labels, count, rng)
    assert len(drawn) == len(set(drawn.tolist())) == count
    assert (np.diff(drawn) > 0).all()
    exact = np.bincount(labels, minlength=5) * count / len(labels)
    off = np.bincount(labels[drawn], minlength=5) - exact
    assert (np.abs(off) < 1).all(), "the largest remainder never misses a share by one or more"


def test_a_draw_is_random_within_a_class() -> None:
    labels = np.zeros(1000, np.int64)
    hits = np.zeros(1000)
    for seed in range(200):
        hits[stratified_draw(labels, 250, np.random.default_rng(seed))] += 1
    assert abs(hits[:500].mean() - 50) < 2 and hits.min() > 20 and hits.max() < 85


@pytest.mark.parametrize(
    ("parts", "config", "sizes"),
    [
        ({"train": 800}, SplitConfig(), (600, 100, 100)),
        ({"train": 800}, SplitConfig(validation=50, test=0.25), (550, 50, 200)),
        ({"train": 600, "test": 200}, SplitConfig(), (500, 100, 200)),
        ({"train": 600, "test": 200}, SplitConfig(validation=0), (600, 0, 200)),
        ({"train": 600, "validation": 100}, SplitConfig(test=60), (540, 100, 60)),
        ({"train": 600, "validation": 100, "test": 90}, SplitConfig(), (600, 100, 90)),
        ({"train": 600, "validation": 100, "test": 90}, SplitConfig(validation=0), (700, 0, 90)),
        (
            {"train": 600, "validation": 100, "test": 100},
            SplitConfig(kind="pooled", validation=70, test=0.1),
            (650, 70, 80),
        ),
        ({"train": 3}, SplitConfig(), (1, 1, 1)),
    ],
)
def test_sizes_by_kind_of_split(parts, config, sizes) -> None:
    images = reduced(parts)
    splits = split_set(images, config)
    assert tuple(len(getattr(splits, part).images) for part in PARTS) == sizes
    indices = split_indices(images, config)
    everything = np.sort(np.concatenate(list(indices.values())))
    assert np.array_equal(everything, np.arange(sum(parts.values()))), "disjoint and complete"


@pytest.mark.parametrize("kind", ["official", "pooled"])
@pytest.mark.parametrize("seed", [0, 7])
def test_images_and_labels_stay_together_and_classes_in_proportion(kind: str, seed: int) -> None:
    images = reduced({"train": 700, "test": 300})
    config = SplitConfig(kind=kind, validation=0.2, test=0.1, seed=seed)
    splits = split_set(images, config)
    pool = np.concatenate([images.parts[part].images for part in ("train", "test")])
    for part, indices in split_indices(images, config).items():
        content = getattr(splits, part)
        assert np.array_equal(content.images, pool[indices])
        assert np.array_equal(content.labels, labels_of(images)[indices])
    source = images.parts["train"].labels if kind == "official" else labels_of(images)
    exact = np.bincount(source) * 200 / len(source)
    drawn = np.bincount(splits.validation.labels, minlength=10)
    assert np.abs(drawn - exact).max() < 2  # one for each of the two draws


def test_the_seed_alone_decides_and_the_digest_tells() -> None:
    images = reduced({"train": 800})
    again, other = (split_set(images, SplitConfig(seed=seed)) for seed in (0, 1))
    first = split_set(images, SplitConfig(seed=0))
    assert np.array_equal(first.test.images, again.test.images)
    assert first.split_digest == again.split_digest != other.split_digest
    assert not np.array_equal(first.test.images, other.test.images)
    assert first.digest == other.digest == images.digest
    more = split_indices(images, SplitConfig(validation=0.5))
    assert np.array_equal(more["test"], split_indices(images, SplitConfig())["test"])


def test_the_draws_of_a_seed_never_change() -> None:
    """Records name their split by this digest: it must hold on every platform and version."""
    indices = split_indices(BUNDLED, SplitConfig(kind="pooled", validation=100, test=7000))
    assert digest_of_indices(indices).startswith("6f9440cb3724ceb2")


@pytest.mark.parametrize(
    ("parts", "config", "words"),
    [
        ({"train": 500}, SplitConfig(validation=10_000), ["validation = 10000", "10,000", "438"]),
        ({"train": 500}, SplitConfig(test=500), ["test = 500", "500 images", "fraction"]),
        ({"train": 500}, SplitConfig(test=0), ["test = 0", "no test images"]),
        ({"train": 1}, SplitConfig(), ["needs at least 2 images in each part", "give more"]),
        ({"train": 2}, SplitConfig(), ["validation = 0.125", "1 images", "needs at least 2"]),
        ({"train": 300, "test": 50}, SplitConfig(validation=300), ["validation = 300", "[split]"]),
    ],
)
def test_impossible_shares_are_refused_with_numbers(parts, config, words) -> None:
    with pytest.raises(BadInput) as caught:
        split_set(reduced(parts), config)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert str(caught.value).startswith("split of own: ")


def test_a_search_sees_the_same_images_and_no_test() -> None:
    config = SplitConfig(kind="pooled", validation=0.2, test=0.2, seed=3)
    full, search = load_splits("mnist_mini", config), load_search_splits("mnist_mini", config)
    assert not hasattr(search, "test")
    assert "test" not in {field.name for field in dataclasses.fields(search)}
    assert np.array_equal(full.train.images, search.train.images)
    assert np.array_equal(full.validation.labels, search.validation.labels)
    assert (full.digest, full.split_digest) == (search.digest, search.split_digest)


def test_the_digest_sees_every_value_and_the_parts() -> None:
    images = reduced({"train": 100, "test": 20})
    train, test = images.parts["train"], images.parts["test"]
    pixels, labels = train.images.copy(), train.labels.copy()
    pixels[50, 0, 3, 4] ^= 1
    labels[7] = (labels[7] + 1) % 10
    joined = LabelledImages(*(np.concatenate(pair) for pair in zip(train, test, strict=True)))
    variants = [
        {"train": LabelledImages(pixels, train.labels), "test": test},
        {"train": LabelledImages(train.images, labels), "test": test},
        {"train": joined},
        {"train": train, "validation": test},
        {"train": LabelledImages(train.images.reshape(-1, 1, 56, 14), train.labels), "test": test},
    ]
    digests = {dataclasses.replace(images, parts=parts).digest for parts in variants}
    assert len(digests | {images.digest}) == len(variants) + 1
    assert dataclasses.replace(images, name="x", source="y").digest == images.digest


def test_the_legacy_split_of_the_full_files() -> None:
    config = SplitConfig(kind="pooled", validation=7_000, test=7_000)
    try:
        splits = load_splits("fashion_mnist", config)
    except BadInput as error:
        if os.environ.get("BENCH_REQUIRE_FULL_DATA"):
            raise
        pytest.skip(f"the full Fashion-MNIST files are missing: {error}")
    sizes = [np.bincount(part.labels) for part in (splits.train, splits.validation, splits.test)]
    assert [set(size.tolist()) for size in sizes] == [{5_600}, {700}, {700}]


@pytest.mark.parametrize("kind", ["official", "pooled"])
@pytest.mark.parametrize("validation", [0, 100, 0.125, 0.3])
@pytest.mark.parametrize("parts", [("train",), ("train", "test"), ("train", "validation", "test")])
def test_sizes_are_known_without_the_images(
    kind: Literal["official", "pooled"], validation: float, parts: tuple[str, ...]
) -> None:
    images = reduced(dict.fromkeys(parts, 301))
    config = SplitConfig(kind=kind, validation=validation, test=0.2)
    drawn = {part: len(indices) for part, indices in split_indices(images, config).items()}
    sizes = planned_sizes(images.counts, config)
    assert {part: sizes.get(part, 0) for part in PARTS} == drawn
