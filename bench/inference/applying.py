"""A trained autoencoder applied to images: what `bench encode` and its siblings compute."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.inference.inputs import Images
from bench.inference.outputs import Result

if TYPE_CHECKING:
    from bench.inference.reference import Reference
    from bench.registry.loading import LoadedModel

Floats = NDArray[np.float32]
OnBatch = Callable[[int, int], None]
"""Called with how many images are done, and of how many."""

AT_ONCE = 1000
SHOWN, PAIRS, SAMPLES = 16, 8, 64
"""So many images, pairs of images and samples are in a picture."""


def _unit(pixels: NDArray[np.uint8]) -> Floats:
    return pixels.astype(np.float32) / np.float32(255)


def _by_batches(
    work: Callable[[NDArray[Any]], Floats], values: NDArray[Any], on_batch: OnBatch
) -> Floats:
    parts = []
    for start in range(0, len(values), AT_ONCE):
        parts.append(work(values[start : start + AT_ONCE]))
        on_batch(min(start + AT_ONCE, len(values)), len(values))
    return np.concatenate(parts)


def _pixel_columns(images: NDArray[Any]) -> list[str]:
    return [f"pixel{index}" for index in range(images[0].size)]


def _levels(images: Floats) -> NDArray[np.uint8]:
    """Images in [0, 1] as whole numbers from 0 to 255, channels last as in CSV files."""
    levels: NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
    return levels.transpose(0, 2, 3, 1).reshape(len(images), -1)


def _texts(names: Sequence[str]) -> NDArray[np.str_]:
    return np.array(names, dtype=np.str_)


def encode(model: "LoadedModel", images: Images, on_batch: OnBatch) -> Result:
    """Codes (N, code_size) of the images: arrays `names`, `codes`; columns name, z0, z1, ..."""
    codes = _by_batches(model.encode, images.pixels, on_batch)
    if not codes.shape[1]:
        raise BadInput(f"{model.title} has no code: it gives one image for all")
    return Result(
        {"names": _texts(images.names), "codes": codes},
        ["name", *(f"z{index}" for index in range(codes.shape[1]))],
        lambda: [(name, *map(float, code)) for name, code in zip(images.names, codes, strict=True)],
    )


def reconstruct(model: "LoadedModel", images: Images, on_batch: OnBatch) -> Result:
    """Reconstructions: arrays `names`, `reconstructions` (N, C, H, W) in [0, 1] and `errors` (N,),
    the mean squared error of each image; columns name, mse, pixel0, ... (0 to 255)."""
    again = _by_batches(model.reconstruct, images.pixels, on_batch)
    errors = squared_errors(images.pixels, again)
    return Result(
        {"names": _texts(images.names), "reconstructions": again, "errors": errors},
        ["name", "mse", *_pixel_columns(again)],
        lambda: [
            (name, float(error), *map(int, row))
            for name, error, row in zip(images.names, errors, _levels(again), strict=True)
        ],
        partial(_pairs_picture, model.title, images, again, errors),
    )


def squared_errors(pixels: NDArray[np.uint8], again: Floats) -> Floats:
    """The mean squared error of each image (N,), on [0, 1], as the served anomaly score."""
    errors = [
        np.square(again[start : start + AT_ONCE] - _unit(pixels[start : start + AT_ONCE])).mean(
            axis=(1, 2, 3)
        )
        for start in range(0, len(pixels), AT_ONCE)
    ]
    return np.concatenate(errors)


def _pairs_picture(title: str, images: Images, again: Floats, errors: Floats) -> bytes:
    shown = slice(0, SHOWN)
    below = f"the first {len(images.names[shown])} of {len(images.names):,} images"
    below += " · below each name its mean squared error"
    texts = _with_scores(images.names[shown], errors[shown])
    return _sheet(f"Reconstructions by {title}", below, images.pixels[shown], again[shown], texts)


def _with_scores(names: Sequence[str], scores: Floats) -> list[tuple[str, str]]:
    return [(name, f"{score:.4f}") for name, score in zip(names, scores, strict=True)]


def _sheet(
    title: str,
    below: str,
    pixels: NDArray[np.uint8],
    again: Floats,
    texts: Sequence[tuple[str, str]],
) -> bytes:
    """Images above their reconstructions, eight in a row."""
    from bench.figures import paired_sheet, to_png

    return to_png(paired_sheet(title, below, _unit(pixels), again, texts))


def anomaly(
    model: "LoadedModel", images: Images, reference: "Reference | None", on_batch: OnBatch
) -> Result:
    """How unlike its training images each image is: arrays `names`, `scores` (N,), its mean squared
    error, and `percentiles` (N,), the share in % of the model's own test images with a lower one.

    Without a `reference` there are no percentiles (NaN; empty in CSV). The picture shows the images
    with the highest scores.
    """
    again = _by_batches(model.reconstruct, images.pixels, on_batch)
    scores = squared_errors(images.pixels, again)
    percentiles = (
        np.full(len(scores), np.nan, np.float32) if reference is None else reference.place(scores)
    )
    order = np.argsort(-scores, kind="stable")[:SHOWN]
    return Result(
        {"names": _texts(images.names), "scores": scores, "percentiles": percentiles},
        ["name", "score", "percentile"],
        lambda: [
            (name, float(score), "" if np.isnan(place) else round(float(place), 2))
            for name, score, place in zip(images.names, scores, percentiles, strict=True)
        ],
        lambda: _sheet(
            f"The highest errors of {model.title}",
            f"{len(order)} of {len(scores):,} images",
            images.pixels[order],
            again[order],
            _with_scores([images.names[index] for index in order], scores[order]),
        ),
    )


def interpolate(model: "LoadedModel", images: Images, steps: int, on_batch: OnBatch) -> Result:
    """From the first image to the second, from the third to the fourth, ...: arrays `names` (P, 2)
    and `images` (P, steps, C, H, W) in [0, 1]; columns first, second, step, pixel0, ..."""
    count = len(images.names) // 2
    if not count:
        raise BadInput(f"expected two images or more to interpolate, got {len(images.names)}")
    ends = images.pixels[: 2 * count].reshape(count, 2, *images.pixels.shape[1:])
    each = max(1, AT_ONCE // steps)
    parts = []
    for start in range(0, count, each):
        block = ends[start : start + each]
        parts.append(model.interpolate(block[:, 0], block[:, 1], steps))
        on_batch(min(start + each, count), count)
    decoded = np.concatenate(parts)
    names = np.array(images.names[: 2 * count], dtype=np.str_).reshape(count, 2)
    return Result(
        {"names": names, "images": decoded},
        ["first", "second", "step", *_pixel_columns(decoded[0])],
        lambda: [
            (*pair, step, *map(int, row))
            for pair, path in zip(names, decoded, strict=True)
            for step, row in enumerate(_levels(path))
        ],
        partial(_interpolation_picture, model.title, ends, decoded),
    )


def _interpolation_picture(title: str, ends: NDArray[np.uint8], decoded: Floats) -> bytes:
    from bench.figures import interpolation_sheet, to_png

    shown = slice(0, PAIRS)
    below = f"the first {len(ends[shown])} of {len(ends):,} pairs"
    name = f"Interpolation by {title}"
    return to_png(interpolation_sheet(name, below, _unit(ends[shown]), decoded[shown]))


def sample(model: "LoadedModel", count: int, seed: int, dataset: str = "") -> Result:
    """Decoded random codes: array `images` (N, C, H, W) in [0, 1]; columns name, pixel0, ...

    `dataset`: where the training images are, if the sampler needs them. Raises as
    `bench.registry.loading.LoadedModel.sample`.
    """
    drawn = model.sample(count, seed, dataset)
    return Result(
        {"images": drawn},
        ["name", *_pixel_columns(drawn)],
        lambda: [(index, *map(int, row)) for index, row in enumerate(_levels(drawn))],
        partial(_samples_picture, model, drawn, seed),
    )


def _samples_picture(model: "LoadedModel", drawn: Floats, seed: int) -> bytes:
    from bench.figures import image_sheet, to_png

    below = f"{model.sampler} · seed {seed}"
    below += f" · the first {SAMPLES} of {len(drawn):,}" if len(drawn) > SAMPLES else ""
    return to_png(image_sheet(f"Samples of {model.title}", below, drawn[:SAMPLES]))
