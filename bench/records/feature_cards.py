"""Feature networks in `registry/features/<sha256>/`: their cards, and which one serves a data set.

A feature network is a classifier whose features other measures compare. Numbers made with it refer
to exactly one network, so its folder is named after the digest of its weights and never replaced.
This file needs no torch; `bench.evaluation.feature_network` loads the networks.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, ValidationError

from bench.core.errors import CheckFailed
from bench.core.identity import digest
from bench.core.paths import regular
from bench.core.spec import RunSpec
from bench.core.store import Store, shipped
from bench.core.strict import STRICT, adapter

FEATURES = "features"
"""The folder of feature networks under `registry/`."""
FEATURE_CARD = "card.json"
FEATURE_SCHEMA = 1
LAYER = "the input of the last linear layer"


@dataclass(frozen=True)
class FeatureCard:
    """Where a feature network comes from, and what it serves.

    `sha256`, `bytes`: of weights.safetensors. `layer`: what its features are, `feature_size`
    numbers per image of `image_shape` (C, H, W). `serves`: the labels of the data sets whose
    measures use it. `spec` has protocol, seed and the digest of the training data, `scores` the
    accuracy, `environment` the commit and the versions. `digest` covers the rest.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    schema_version: int
    sha256: str
    bytes: int
    layer: str
    feature_size: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    serves: tuple[str, ...]
    run_key: str
    spec: RunSpec
    split_digest: str
    scores: Mapping[str, Mapping[str, float]]
    environment: Mapping[str, str]
    digest: str = ""

    def to_json(self) -> str:
        """The content of card.json, with the digest of the rest."""
        values = adapter(FeatureCard).dump_python(self, mode="json")
        values["digest"] = digest({**values, "digest": ""})
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def read_feature_card(path: Path) -> FeatureCard:
    """Read a card; CheckFailed if it was edited, is damaged or is that of another network."""
    content = regular(path).read_bytes()
    try:
        card = adapter(FeatureCard).validate_json(content)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"])) or "file"
        raise CheckFailed(
            f"{path} is damaged or of another version ({key}: {error.errors()[0]['msg']}); "
            "restore the committed file"
        ) from None
    if digest({**json.loads(content), "digest": ""}) != card.digest:
        raise CheckFailed(
            f"{path} was changed by hand: its content does not match its digest; "
            "restore the committed file"
        )
    if path.parent.name != card.sha256:
        raise CheckFailed(
            f"{path} is the card of network {card.sha256[:12]}..., its folder has another name; "
            "restore the committed files"
        )
    return card


def feature_cards(registry: Path) -> dict[Path, FeatureCard]:
    """The cards of all feature networks under `registry/`, by their folder."""
    found = sorted((registry / FEATURES).glob(f"*/{FEATURE_CARD}"))
    return {path.parent: read_feature_card(path) for path in found}


def feature_registries(store: Store) -> list[Path]:
    """Where feature networks are found: in the workspace, then those committed with bench."""
    return list(dict.fromkeys(each.registry.resolve() for each in (store, shipped())))


def network_for(store: Store, label: str) -> tuple[Path, FeatureCard] | None:
    """The feature network that serves a data set, by its label: its folder and card, or None.

    The one place that decides. Raises CheckFailed if two networks of a registry claim it, or for a
    damaged card.
    """
    for registry in feature_registries(store):
        if claims := list(_serving(registry, label)):
            if len(claims) > 1:
                names = " and ".join(card.sha256[:12] for _, card in claims)
                raise CheckFailed(
                    f"{registry / FEATURES}: networks {names} both serve {label}, so its numbers "
                    "would be of either; remove the one that was added last"
                )
            return claims[0]
    return None


def network_revision(store: Store, label: str) -> dict[str, int]:
    """What identifies the feature network of a data set in the digest of an evaluation; empty if
    none serves it: once one is pinned, scores made without it are not those of the protocol."""
    found = network_for(store, label)
    return {} if found is None else {"feature_network": int(found[1].sha256[:8], 16)}


def _serving(registry: Path, label: str) -> Iterator[tuple[Path, FeatureCard]]:
    for folder, card in feature_cards(registry).items():
        if label in card.serves:
            yield folder, card
