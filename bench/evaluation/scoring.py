"""What a trained model is scored on, and what its record keeps; one class per task.

The test images are used here, once, after training.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.protocol import WHOLE_LOSS
from bench.core.spec import RunSpec
from bench.data import DATASETS, LabelledImages, Splits, load_set
from bench.evaluation.evaluate import (
    Classification,
    Coded,
    Evaluation,
    Labelled,
    Sources,
    Train,
    classify,
    evaluate_part,
    seen_by,
)
from bench.evaluation.gallery import build_gallery, classification_gallery
from bench.metrics import Seen
from bench.metrics.latent import active_fraction, active_units, dead_codes
from bench.models.base import Autoencoder, Classifier, ImageModel

Arrays = dict[str, NDArray[np.generic]]
Means = dict[str, dict[str, float]]


class Scored(ABC):
    """The scores of a model on validation (if there is any) and test images."""

    @abstractmethod
    def means(self) -> Means:
        """`means()[part][metric]` for parts "val" and "test": averages over images in float64,
        or the one value of a metric of the whole set."""

    @abstractmethod
    def signs(self) -> dict[str, float]:
        """Facts that reveal a failed model."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """Scores per image and arrays for figures (see `bench.records.files` for the keys)."""


def score(model: ImageModel, spec: RunSpec, splits: Splits) -> Scored:
    """Score a trained model on its device, by the task of its spec."""
    return SCORED[spec.task](model, spec, splits)


def on_device(data: LabelledImages, device: torch.device, labelled: bool = True) -> Labelled:
    """Images and classes as tensors, uint8 and int64; `labelled` as in `Labelled`."""
    images, labels = (torch.from_numpy(part).to(device) for part in data)
    return Labelled(images, labels, labelled)


def device_of(model: ImageModel) -> torch.device:
    """The model's device (closed forms have buffers only)."""
    first: torch.Tensor = next(iter(model.state_dict().values()))
    return first.device


def _training(model: ImageModel, splits: Splits) -> Train:
    """The training part as the model sees it: the same for all parts that are scored."""

    def training() -> Seen:
        labelled = len(splits.class_names) > 1
        return seen_by(model, on_device(splits.train, device_of(model), labelled))

    return functools.cache(training)


def _averages(scores: Mapping[str, NDArray[np.float32]]) -> dict[str, float]:
    return {name: float(np.mean(values, dtype=np.float64)) for name, values in scores.items()}


@dataclass(frozen=True)
class _Reconstruction(Scored):
    """Scores of an autoencoder."""

    model: Autoencoder
    splits: Splits
    metric: str
    validation: Evaluation | None
    test: Evaluation

    @property
    def ranked(self) -> Evaluation:
        """The evaluation of the validation images if there are any, else of the test images."""
        return self.validation or self.test

    def means(self) -> Means:
        parts = {"val": self.validation, "test": self.test}
        return {part: self._means(found) for part, found in parts.items() if found is not None}

    @staticmethod
    def _means(found: Evaluation) -> dict[str, float]:
        whole = {} if found.whole_loss is None else {WHOLE_LOSS: found.whole_loss}
        return _averages(found.scores) | found.whole | whole

    def signs(self) -> dict[str, float]:
        """Signs of constant codes or constant outputs."""
        signs = {"output_std": self.ranked.output_std}
        codes = torch.from_numpy(self.ranked.codes)
        if codes.shape[1]:
            signs["active_units"] = float(active_units(codes))
        if self.model.levels is not None:
            signs["dead_codes"] = float(dead_codes(codes, self.model.levels))
        elif codes.shape[1]:
            signs["active_fraction"] = active_fraction(codes)
        return signs

    def arrays(self) -> Arrays:
        parts = {"validation": self.validation, "test": self.test}
        scores: Arrays = {
            f"{part}/{metric}": values
            for part, found in parts.items()
            if found is not None
            for metric, values in found.scores.items()
        }
        return scores | build_gallery(self.model, self.splits, self.ranked, self.metric)


def _reconstruction(model: ImageModel, spec: RunSpec, splits: Splits) -> Scored:
    assert isinstance(model, Autoencoder)
    device, labelled = device_of(model), len(splits.class_names) > 1
    train = _training(model, splits)
    rest: Sources = {
        "train": train,
        "validation": lambda: None if validation is None else validation.whole,
    }
    if splits.name in DATASETS and (foreign := DATASETS[splits.name].foreign):
        rest["others"] = lambda: _test_images(foreign)

    def coded(part: LabelledImages, more: Sources | None = None) -> Coded:
        return Coded(model, on_device(part, device, labelled), rest | (more or {}))

    validation = coded(splits.validation) if len(splits.validation.images) else None
    return _Reconstruction(
        model,
        splits,
        spec.selection_metric,
        None if validation is None else evaluate_part(validation, spec.evaluation),
        evaluate_part(coded(splits.test, {"model": lambda: model}), spec.evaluation),
    )


@functools.cache
def _test_images(bundled: str) -> torch.Tensor:
    """The test images (M, C, H, W) of a bundled set, float32 in [0, 1]."""
    images = load_set(bundled).parts["test"].images
    return torch.from_numpy(images).to(torch.float32).div_(255.0)


@dataclass(frozen=True)
class _Classification(Scored):
    """Scores of a classifier."""

    splits: Splits
    parts: Mapping[str, Classification]

    def means(self) -> Means:
        return {
            {"validation": "val", "test": "test"}[part]: _averages(found.scores) | found.whole
            for part, found in self.parts.items()
        }

    def signs(self) -> dict[str, float]:
        """How many classes are ever predicted: a classifier with only one has learned nothing."""
        ranked = next(iter(self.parts.values()))
        return {"predicted_classes": float(len(np.unique(ranked.predicted)))}

    def arrays(self) -> Arrays:
        scores: Arrays = {
            f"{part}/{metric}": values
            for part, found in self.parts.items()
            for metric, values in found.scores.items()
        }
        return scores | classification_gallery(self.splits, self.parts)


def _classification(model: ImageModel, spec: RunSpec, splits: Splits) -> Scored:
    assert isinstance(model, Classifier)
    device = device_of(model)
    parts = {"validation": splits.validation, "test": splits.test}
    train = _training(model, splits)
    return _Classification(
        splits,
        {
            part: classify(model, on_device(data, device), spec.evaluation, train)
            for part, data in parts.items()
            if len(data.images)
        },
    )


SCORED: Mapping[str, Callable[[ImageModel, RunSpec, Splits], Scored]] = {
    "reconstruction": _reconstruction,
    "classification": _classification,
}
"""How a trained model is scored, by task."""
