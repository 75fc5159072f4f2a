"""Training without a record, for a user's own loop: same data, recipe and scores as a run's."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from bench.core.errors import BadInput
from bench.core.protocol import Protocol, default_protocol, load_protocol
from bench.core.spec import EpochValues
from bench.data import load_splits, require_images
from bench.evaluation.evaluate import mean_scores
from bench.evaluation.scoring import on_device
from bench.execution.processor import prepare_torch
from bench.execution.runner import ignore_epochs
from bench.models.base import ClosedFormAutoencoder, ImageModel
from bench.training.train import EpochHook, FitConfig, FitData, fit


@dataclass(frozen=True)
class Trained:
    """A trained model in evaluation mode, the values of each epoch, and its scores.

    `scores[part][metric]` are means over the images of a part ("val" and "test"), for each metric
    of the protocol that has one value per image.
    """

    model: ImageModel
    history: tuple[EpochValues, ...]
    scores: Mapping[str, Mapping[str, float]]


def train(
    model: ImageModel,
    dataset: str = "",
    protocol: str | Protocol = "",
    seed: int = 0,
    on_epoch: EpochHook = ignore_epochs,
) -> Trained:
    """Train `model` in place by a protocol's recipe and score it; nothing is recorded or logged.

    `dataset` is an id of DATASETS, csv:PATH, npz:PATH or folder:PATH; by default the protocol's.
    No protocol is `quick`, or `own` for the caller's own images.
    `on_epoch` gets the values of each epoch and returns True to stop. Runs on one thread, in this
    process. Raises BadInput if data set or protocol are unknown, or the images do not fit the
    model.
    """
    named = protocol or default_protocol(dataset)
    chosen = load_protocol(named) if isinstance(named, str) else named
    prepare_torch(threads=1)
    splits = load_splits(chosen.dataset_for(dataset), chosen.split)
    require_images(splits, chosen.split)
    if tuple(model.image_shape) != splits.image_shape:
        wanted, found = ("x".join(map(str, s)) for s in (model.image_shape, splits.image_shape))
        raise BadInput(f"the model takes images of {wanted}, {splits.name} has {found}")
    cpu = torch.device("cpu")
    parts = {
        "train": on_device(splits.train, cpu),
        "val": on_device(splits.validation, cpu),
        "test": on_device(splits.test, cpu),
    }
    history: tuple[EpochValues, ...] = ()
    if isinstance(model, ClosedFormAutoencoder):
        model.fit(parts["train"].images)
    else:
        config = FitConfig(chosen.train, chosen.evaluation, chosen.selection_metric, seed)
        history = fit(model, FitData(parts["train"], parts["val"]), config, on_epoch).history
    scores = {
        name: mean_scores(model, part, chosen.evaluation.metrics, chosen.evaluation)
        for name, part in parts.items()
        if name != "train" and len(part)
    }
    return Trained(model.eval(), history, scores)
