"""Pinned feature networks: `registry/features/<sha256>/`, added once and never replaced."""

from collections.abc import Sequence
from typing import Any

from bench.core.errors import BadInput
from bench.core.protocol import EvaluationConfig
from bench.core.spec import RunRecord
from bench.core.store import Store, write_atomically
from bench.core.tasks import TASKS
from bench.data import DATASETS
from bench.metrics import METRICS, chosen_metrics
from bench.records.feature_cards import (
    FEATURE_CARD,
    FEATURE_SCHEMA,
    FEATURES,
    LAYER,
    FeatureCard,
    feature_cards,
    feature_registries,
    network_for,
    network_revision,
)
from bench.records.files import WEIGHTS, read_weights, record_folder
from bench.registry.cards import Card, known_by_label
from bench.registry.champions import champion_weights
from bench.registry.changes import changing, mend_registry, one_writer


def pin(store: Store, name: str, also: Sequence[str] = ()) -> FeatureCard:
    """Pin a trained classifier as the feature network of the data set that it was trained on.

    `name`: a track with a champion, or a run key. `also`: labels of further data sets that it
    serves; the bundled subset of a known set is one of them. Raises BadInput if the name fits no
    classifier, its weights are not here, or a data set has a network already: numbers of two
    networks cannot be compared.
    """
    from bench.registry.verification import targets  # needs torch, which a list does not

    mend_registry(store)
    found = targets(store, [name], everything=False)[0]
    if TASKS[found.spec.task].judges != "classifier":
        raise BadInput(f"{name} is an autoencoder; a feature network is a classifier")
    content = _weights(store, found)
    card = _card(found, len(content), also)
    with one_writer(store):
        for label in card.serves:
            if (held := network_for(store, label)) is not None:
                raise BadInput(
                    f"{label} has feature network {held[1].sha256[:12]} already, and numbers of "
                    "two networks cannot be compared; it stays"
                )
        with changing(store) as staged:
            folder = staged.registry / FEATURES / card.sha256
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / WEIGHTS, content)
            write_atomically(folder / FEATURE_CARD, card.to_json().encode())
    return card


def metric_revisions(evaluation: EvaluationConfig, store: Store, label: str) -> dict[str, int]:
    """The revisions that identify the scores of a data set: those of the metrics, and, if one of
    them needs it, the feature network."""
    measured = chosen_metrics(evaluation)
    revisions = {name: METRICS[name].revision for name in measured}
    if any("network" in METRICS[name].needs for name in measured):
        revisions |= network_revision(store, label)
    return revisions


def _weights(store: Store, found: Card | RunRecord) -> bytes:
    """The weights file of a champion or record, whose digest is checked."""
    if isinstance(found, RunRecord):
        read_weights(store.records, found)
        return (record_folder(store.records, found.run_key) / WEIGHTS).read_bytes()
    place = store.registry / found.folder
    if not found.weights.committed:
        raise BadInput(f"the weights of {found.track} are too large and not stored in {place}")
    champion_weights(place, found)
    return (place / WEIGHTS).read_bytes()


def _card(found: Card | RunRecord, size: int, also: Sequence[str]) -> FeatureCard:
    label = found.spec.dataset_label
    subset = f"{label}_mini"
    serves = (label, *([subset] if subset in DATASETS else []), *also)
    return FeatureCard(
        schema_version=FEATURE_SCHEMA,
        sha256=found.weights.sha256 if isinstance(found, Card) else found.weights_sha256,
        bytes=size,
        layer=LAYER,
        feature_size=int(found.facts["feature_size"]),
        image_shape=found.image_shape,
        class_names=found.class_names,
        serves=tuple(dict.fromkeys(serves)),
        run_key=found.run_key,
        spec=known_by_label(found.spec),
        split_digest=found.split_digest,
        scores=found.scores,
        environment=found.environment,
    )


def describe_networks(store: Store) -> list[dict[str, Any]]:
    """One row per feature network: those of the workspace, then those committed with bench."""
    cards = {
        card.sha256: card
        for registry in feature_registries(store)
        for card in feature_cards(registry).values()
    }
    return [
        {
            "network": card.sha256[:12],
            "serves": ", ".join(card.serves),
            "images": "x".join(map(str, card.image_shape)),
            "model": card.spec.model,
            "protocol": card.spec.protocol,
            "test_accuracy": card.scores.get("test", {}).get("accuracy"),
            "features": card.feature_size,
        }
        for card in cards.values()
    ]
