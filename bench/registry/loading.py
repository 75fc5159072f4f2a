"""Networks of champions, rebuilt from card and weights. The only file here that needs torch."""

from pathlib import Path

from bench.core.errors import BadInput
from bench.execution.runner import build_for, load_weights
from bench.models.base import Autoencoder, Classifier, ImageModel
from bench.registry.cards import CARD, read_card
from bench.registry.champions import champion_weights


def load_champion(folder: Path | str) -> Autoencoder:
    """The autoencoder of a champion with its weights, ready to encode and decode, on the CPU.

    `folder` is a folder in registry/ such as `registry/fashion_mnist_mini/quick.d8`. Raises
    BadInput if it holds no autoencoder with weights, CheckFailed if card or weights were changed.
    """
    model = _load(Path(folder))
    if not isinstance(model, Autoencoder):
        raise BadInput(f"the champion in {folder} is a classifier; load it with: load_classifier")
    return model


def load_classifier(folder: Path | str) -> Classifier:
    """The classifier of a champion with its weights, ready to classify, on the CPU.

    Its features are those of the layer before the last. Raises as `load_champion`.
    """
    model = _load(Path(folder))
    if not isinstance(model, Classifier):
        raise BadInput(f"the champion in {folder} is an autoencoder; load it with: load_champion")
    return model


def _load(place: Path) -> ImageModel:
    if not (place / CARD).is_file():
        raise BadInput(f"no champion in {place}; see: bench registry list")
    card = read_card(place / CARD, str(place / CARD))
    if not card.weights.committed:
        raise BadInput(f"the weights of {card.track} are too large and not stored in {place}")
    model = build_for(card.spec, card.image_shape, len(card.class_names))
    load_weights(model, champion_weights(place, card))
    return model.eval()
