"""Arrays that a record keeps for figures: images, reconstructions, codes, samples, interpolations.

Fixed rules choose them (the first image of each class, the best and worst scores), so that
pictures of two runs show the same images and nothing is picked by hand.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.protocol import EvaluationConfig
from bench.data import LabelledImages, Splits
from bench.evaluation.codes import checked_images
from bench.evaluation.evaluate import BATCH, Classification, Evaluation
from bench.metrics import METRICS, Seen, seen_of
from bench.metrics.classification import confusion, per_class
from bench.metrics.generation import (
    MOST_SAMPLES,
    SAMPLERS,
    as_bytes,
    nearest,
    sample_features,
    samples,
)
from bench.metrics.interpolation import between
from bench.models.base import Autoencoder

SHOWN, EXTREMES, SAMPLES, STANDARD, CODES, STEPS = 10, 8, 64, 32, 2000, 5
MISTAKES = 24
GENERATED, PATHS, GRID = 10, 6, 15
PICTURES, LARGEST = 24, 64
"""How many test images are kept as small pictures, and the longest side that these may have."""
_FULL_COVARIANCE = 512
"""Largest code whose full covariance is fitted for sampling; above it, only variances."""

Gallery = dict[str, NDArray[np.float32] | NDArray[np.int64] | NDArray[np.uint8]]


def build_gallery(
    model: Autoencoder, splits: Splits, scored: Evaluation, metric: str, config: EvaluationConfig
) -> Gallery:
    """The arrays under `shown`, `label`, `pictures`, `codes`, `extremes`, `samples`,
    `interpolation` and `grid`.

    Their content is described in `bench.records.files`.

    `scored` is the evaluation of the validation images, or of the test images if a protocol
    has no validation; `metric`, with its settings in `config`, scores the shown images and orders
    the extremes.
    """
    ranked = splits.validation if len(splits.validation.images) else splits.test
    gallery = class_labels(splits)
    for part, images in (("train", splits.train), ("test", splits.test)):
        chosen = first_of_each_class(images.labels)
        x, x_hat = _unit(images.images[chosen]), _reconstruct(model, images.images[chosen])
        both = seen_of({"images": torch.from_numpy(x), "reconstructions": torch.from_numpy(x_hat)})
        gallery |= {
            f"shown/{part}/x": x,
            f"shown/{part}/x_hat": x_hat,
            f"shown/{part}/label": images.labels[chosen],
            f"shown/{part}/score": METRICS[metric].compute(both, config).float().numpy(),
        }
    gallery |= _pictures(model, splits.test)
    gallery |= _extremes(model, ranked, scored.scores[metric], METRICS[metric].higher_is_better)
    if model.code_size:
        gallery |= {
            "codes/z": scored.codes[:CODES],
            "codes/label": ranked.labels[: len(scored.codes[:CODES])],
        }
        gallery |= _samples(model, splits.train.images)
        gallery |= _interpolation(model, gallery["shown/test/x"])
    if model.code_size == 2 and model.levels is None:
        gallery |= _grid(model, scored.codes)
    return gallery


def generation_gallery(seen: Seen, train: NDArray[np.uint8]) -> Gallery:
    """The first samples of each sampler, with the nearest training images, as bytes; `seen` is the
    test part, `train` the training images. Arrays under `generated`."""
    gallery: Gallery = {}
    count = min(len(seen.features), MOST_SAMPLES)
    for sampler in SAMPLERS:
        if ("vectors" if sampler == "prior" else "short_vectors") not in seen.offers:
            continue
        features = sample_features(seen, sampler, count)[:GENERATED]
        found = nearest(features, seen.train.features)
        gallery |= {
            f"generated/{sampler}/x_hat": samples(seen, sampler, count)[:GENERATED].numpy(),
            f"generated/{sampler}/nearest": train[found.place.numpy()],
            f"generated/{sampler}/index": found.place.numpy(),
            f"generated/{sampler}/distance": found.distance.float().numpy(),
        }
    return gallery


def path_gallery(seen: Seen, test: NDArray[np.uint8]) -> Gallery:
    """The first paths that the measures of interpolation take, and the test images (N, C, H, W) at
    their ends, as bytes. Arrays under `paths`; none for fewer than two images."""
    starts, ends = seen.pairs[:PATHS].T
    if not len(starts):
        return {}
    points = between(seen.vectors[starts], seen.vectors[ends])
    decoded = as_bytes(seen.decode(points.flatten(0, 1))).numpy()
    return {
        "paths/x": np.stack([test[starts.numpy()], test[ends.numpy()]], axis=1),
        "paths/x_hat": decoded.reshape(len(starts), -1, *test.shape[1:]),
    }


def _grid(model: Autoencoder, codes: NDArray[np.float32]) -> Gallery:
    """Decoded codes of two numbers on a grid that spans 98 % of the codes along either axis."""
    low, high = np.percentile(codes, (1, 99), axis=0)
    axes = np.linspace(low, high, GRID).astype(np.float32)
    first, second = np.meshgrid(axes[:, 0], axes[:, 1])
    points = torch.from_numpy(np.column_stack([first.ravel(), second.ravel()]))
    decoded = as_bytes(model.decode_images(points.to(_device(model))).cpu()).numpy()
    return {"grid/x_hat": decoded.reshape(GRID, GRID, *model.image_shape), "grid/z": axes}


def classification_gallery(splits: Splits, scored: Mapping[str, Classification]) -> Gallery:
    """The arrays under `label`, `predicted`, `confidence`, `confusion`, `per_class`, `shown` and
    `misclassified` of a classifier.

    `scored` by part, "validation" and "test"; the mistakes shown are the most confident ones on
    validation, or on test if a protocol has no validation.
    """
    gallery = class_labels(splits)
    for part, found in scored.items():
        labels, predicted = (
            torch.from_numpy(array) for array in (gallery[f"label/{part}"], found.predicted)
        )
        counts = confusion(labels, predicted, len(splits.class_names))
        shares = torch.stack(per_class(counts)[:3], dim=1)
        gallery |= {
            f"predicted/{part}": found.predicted,
            f"confidence/{part}": found.confidence,
            f"confusion/{part}": counts.numpy(),
            f"per_class/{part}": shares.float().numpy(),
        }
    for part, images in (("train", splits.train), ("test", splits.test)):
        chosen = first_of_each_class(images.labels)
        gallery |= {
            f"shown/{part}/x": _unit(images.images[chosen]),
            f"shown/{part}/label": images.labels[chosen],
        }
    ranked = splits.validation if len(splits.validation.images) else splits.test
    return gallery | _mistakes(ranked, next(iter(scored.values())))


def _mistakes(images: LabelledImages, found: Classification) -> Gallery:
    """The misclassified images, the most confident first.

    Empty if there are none.
    """
    wrong = np.flatnonzero(found.predicted != images.labels)
    if not len(wrong):
        return {}
    chosen = wrong[np.argsort(-found.confidence[wrong], kind="stable")][:MISTAKES]
    return {
        "misclassified/x": _unit(images.images[chosen]),
        "misclassified/label": images.labels[chosen],
        "misclassified/predicted": found.predicted[chosen],
        "misclassified/confidence": found.confidence[chosen],
    }


def class_labels(splits: Splits) -> Gallery:
    """The class of every scored image, in the order of its scores; empty without labels."""
    if not splits.class_names:
        return {}
    parts = {"validation": splits.validation, "test": splits.test}
    return {f"label/{part}": images.labels for part, images in parts.items() if len(images.labels)}


def first_of_each_class(labels: NDArray[np.int64], count: int = SHOWN) -> NDArray[np.int64]:
    """Indices of up to `count` images: the first of each class, then the second of each, ..."""
    turn = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        turn[members] = np.arange(len(members))
    order: NDArray[np.int64] = np.lexsort((labels, turn))[:count]
    return order


def _pictures(model: Autoencoder, test: LabelledImages) -> Gallery:
    """Test images and their reconstructions as bytes; none of large images."""
    if max(test.images.shape[-2:]) > LARGEST:
        return {}
    chosen = test.images[first_of_each_class(test.labels, PICTURES)]
    rounded = np.rint(255 * _reconstruct(model, chosen).clip(0, 1))
    return {"pictures/x": chosen, "pictures/x_hat": rounded.astype(np.uint8)}


def _unit(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255)


def _device(model: Autoencoder) -> torch.device:
    """The model's device (closed forms have buffers only)."""
    first: Tensor = next(iter(model.state_dict().values()))
    return first.device


