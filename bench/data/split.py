"""From a data set to train, validation and test: stratified draws that depend only on the seed."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.core.protocol import Share, SplitConfig
from bench.core.spec import Part
from bench.data.content import PARTS, ImageSet, LabelledImages, repeated_images

Indices = NDArray[np.int64]
LEAST_IMAGES = 2
"""Images that every part needs: a variance over images, and pairs to draw, take two."""


@dataclass(frozen=True, kw_only=True)
class SearchSplits:
    """What a search may see: without a test part, so that none can leak.

    `digest` is that of the whole set's content, `split_digest` the SHA-256 of which image went
    where (test included, so that it equals that of the full splits).
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train: LabelledImages
    validation: LabelledImages
    digest: str
    split_digest: str
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Splits(SearchSplits):
    """All three parts, for a final run."""

    test: LabelledImages

    @cached_property
    def copies(self) -> int:
        """How many validation and test images are exact copies of one in an earlier part."""
        parts = {part: self.of(part) for part in PARTS}
        return repeated_images(parts)[0]

    def of(self, part: Part) -> LabelledImages:
        """The images of a part."""
        found: LabelledImages = getattr(self, part)
        return found

    def without_test(self) -> SearchSplits:
        """The same train and validation parts, for a search."""
        kept = {field.name: getattr(self, field.name) for field in dataclasses.fields(SearchSplits)}
        return SearchSplits(**kept)


def split_set(images: ImageSet, config: SplitConfig) -> Splits:
    """Split a set as given by SplitConfig; BadInput if no image is left for training.

    Fractions refer to all images of the set. `official` keeps the set's own parts,
    whatever `validation` and `test` say, except for `validation = 0`: then the set's own
    validation images are added to those for training.
    """
    indices = split_indices(images, config)
    return Splits(
        name=images.name,
        image_shape=images.image_shape,
        class_names=images.class_names,
        train=_take(images, indices["train"]),
        validation=_take(images, indices["validation"]),
        test=_take(images, indices["test"]),
        digest=images.digest,
        split_digest=digest_of_indices(indices),
        source=images.source,
        notes=images.notes,
    )


def require_images(splits: Splits, config: SplitConfig) -> None:
    """Refuse a split with a part that is too small to train on, to score or to draw.

    Raises BadInput with the size of each part.
    """
    sizes = {part: len(getattr(splits, part).images) for part in PARTS}
    wanted = [part for part in PARTS if sizes[part] or part != "validation" or config.validation]
    if all(sizes[part] >= LEAST_IMAGES for part in wanted):
        return
    found = ", ".join(f"{part} has {sizes[part]:,}" for part in wanted)
    raise BadInput(
        f"split of {splits.name}: needs at least {LEAST_IMAGES} images in each part; {found}: give "
        f"more images{_enough(sizes, config)}, or larger parts in [split] of a protocol"
    )


def _enough(sizes: Mapping[Part, int], config: SplitConfig) -> str:
    """How many images are enough, where all parts were drawn as fractions; else nothing."""
    shares, total = (config.validation, config.test), sum(sizes.values())
    drawn = (sizes["validation"], sizes["test"])
    if any(isinstance(share, int) for share in shares) or drawn != _drawn(shares, total):
        return ""
    for count in range(total, 100 * LEAST_IMAGES):
        drawn = _drawn(shares, count)
        if min(*drawn, count - sum(drawn)) >= LEAST_IMAGES:
            return f" ({count} are enough)"
    return ""


def split_indices(images: ImageSet, config: SplitConfig) -> dict[Part, Indices]:
    """Which image goes where, as sorted positions in the concatenated parts of the set."""
    ranges = _ranges(images)
    labels = np.concatenate([images.parts[part].labels for part in ranges])
    total = len(labels)
    if config.kind == "pooled":
        ranges = {"train": np.arange(total)}
    elif config.validation == 0 and "validation" in ranges:
        ranges["train"] = np.concatenate([ranges["train"], ranges.pop("validation")])
    # One stream for both draws, the test images first: their choice must not depend on the
    # number of validation images.
    rng = np.random.default_rng(config.seed)
    wanted = {"test": _count(config.test, total), "validation": _count(config.validation, total)}
    for part in ("test", "validation"):
        if part in ranges:
            continue
        pool = ranges["train"]
        _refuse_greed(images.name, part, wanted, pool, config)
        drawn = stratified_draw(labels[pool], wanted[part], rng)
        ranges[part] = pool[drawn]
        ranges["train"] = np.delete(pool, drawn)
    return {part: np.sort(ranges[part]) for part in PARTS}


