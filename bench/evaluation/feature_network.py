"""Feature networks: pinned classifiers whose features measures of samples and paths compare.

The network of a data set is read from `registry/features/` and used only if its weights have the
digest that names its folder, so numbers made with it refer to exactly one network. Beside it stands
an untrained network of the same architecture: what it sees as well needs no training.

Features are computed on the CPU by one thread, 100 images at a time, whatever the device and the
number of workers, so that equal images give equal features. Those of the images of a data set are
the same for all runs and kept in `mlruns/features/`.
"""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from bench.core.errors import BadInput, CheckFailed
from bench.core.paths import regular
from bench.core.store import Store, write_atomically
from bench.evaluation.evaluate import Sources
from bench.metrics.threads import one_thread
from bench.models.base import Classifier
from bench.models.zoo import build_classifier, variant
from bench.records.feature_cards import FEATURE_CARD, FeatureCard, network_for, read_feature_card
from bench.records.files import WEIGHTS, read_safetensors

UNTRAINED_SEED = 0
_BATCH = 100


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A classifier in evaluation mode, on the CPU.

    `digest` is the SHA-256 of its weights; of an untrained network, a text that says so.
    """

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
        with torch.no_grad(), one_thread():
            return torch.cat([self.model.features(part) for part in self._batches(images)])

    def confidence(self, features: Tensor) -> Tensor:
        """Features (N, feature_size) -> the probability of the most likely class (N,), float64."""
        with torch.no_grad(), one_thread():
            return self.model.classify(features).double().softmax(dim=1).amax(dim=1)

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        layout = torch.channels_last if self.model.channels_last else torch.contiguous_format
        for part in images.cpu().split(_BATCH):
            yield part.to(torch.float32).div_(255.0).contiguous(memory_format=layout)


def load_feature_network(folder: Path | str) -> FeatureNetwork:
    """The network in `folder` (`registry/features/<sha256>`).

    Raises BadInput if the folder holds none, CheckFailed if its weights are missing or changed, its
    card is damaged or another network's, or the variant's revision is not the installed one.
    """
    place = Path(folder)
    card = _card(place)
    weights = read_safetensors(place / WEIGHTS, card.sha256, "restore the committed file")
    revision = variant(card.spec.model).revision
    if revision != card.spec.model_revision:
        raise CheckFailed(
            f"{place}: {card.spec.model} was trained at revision {card.spec.model_revision}, the "
            f"installed one is {revision}; install the version that made it"
        )
    model = _built(card)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return FeatureNetwork(_ready(model), card.sha256)


def untrained_network(folder: Path | str) -> FeatureNetwork:
    """The architecture of the network in `folder` as it is drawn before training, from seed 0."""
    card = _card(Path(folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        model = _built(card)
    shape = "x".join(map(str, card.image_shape))
    name = f"untrained {card.spec.model} r{card.spec.model_revision} {shape} {card.feature_size}"
    return FeatureNetwork(_ready(model), name)


def _card(place: Path) -> FeatureCard:
    try:
        return read_feature_card(place / FEATURE_CARD)
    except OSError as error:
        raise BadInput(f"no feature network in {place}: {error.strerror}") from None


def _built(card: FeatureCard) -> Classifier:
    channels, height, width = card.image_shape
    return build_classifier(
        card.spec.model,
        (channels, height, width),
        len(card.class_names),
        card.spec.hyperparameters,
    )


def _ready(model: Classifier) -> Classifier:
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    return model.eval().to(memory_format=layout)


@dataclass(frozen=True)
class FeatureSpaces:
    """The network that serves a data set, an untrained one beside it, and kept features."""

    store: Store
    trained: FeatureNetwork
    untrained: FeatureNetwork

    def sources(self, images: Tensor) -> Sources:
        """What metrics read of a part of the data, by its images (N, C, H, W), uint8."""
        return {
            "features": lambda: self.kept(self.trained, images),
            "untrained_features": lambda: self.kept(self.untrained, images),
            "network": lambda: self.trained.features,
            "untrained_network": lambda: self.untrained.features,
            "confidence": lambda: self.trained.confidence,
        }

    def kept(self, network: FeatureNetwork, images: Tensor) -> Tensor:
        """`network.features(images)` of images that many runs read: kept in `mlruns/features/`."""
        return _kept(self.store, network, images)


def feature_spaces(store: Store, label: str, shape: tuple[int, int, int]) -> FeatureSpaces | None:
    """The feature network that serves a data set of this label and shape (C, H, W), if one does.

    Raises CheckFailed as `load_feature_network` and `network_for`.
    """
    found = network_for(store, label)
    if found is None or found[1].image_shape != tuple(shape):
        return None
    return FeatureSpaces(store, *_networks(found[0]))


@functools.lru_cache(maxsize=2)
def _networks(folder: Path) -> tuple[FeatureNetwork, FeatureNetwork]:
    return load_feature_network(folder), untrained_network(folder)


_RECENT: dict[str, Tensor] = {}
_DIGEST = 32
"""Bytes of the SHA-256 at the end of a file of kept features."""
_MOST_RECENT = 6
"""Three parts of a data set in two networks."""


def _kept(store: Store, network: FeatureNetwork, images: Tensor) -> Tensor:
    content = hashlib.sha256(images.cpu().contiguous().numpy().data)
    content.update(f"{tuple(images.shape)} {network.digest}".encode())
    key = content.hexdigest()[:32]
    if key not in _RECENT:
        while len(_RECENT) >= _MOST_RECENT:
            _RECENT.pop(next(iter(_RECENT)))
        path = store.mlruns / "features" / f"{key}.safetensors"
        found = _read(path, len(images), network)
        _RECENT[key] = _written(path, network.features(images)) if found is None else found
    return _RECENT[key]


def _read(path: Path, count: int, network: FeatureNetwork) -> Tensor | None:
    """Features that an earlier run kept; None if there are none or the file is damaged."""
    try:
        content = regular(path).read_bytes()
        whole, digest = content[:-_DIGEST], content[-_DIGEST:]
        if hashlib.sha256(whole).digest() != digest:
            return None
        features = load_tensors(whole)["features"]
    except (OSError, SafetensorError, KeyError):
        return None
    return features if features.shape == (count, network.model.feature_size) else None


def _written(path: Path, features: Tensor) -> Tensor:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = save_tensors({"features": features.contiguous()})
    write_atomically(path, content + hashlib.sha256(content).digest())
    return features