def _reconstruct(model: Autoencoder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    made = model.reconstruct(torch.from_numpy(_unit(images)).to(_device(model)))
    return _to_numpy(checked_images(made))


def _to_numpy(images: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = images.detach().float().contiguous().cpu().numpy()
    return array


def _extremes(
    model: Autoencoder, images: LabelledImages, scores: NDArray[np.float32], higher: bool
) -> Gallery:
    """The best and the worst reconstructions, up to `EXTREMES` each.

    Empty for a single image, which would be both.
    """
    order = np.argsort(-scores if higher else scores, kind="stable")
    half = min(EXTREMES, len(order) // 2)
    if not half:
        return {}
    chosen = np.concatenate((order[:half], order[len(order) - half :][::-1]))
    return {
        "extremes/x": _unit(images.images[chosen]),
        "extremes/x_hat": _reconstruct(model, images.images[chosen]),
        "extremes/score": scores[chosen],
    }


def _samples(model: Autoencoder, train: NDArray[np.uint8]) -> Gallery:
    """Decode draws from N(0, I), or from a distribution fitted to codes of training images.

    For real codes: a Gaussian; for discrete codes: the frequencies at each position. With fitted
    real codes, N(0, I) is decoded as well, to show what the fit contributes.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(SAMPLES, model.code_size, generator=generator)
    plain: Gallery = {}
    if not model.gaussian_prior:
        if model.levels is None:
            normal = drawn[:STANDARD].to(_device(model))
            plain = {"samples/standard_x_hat": _to_numpy(model.decode_images(normal))}
        drawn = fitted_codes(model, train, drawn, generator)
    return plain | {
        "samples/x_hat": _to_numpy(model.decode_images(drawn.to(_device(model)))),
        "samples/fitted": np.array([0 if model.gaussian_prior else 1], dtype=np.int64),
    }


def fitted_codes(
    model: Autoencoder, train: NDArray[np.uint8], noise: Tensor, generator: torch.Generator
) -> Tensor:
    """Turn `noise` (n, code_size), drawn from N(0, I), into codes like those of training images.

    Real codes come from the Gaussian fitted to the codes of the first 2,000 images (N, C, H, W);
    discrete ones from the frequencies at each position, drawn with `generator`.
    """
    images = torch.from_numpy(_unit(train[:CODES])).to(_device(model))
    codes = torch.cat([model.encode_images(part) for part in images.split(BATCH)]).double().cpu()
    if model.levels is None:
        return _gaussian_like(codes, noise.double()).float()
    chosen = torch.randint(len(codes), noise.shape, generator=generator)
    return codes.gather(0, chosen).float()


def _gaussian_like(codes: Tensor, noise: Tensor) -> Tensor:
    """Turn N(0, I) draws into draws of the Gaussian with the mean and covariance of `codes`."""
    mean, size = codes.mean(dim=0), codes.shape[1]
    if size > _FULL_COVARIANCE:
        return mean + noise * codes.std(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov(codes.T).view(size, size))
    drawn: Tensor = mean + (noise * values.clamp_min(0).sqrt()) @ vectors.T
    return drawn


def codes_between(model: Autoencoder, first: Tensor, second: Tensor, steps: int) -> Tensor:
    """`steps` evenly spaced codes from `first` to `second` (P, d), both included: (P, steps, d).

    Between discrete codes there are no points: their numbers are exchanged one after the other.
    """
    weights = torch.linspace(0, 1, steps, device=first.device).view(1, steps, 1)
    here, there = first[:, None], second[:, None]
    if model.levels is None:
        return here * (1 - weights) + there * weights
    place = torch.arange(model.code_size, device=first.device) / model.code_size
    return torch.where(place < weights, there, here)


def _interpolation(model: Autoencoder, shown: NDArray[np.generic]) -> Gallery:
    """Decode evenly spaced points between the codes of neighbouring shown test images."""
    pairs = len(shown) // 2
    if not pairs:
        return {}
    ends = torch.from_numpy(shown[: 2 * pairs].astype(np.float32)).to(_device(model))
    codes = model.encode_images(ends).view(pairs, 2, -1)
    points = codes_between(model, codes[:, 0], codes[:, 1], STEPS)
    decoded = model.decode_images(points.flatten(0, 1))
    return {
        "interpolation/x": _to_numpy(ends).reshape(pairs, 2, *model.image_shape),
        "interpolation/x_hat": _to_numpy(decoded).reshape(pairs, STEPS, *model.image_shape),
    }