def planned_sizes(counts: Mapping[Part, int], config: SplitConfig) -> dict[Part, int]:
    """How many images `split_indices` puts in each part of a set with these counts."""
    total = sum(counts.values())
    sizes: dict[Part, int] = {"train": total} if config.kind == "pooled" else {**counts}
    if config.validation == 0 and "validation" in sizes:
        sizes["train"] += sizes.pop("validation")
    shares: dict[Part, Share] = {"test": config.test, "validation": config.validation}
    for part, share in shares.items():
        if part not in sizes:
            sizes[part] = _count(share, total)
            sizes["train"] -= sizes[part]
    return sizes


def stratified_draw(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> Indices:
    """Draw exactly `count` of the images (0 to N), each class in proportion; sorted positions.

    Shares are rounded by the largest remainder (Hamilton's method), ties to the lower class, so
    that they add up. Every image gets one random key and each class gives its smallest keys:
    a single call of `random`, the part of numpy's streams that is kept stable.
    """
    keys = rng.random(len(labels))
    sizes = np.bincount(labels, minlength=1)
    exact = sizes * (count / max(len(labels), 1))
    taken = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(taken - exact, kind="stable")
    taken[by_remainder[: count - taken.sum()]] += 1
    chosen = [
        members[np.argsort(keys[members], kind="stable")[: taken[label]]]
        for label in range(len(sizes))
        for members in [np.flatnonzero(labels == label)]
    ]
    return np.sort(np.concatenate(chosen))


def digest_of_indices(indices: Mapping[Part, Indices]) -> str:
    """SHA-256 over which positions went to which part."""
    sha = hashlib.sha256()
    for part in PARTS:
        sha.update(f"{part} {len(indices[part])}\n".encode())
        sha.update(np.ascontiguousarray(indices[part], dtype="<i8").data)
    return sha.hexdigest()


def _ranges(images: ImageSet) -> dict[Part, Indices]:
    """Positions of each of the set's own parts, counted through all parts."""
    ranges: dict[Part, Indices] = {}
    start = 0
    for part in PARTS:
        if part in images.parts:
            end = start + len(images.parts[part].labels)
            ranges[part] = np.arange(start, end)
            start = end
    return ranges


def _count(share: Share, total: int) -> int:
    """The number of images for a share; a fraction never rounds to none."""
    return share if isinstance(share, int) else max(1, round(share * total))


def _drawn(shares: tuple[Share, Share], total: int) -> tuple[int, int]:
    """How many images are drawn for two shares."""
    return _count(shares[0], total), _count(shares[1], total)


def _refuse_greed(
    name: str, part: str, wanted: Mapping[str, int], pool: Indices, config: SplitConfig
) -> None:
    """Both draws must leave an image for training, and a test part must exist."""
    if part == "test" and wanted["test"] == 0:
        raise BadInput(
            f"split of {name}: test = 0, but the data set has no test images; "
            "set test to a count or a fraction such as 0.125 in [split]"
        )
    if wanted[part] >= len(pool):
        advice = (
            f"use a smaller count, or a fraction such as 0.125, for {part} in [split]"
            if isinstance(getattr(config, part), int)
            else f"needs at least {LEAST_IMAGES} images in each part: give more images"
        )
        raise BadInput(
            f"split of {name}: {part} = {getattr(config, part)} asks for {wanted[part]:,} of "
            f"{len(pool):,} images and leaves none to train on; {advice}"
        )


def _take(images: ImageSet, positions: Indices) -> LabelledImages:
    """The images at sorted positions; a whole part is not copied."""
    chosen: list[LabelledImages] = []
    for part, whole in _ranges(images).items():
        inside = positions[np.isin(positions, whole, assume_unique=True)]
        if len(inside) == len(whole):
            chosen.append(images.parts[part])
        elif len(inside) or len(positions) == 0:
            content = images.parts[part]
            local = inside - whole[0]
            chosen.append(LabelledImages(content.images[local], content.labels[local]))
    if len(chosen) == 1:
        return chosen[0]
    if not len(positions):
        return chosen[0]
    return LabelledImages(
        np.concatenate([part.images for part in chosen]),
        np.concatenate([part.labels for part in chosen]),
    )
