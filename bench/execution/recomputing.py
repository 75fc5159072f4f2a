"""What the weights of a run give: all of its scores again, or those of a few images."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data import Splits
from bench.evaluation.evaluate import seen_by
from bench.evaluation.scoring import on_device, score
from bench.execution.operations import multiply_adds
from bench.execution.runner import (
    build,
    checked_device,
    copies,
    restored,
    score_apart,
)
from bench.metrics import Seen, per_image
from bench.metrics.latent import active_units
from bench.models.base import Autoencoder, ClosedFormAutoencoder, ImageModel
from bench.records.files import Arrays


@dataclass(frozen=True)
class Recomputed:
    """What follows from the weights of a run and its images.

    `scores[part][metric]` for parts "val" and "test"; `facts` of the network and of its codes;
    `arrays` as in a record; `images` by part. `solved`: the scores of a closed form that was solved
    again; None for a trained network. `apart`: the largest distance of its reconstructions, on
    [0, 1], from those of the recorded weights.
    """

    scores: dict[str, dict[str, float]]
    facts: dict[str, float]
    arrays: Arrays
    images: dict[str, int]
    split_digest: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    solved: dict[str, dict[str, float]] | None = None
    apart: float = 0.0


def recompute(spec: RunSpec, weights: Arrays, store: Store | None = None) -> Recomputed:
    """Score weights again, count the network's parameters and multiply-adds again, and solve a
    closed form again. Raises as `execute` for other data or a missing device.

    `store` as in `bench.evaluation.scoring.score`.
    """
    model, splits = restored(spec, weights)
    scored = score_apart(model, spec, splits, weights, store)
    facts = _counted(model, splits) | scored.signs()
    solved, apart = None, 0.0
    if isinstance(model, ClosedFormAutoencoder):
        again = _solved_again(spec, splits)
        solved = score(again, spec, splits, store).means()
        apart = _largest_distance(model, again, splits)
    return Recomputed(
        scored.means(),
        facts,
        scored.arrays(),
        {"val": len(splits.validation.images), "test": len(splits.test.images)},
        splits.split_digest,
        splits.image_shape,
        splits.class_names,
        solved,
        apart,
    )


def _counted(model: ImageModel, splits: Splits) -> dict[str, float]:
    """The facts that follow from the network and the images alone."""
    return {
        "parameters": float(model.learned_numbers),
        "multiply_adds": multiply_adds(model),
        **model.sizes,
        "train_images": float(len(splits.train.images)),
        **copies(splits),
    }


def _solved_again(spec: RunSpec, splits: Splits) -> ClosedFormAutoencoder:
    """A closed form, solved again from the training images."""
    again = build(spec, splits)
    assert isinstance(again, ClosedFormAutoencoder)
    again.fit(on_device(splits.train, checked_device(spec.device)).images)
    return again


def _largest_distance(model: Autoencoder, other: Autoencoder, splits: Splits) -> float:
    """The largest distance, on [0, 1], of two models' reconstructions of some test images."""
    images = torch.from_numpy(splits.test.images[:_COMPARED]).float() / 255
    return float((model.reconstruct(images) - other.reconstruct(images)).abs().max())


_COMPARED = 200
"""How many test images are reconstructed by two solutions of a closed form."""


@dataclass(frozen=True)
class Drawn:
    """What the weights of a run give for images drawn from its validation and test parts.

    `scores[part]`: float32 (n,), the selection metric of the images at `places[part]`, for parts
    "validation" and "test" that have images; `images`: how many they have. `facts`: those that the
    network and the split give exactly. `signs`: about `output_std` and `active_units`, of the drawn
    images of the first of these parts; empty for a classifier. `apart` as in `Recomputed`.
    """

    scores: dict[str, NDArray[np.float32]]
    places: dict[str, NDArray[np.int64]]
    images: dict[str, int]
    facts: dict[str, float]
    signs: dict[str, float]
    split_digest: str
    apart: float


def recompute_drawn(spec: RunSpec, weights: Arrays, count: int) -> Drawn:
    """As `recompute`, of at most `count` images a part, drawn anew at each call, in this process.

    Raises as `recompute`.
    """
    model, splits = restored(spec, weights)
    generator = np.random.default_rng()
    scores, places = {}, {}
    signs: dict[str, float] = {}
    parts = {"validation": splits.validation, "test": splits.test}
    parts = {part: images for part, images in parts.items() if len(images.images)}
    for part, every in parts.items():
        chosen = generator.permutation(len(every.images))[:count]
        few = type(every)(every.images[chosen], every.labels[chosen])
        seen = seen_by(model, on_device(few, checked_device(spec.device)))
        metric = spec.selection_metric
        scores[part] = per_image([metric], seen, spec.evaluation)[metric].numpy()
        places[part] = chosen
        if not signs and isinstance(model, Autoencoder):
            signs = _rough_signs(model, seen)
    apart = 0.0
    if isinstance(model, ClosedFormAutoencoder):
        apart = _largest_distance(model, _solved_again(spec, splits), splits)
    return Drawn(
        scores,
        places,
        {part: len(images.images) for part, images in parts.items()},
        _counted(model, splits),
        signs,
        splits.split_digest,
        apart,
    )


def _rough_signs(model: Autoencoder, seen: Seen) -> dict[str, float]:
    signs = {"output_std": float(seen.reconstructions.double().std(dim=0, correction=0).mean())}
    if model.code_size:
        signs["active_units"] = float(active_units(seen.codes))
    return signs
