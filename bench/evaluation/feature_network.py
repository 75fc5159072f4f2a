"""The pinned feature network: a champion classifier whose features other measures compare.

It is read from the registry and used only if its weights' digest matches, so that numbers made
with it refer to exactly one network.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.core.errors import BadInput, CheckFailed
from bench.models.base import Classifier
from bench.models.zoo import build_classifier, variant
from bench.records.files import WEIGHTS, read_safetensors

PINNED = "fashion_mnist/classifier.classes10"
"""The folder of the feature network under `registry/`: the champion on the full data."""
PINNED_SHA256 = "c80a16f026540af5d110ea3eb86d497a2138ca02c15d7ef0214eadd58fe70df4"
"""Digest of its weights. Numbers made with different networks cannot be compared: to pin another
champion, change this digest and note it in the changelog."""
_CARD = "card.json"
_BATCH = 500


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A classifier in evaluation mode; `digest` is the SHA-256 of its weights."""

    model: Classifier
    digest: str

    def features(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), uint8, of the network's shape -> float32 (N, feature_size).

        Raises BadInput for images of another shape or type.
        """
        if images.dtype != torch.uint8:
            found = str(images.dtype).removeprefix("torch.")
            raise BadInput(f"the feature network takes uint8 images (0 to 255), these are {found}")
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


def load_feature_network(folder: Path | str, sha256: str = PINNED_SHA256) -> FeatureNetwork:
    """The classifier in `folder` (`registry / PINNED`), if its weights have the digest `sha256`.

    On the CPU. Raises BadInput if the folder holds no classifier, CheckFailed if it holds
    another network, the weights are missing or changed, the card is damaged, or the variant's
    revision is not the installed one.
    """
    place = Path(folder)
    try:
        card = json.loads((place / _CARD).read_text(encoding="utf-8"))
        spec, shape, classes = card["spec"], card["image_shape"], len(card["class_names"])
        held = str(card["weights"]["sha256"])
    except OSError as error:
        raise BadInput(f"no classifier in {place}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise CheckFailed(f"{place / _CARD} is damaged; restore the committed file") from None
    if held != sha256:
        raise CheckFailed(
            f"{place} holds another network than the pinned one: the SHA-256 of its weights is "
            f"{held[:12]}..., the pinned one's {sha256[:12]}...; restore that one"
        )
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
