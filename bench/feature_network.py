"""The pinned feature network: a champion classifier whose features other measures compare.

It is read from a folder of the registry and used only after its weights' digest matched, so that a
number made with it names exactly one network.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import BadInput, CheckFailed
from bench.models.base import Classifier
from bench.models.zoo import build_classifier, variant
from bench.records import WEIGHTS, read_safetensors

_CARD = "card.json"
_BATCH = 500


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A classifier in evaluation mode; `digest` is the SHA-256 of its weights."""

    model: Classifier
    digest: str

    def features(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), uint8, of the network's shape -> float32 (N, feature_size).

        Raises BadInput for images of another shape.
        """
        if tuple(images.shape[1:]) != self.model.image_shape:
            wanted = "x".join(map(str, self.model.image_shape))
            found = "x".join(map(str, images.shape[1:]))
            raise BadInput(f"the feature network takes images of {wanted}, these are {found}")
        with torch.no_grad():
            parts = [
                self.model.features(chunk.to(torch.float32).div_(255.0))
                for chunk in images.split(_BATCH)
            ]
        return torch.cat(parts)


def load_feature_network(folder: Path | str, sha256: str) -> FeatureNetwork:
    """The classifier that lies in `folder` of the registry, if its weights are those of `sha256`.

    On the CPU. Raises BadInput where no classifier with weights lies there, CheckFailed where its
    weights are others, or its variant's revision is not the installed one.
    """
    place = Path(folder)
    try:
        card = json.loads((place / _CARD).read_text(encoding="utf-8"))
        spec, shape, classes = card["spec"], card["image_shape"], len(card["class_names"])
    except OSError as error:
        raise BadInput(f"no classifier lies in {place}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CheckFailed(f"{place / _CARD} is damaged; bring the committed file back") from None
    weights = read_safetensors(place / WEIGHTS, sha256)
    revision = variant(spec["model"]).revision
    if revision != spec["model_revision"]:
        raise CheckFailed(
            f"{place}: {spec['model']} was trained at revision {spec['model_revision']}, the "
            f"installed one is {revision}; install the version that made it"
        )
    channels, height, width = shape
    model = build_classifier(
        spec["model"], (channels, height, width), classes, spec["hyperparameters"]
    )
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return FeatureNetwork(model.eval(), sha256)
