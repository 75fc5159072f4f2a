"""Figures of decoded images: reconstructions, samples, interpolation, progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.core.spec import RunRecord
from bench.figures.sheet import Images, Row, draw_sheet
from bench.figures.style import Arrays, code_bits, describe, ranked_part, short_name, styled
from bench.metrics import METRICS, Metric

_LONGEST_NAME = 13
_STEPS_SHOWN = 6
_ACROSS = 8


@dataclass(frozen=True)
class Differing:
    """Images on which two rows differ most: `images` (N, C, H, W) uint8, of which the first row is
    better on the first `split`, the second on the others.

    By row: `scores` (N,) of `metric`, mean over its seeds; `reconstructions` (N, C, H, W) in [0, 1]
    where its weights are at hand, and `seeds`, whose they are.
    """

    metric: str
    images: NDArray[np.uint8]
    split: int
    scores: Mapping[str, NDArray[np.float32]]
    reconstructions: Mapping[str, NDArray[np.float32]]
    seeds: Mapping[str, int]


@styled
def reconstructions(record: RunRecord, arrays: Arrays) -> Figure:
    """Training and test images, the first of each class, each above its reconstruction, with the
    score of each if the run kept it."""
    metric = METRICS[record.spec.selection_metric]
    rows, below = [], describe(record)
    for part, name in (("train", "training"), ("test", "test")):
        classes = _class_names(record, arrays[f"shown/{part}/label"])
        rows += [
            Row(arrays[f"shown/{part}/x"], f"{name} image", classes, new_block=part == "test"),
            Row(arrays[f"shown/{part}/x_hat"], "reconstruction", _scores(arrays, part, metric)),
        ]
    if rows[1].above:
        below += f" · numbers: {metric.title.lower()}{f' in {metric.unit}' * bool(metric.unit)}"
    return draw_sheet("Reconstructions", below, rows)


def _scores(arrays: Arrays, part: str, metric: Metric) -> list[str]:
    """The score of each shown image; records of earlier versions have none."""
    return [f"{score:.{metric.decimals}f}" for score in arrays.get(f"shown/{part}/score", ())]


@styled
def progress(record: RunRecord, arrays: Arrays) -> Figure:
    """Eight validation images and their reconstructions after a few epochs of the training."""
    epochs = arrays["progress/epoch"]
    chosen = np.unique(np.linspace(0, len(epochs) - 1, _STEPS_SHOWN).round().astype(int))
    rows = [Row(arrays["progress/x"], "validation image")]
    for i in chosen:
        first = i == chosen[0]
        rows.append(Row(arrays["progress/x_hat"][i], f"epoch {int(epochs[i])}", new_block=first))
    return draw_sheet("Learning to reconstruct", describe(record), rows)


@styled
def samples(record: RunRecord, arrays: Arrays) -> Figure:
    """Decoded random codes, eight per row."""
    rows = _in_rows(arrays["samples/x_hat"])
    if not arrays["samples/fitted"][0]:
        source = "z from N(0, I)"
    elif code_bits(record):
        source = "each position drawn by its own frequencies in training codes"
    else:
        source = "z from a Gaussian fitted to the training codes"
    return draw_sheet(f"Decoded codes, {source}", describe(record), rows)


@styled
def standard_samples(record: RunRecord, arrays: Arrays) -> Figure:
    """Decoded z ~ N(0, I), eight per row, for codes that were not trained towards N(0, I)."""
    rows = _in_rows(arrays["samples/standard_x_hat"])
    title = "Decoded codes, z from N(0, I) as it is"
    return draw_sheet(title, f"{describe(record)} · codes were not trained towards it", rows)


@styled
def interpolation(record: RunRecord, arrays: Arrays) -> Figure:
    """Pairs of images and evenly spaced codes between them, decoded.

    Indices of a discrete code have nothing in between: they are exchanged one after the other.
    """
    ends, between = arrays["interpolation/x"], arrays["interpolation/x_hat"]
    rows, steps = _paths(ends, between), between.shape[1]
    way = "with more and more of B's indices" if code_bits(record) else "on the line from A to B"
    title = f"Interpolation: decoded codes {way}"
    return draw_sheet(title, describe(record), rows, breaks=(1, 1 + steps))


_SAMPLERS = {
    "prior": "z from N(0, I)",
    "gaussian": "from a Gaussian",
    "mixture": "from 10 Gaussians",
}


@styled
def samplers(record: RunRecord, arrays: Arrays) -> Figure:
    """Samples of each sampler above the training images that are nearest in feature space."""
    rows: list[Row] = []
    for name, label in _SAMPLERS.items():
        if f"generated/{name}/x_hat" in arrays:
            away = [f"{distance:.1f}" for distance in arrays[f"generated/{name}/distance"]]
            rows += [
                Row(_unit(arrays[f"generated/{name}/x_hat"]), label, away, new_block=bool(rows)),
                Row(_unit(arrays[f"generated/{name}/nearest"]), "nearest training"),
            ]
    below = f"{describe(record)} · numbers: distance of features to the image below"
    return draw_sheet("Samples by sampler, above the nearest training images", below, rows)


@styled
def paths(record: RunRecord, arrays: Arrays) -> Figure:
    """Pairs of test images and eleven evenly spaced codes between theirs, decoded."""
    ends, between = _unit(arrays["paths/x"]), _unit(arrays["paths/x_hat"])
    steps = between.shape[1]
    heads = ["image A", *(f"{i / (steps - 1):.0%}" for i in range(steps)), "image B"]
    rows = [
        Row(np.concatenate([two[:1], decoded, two[1:]]), f"pair {i}", heads if i == 1 else ())
        for i, (two, decoded) in enumerate(zip(ends, between, strict=True), start=1)
    ]
    title = "Paths between the codes of pairs of test images"
    return draw_sheet(title, describe(record), rows, breaks=(1, 1 + steps))


def _unit(images: NDArray[np.generic]) -> NDArray[np.float32]:
    """Bytes -> [0, 1]."""
    return images.astype(np.float32) / np.float32(255)


@styled
def differences(title: str, below: str, found: Differing) -> Figure:
    """Images on which two rows differ most, with the scores of each row above them and, where its
    weights are at hand, its reconstructions below."""
    decimals = METRICS[found.metric].decimals
    above = [
        "\n".join(f"{row} {values[image]:.{decimals}f}" for row, values in found.scores.items())
        for image in range(len(found.images))
    ]
    rows: list[Row] = []
    for block in _split(found):
        rows.append(
            Row(
                found.images[block].astype(np.float32) / np.float32(255),
                f"{_leader(found, block)}\nis better",
                above[block],
                new_block=bool(rows),
            )
        )
        rows += [
            Row(images[block], f"{row}\nseed {found.seeds[row]}")
            for row, images in found.reconstructions.items()
        ]
    return draw_sheet(title, below, rows)


def _split(found: Differing) -> list[slice]:
    blocks = [slice(0, found.split), slice(found.split, len(found.images))]
    return [block for block in blocks if block.start < block.stop]


def _leader(found: Differing, block: slice) -> str:
    first, second = [*found.scores][:2]
    return first if block.start < found.split else second


@styled
def extremes(record: RunRecord, arrays: Arrays) -> Figure:
    """The eight best and the eight worst reconstructions of the images that rank the run."""
    metric = METRICS[record.spec.selection_metric]
    scores = [f"{score:.{metric.decimals}f}" for score in arrays["extremes/score"]]
    x, x_hat = arrays["extremes/x"], arrays["extremes/x_hat"]
    half = len(x) // 2
    rows = [
        Row(x[:half], "best: image", scores[:half]),
        Row(x_hat[:half], "reconstruction"),
        Row(x[half:], "worst: image", scores[half:], new_block=True),
        Row(x_hat[half:], "reconstruction"),
    ]
    unit = f" in {metric.unit}" if metric.unit else ""
    title = f"Best and worst {ranked_part(record)} images by {metric.title.lower()}{unit}"
    return draw_sheet(title, describe(record), rows)


@styled
def paired_sheet(
    title: str, below: str, images: Images, again: Images, names: Sequence[tuple[str, str]]
) -> Figure:
    """Images (N, C, H, W) in [0, 1] with their names and scores, eight in a row, above their
    reconstructions."""
    texts = [f"{short_name(name, _LONGEST_NAME)}\n{score}" for name, score in names]
    rows = []
    for start in range(0, len(images), _ACROSS):
        block = slice(start, start + _ACROSS)
        rows.append(Row(images[block], "image", texts[block], new_block=bool(start)))
        rows.append(Row(again[block], "reconstruction"))
    return draw_sheet(title, below, rows)


@styled
def interpolation_sheet(title: str, below: str, ends: Images, decoded: Images) -> Figure:
    """Pairs of images (P, 2, C, H, W) and what was decoded between them (P, steps, C, H, W)."""
    return draw_sheet(title, below, _paths(ends, decoded), breaks=(1, 1 + decoded.shape[1]))


@styled
def image_sheet(title: str, below: str, images: Images) -> Figure:
    """Images (N, C, H, W) in [0, 1], eight in a row."""
    return draw_sheet(title, below, _in_rows(images))


def _in_rows(images: Images) -> list[Row]:
    return [Row(images[start : start + _ACROSS]) for start in range(0, len(images), _ACROSS)]


def _paths(ends: Images, between: Images) -> list[Row]:
    """A row for each pair: its first image, the decoded ones, its second image."""
    steps = between.shape[1]
    heads = ["image A", *(f"{i / (steps - 1):.0%}" for i in range(steps)), "image B"]
    return [
        Row(
            np.concatenate([pair[:1], decoded, pair[1:]]),
            f"pair {number + 1}",
            heads if number == 0 else (),
        )
        for number, (pair, decoded) in enumerate(zip(ends, between, strict=True))
    ]


def _class_names(record: RunRecord, labels: NDArray[np.int64]) -> list[str]:
    """One short name per label; empty for a set without classes."""
    if not record.class_names:
        return []
    return [short_name(record.class_names[int(label)], _LONGEST_NAME) for label in labels]
