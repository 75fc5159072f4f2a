"""Networks of champions, rebuilt from card and weights. The only file here that needs torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.core.errors import BadInput, CheckFailed
from bench.core.protocol import DEFAULT_PROTOCOL
from bench.core.spec import RunRecord, RunSpec
from bench.core.store import Store, open_store, shipped
from bench.data import load_splits
from bench.evaluation.gallery import CODES, codes_between, fitted_codes
from bench.execution.runner import build_for, load_weights
from bench.leaderboard.ledger import configuration_of
from bench.models.base import Autoencoder, Classifier, ImageModel
from bench.models.zoo import known_model, variant
from bench.records.files import Arrays, iter_records, read_weights
from bench.records.selection import shown_record
from bench.registry.cards import CARD, Card, read_card
from bench.registry.champions import (
    champion,
    champion_weights,
    champions,
    find_champion,
    largest_track,
    with_shipped,
)
from bench.registry.changes import unchanged
from bench.registry.naming import located

_BATCH = 500
_LEAST_KEY = 4
"""So many characters of a run key are enough if they fit one run only."""


def load_champion(folder: Path | str) -> Autoencoder:
    """The autoencoder of a champion with its weights, ready to encode and decode, on the CPU.

    `folder` is a folder in registry/ such as `registry/fashion_mnist_mini/quick.d8`; where there is
    none, it is looked for among the champions that are installed with bench. Raises BadInput
    if it holds no autoencoder with weights, CheckFailed if card or weights were changed.
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


def _load(given: Path) -> ImageModel:
    place = given
    if not (place / CARD).is_file() and given.parts[:1] == ("registry",):
        place = shipped().registry.joinpath(*given.parts[1:])
    if not (place / CARD).is_file():
        raise BadInput(f"no champion in {given}; see: bench registry list")
    card = read_card(place / CARD, str(place / CARD))
    if not card.weights.committed:
        raise BadInput(f"the weights of {card.track} are too large and not stored in {place}")
    weights = champion_weights(place, card)
    _check_network(card, weights, place)
    model = build_for(card.spec, card.image_shape, len(card.class_names))
    load_weights(model, weights)
    return model.eval()


def _check_network(card: Card, weights: Arrays, place: Path) -> None:
    """CheckFailed unless the weights are those of the card's network, which is not built for it: a
    card may name images of any size."""
    try:
        with torch.device("meta"):  # shapes without memory
            model = build_for(card.spec, card.image_shape, len(card.class_names))
    except (BadInput, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
    else:
        # A single number, such as a counter of batch normalisation, is stored as an array of one.
        wanted = {name: tuple(value.shape) or (1,) for name, value in model.state_dict().items()}
        found = {name: value.shape or (1,) for name, value in weights.items()}
        wrong = [k for k in {**wanted, **found} if wanted.get(k) != found.get(k)]
        if not wrong:
            return
        reason = f"{wrong[0]} is {found.get(wrong[0])}, the card wants {wanted.get(wrong[0])}"
    shape = "x".join(map(str, card.image_shape))
    raise CheckFailed(
        f"{place / CARD} and its weights describe different networks (images of {shape}: {reason});"
        " restore the committed files"
    )


class LoadedModel:
    """An autoencoder of the registry, or of a run, over numpy arrays.

    Images are N x C x H x W (N x H x W if they are grey): uint8 from 0 to 255, or floats in [0, 1].
    `spec` says how it was trained, `title` what it is called, such as `cnn_ae, champion of
    fashion_mnist_mini.quick.d32`; `card` is a champion's, None for a run.
    """

    def __init__(
        self, model: Autoencoder, spec: RunSpec, title: str, card: Card | None = None
    ) -> None:
        self._model = model
        self.spec = spec
        self.title = title
        self.card = card

    @property
    def network(self) -> Autoencoder:
        """The network itself, in evaluation mode on the CPU."""
        return self._model

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W of its images."""
        return self._model.image_shape

    @property
    def code_size(self) -> int:
        """Numbers in a code."""
        return self._model.code_size

    def encode(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Deterministic codes, float32 N x code_size. BadInput for other shapes or ranges."""
        x = self._checked_images(images)
        return self._by_batches(self._model.encode_images, x)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Images in [0, 1], float32 N x C x H x W. BadInput for codes of another size."""
        return self._by_batches(self._model.decode_images, self._checked_codes(codes))

    def reconstruct(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images after encoding and decoding, in [0, 1]. BadInput as `encode`."""
        return self._by_batches(self._model.reconstruct, self._checked_images(images))

    def interpolate(
        self, first: NDArray[Any], second: NDArray[Any], steps: int = 8
    ) -> NDArray[np.float32]:
        """Images decoded from `steps` evenly spaced codes between pairs of images, both ends
        included, in [0, 1]: float32 N x steps x C x H x W.

        Numbers of a discrete code are exchanged one after the other. BadInput as `encode`, for
        different numbers of images, and for fewer than two steps.
        """
        if steps < 2 or len(first) != len(second):
            raise BadInput(
                f"expected as many second images as first ones and from 2 steps, got {len(first)}, "
                f"{len(second)} and {steps}"
            )
        here, there = (torch.from_numpy(self.encode(images)) for images in (first, second))
        codes = codes_between(self._model, here, there, steps).flatten(0, 1)
        decoded = self._by_batches(self._model.decode_images, codes)
        return decoded.reshape(len(first), steps, *self.image_shape)

    @property
    def sampler(self) -> str:
        """Where the codes of `sample` come from, in words."""
        if self._model.gaussian_prior:
            return "codes from N(0, I), towards which it was trained"
        if self._model.levels is None:
            return f"codes from a Gaussian fitted to those of up to {CODES:,} training images"
        return f"each number as frequent as in codes of up to {CODES:,} training images"

    def sample(self, count: int, seed: int = 0, dataset: str = "") -> NDArray[np.float32]:
        """`count` decoded random codes, in [0, 1]; `sampler` says where they come from.

        A distribution is fitted to codes of the training images, which must then be on this
        machine: own images at `dataset` (folder:PATH, ...) if not where they were. Raises BadInput
        if they are not, if they are other images, and for a count below 1.
        """
        if count < 1:
            raise BadInput(f"cannot draw {count} samples; expected a number from 1")
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randn(count, self.code_size, generator=generator)
        if not self._model.gaussian_prior:
            splits = load_splits(located(open_store(), self.spec, dataset), self.spec.split)
            if splits.digest != self.spec.data_digest:
                raise BadInput(
                    f"{splits.source} has other images than {self.spec.dataset_label}, on which "
                    "the model was trained; say where those are with --dataset"
                )
            codes = fitted_codes(self._model, splits.train.images, codes, generator)
        return self._by_batches(self._model.decode_images, codes)

    def _by_batches(
        self, work: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor
    ) -> NDArray[np.float32]:
        parts = [work(part).numpy() for part in values.split(_BATCH)]
        return np.concatenate(parts).astype(np.float32)

    def _checked_images(self, images: NDArray[Any]) -> torch.Tensor:
        given = np.asarray(images)
        channels, height, width = self.image_shape
        if given.ndim == 3 and channels == 1:
            given = given[:, None]
        if given.ndim != 4 or given.shape[1:] != self.image_shape or not len(given):
            grey = f" or N x {height} x {width}" if channels == 1 else ""
            raise BadInput(
                f"expected images of N x {channels} x {height} x {width}{grey}, got "
                f"{' x '.join(map(str, np.shape(images)))}"
            )
        if given.dtype == np.uint8:
            return torch.from_numpy(given.astype(np.float32) / np.float32(255))
        if given.dtype.kind != "f":
            raise BadInput(f"expected uint8 images or floats in [0, 1], got {given.dtype}")
        if not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1):
            raise BadInput(
                f"expected floats in [0, 1], got {given.min():g} to {given.max():g}; "
                "divide 8-bit pixels by 255"
            )
        return torch.from_numpy(given.astype(np.float32))

    def _checked_codes(self, codes: NDArray[Any]) -> torch.Tensor:
        given = np.asarray(codes)
        if given.ndim != 2 or given.shape[1] != self.code_size or not len(given):
            found = " x ".join(map(str, given.shape))
            raise BadInput(f"expected codes of N x {self.code_size}, got {found}")
        if given.dtype.kind not in "iuf" or not np.isfinite(given).all():
            raise BadInput("expected codes of finite numbers")
        return torch.from_numpy(given.astype(np.float32))


def load(name: str = "") -> LoadedModel:
    """An autoencoder of the registry or of this workspace, ready for use on the CPU.

    | name                           | model                                                     |
    |--------------------------------|-----------------------------------------------------------|
    | "" or a protocol, as `quick`   | its champion at the largest code size (default: `quick`)  |
    | the end of a track, `quick.d8` | the champion of the one track that ends so                |
    | `MODEL:SIZE`, as `cnn_ae:32`   | the newest row here of this variant and latent size (the  |
    | or `mine.py:Net:32`            | seed with the median validation score), else a champion   |
    | the beginning of a run key     | that run, from 4 characters on                            |

    Champions are looked up in the registry of this workspace (see `bench.core.store.open_store`),
    then in the one committed with bench. Raises BadInput for a name that fits none or several, for
    a classifier and for weights that are not here, CheckFailed if they were changed.
    """
    store = open_store()
    if ":" in name:
        return _of_variant(store, name)
    if (record := _run_named(store, name)) is not None:
        return load_record(store, record)
    place, found = find_champion(store, largest_track(store, name or DEFAULT_PROTOCOL))
    with unchanged(place):
        return load_committed(place, champion(place.registry, found.track))


def _of_variant(store: Store, name: str) -> LoadedModel:
    typed, _, size = name.rpartition(":")
    model = known_model(typed)
    if variant(model).kind == "classifier":
        raise BadInput(f"{typed} is a classifier, without a code; name an autoencoder")
    if size != "native" and not (size.isascii() and size.isdigit() and len(size) < 9):
        raise BadInput(f"'{name}': '{size}' is no latent size; expected MODEL:SIZE as cnn_ae:32")
    if (record := _newest(store, model, size)) is not None:
        return load_record(store, record)
    held = []
    for place in with_shipped(store):
        with unchanged(place):
            for card in champions(place.registry).values():
                if card.spec.has_code and card.weights.committed:
                    held.append(f"{card.spec.model}:{card.spec.size_name}")
                    if held[-1] == f"{model}:{size}":
                        return load_committed(place, card)
    how = "--native" if size == "native" else f"--latent-dim {size}"
    champions_here = ", ".join(dict.fromkeys(held)) or "none"
    raise BadInput(
        f"no weights of {name} are here (of champions: {champions_here}); train it with: bench run "
        f"--model {typed} {how} (on your own images: with the --dataset that you train by)"
    )


def _run_named(store: Store, name: str) -> RunRecord | None:
    """The local run whose key begins so; BadInput if several do."""
    if len(name) < _LEAST_KEY or set(name) - set("0123456789abcdef"):
        return None
    records = iter_records(store.records)
    found = {each.run_key: each for each in records if each.run_key.startswith(name)}
    if len(found) > 1:
        raise BadInput(f"run {name} is ambiguous: {', '.join(sorted(found))}")
    record = next(iter(found.values()), None)
    if record is not None and record.status != "finished":
        raise BadInput(f"run {name} has no weights: it ended as {record.status}")
    return record


def _newest(store: Store, model: str, size: str) -> RunRecord | None:
    """The record that represents the newest local cell of a variant at a latent size."""
    records = [
        each
        for each in iter_records(store.records)
        if (each.spec.model, each.spec.size_name, each.status) == (model, size, "finished")
    ]
    if not records:
        return None
    newest = max(records, key=lambda each: (each.finished_unix_ms, each.run_key)).spec
    cell = (newest.board, configuration_of(newest))
    return shown_record(
        [each for each in records if (each.spec.board, configuration_of(each.spec)) == cell]
    )


def load_committed(store: Store, card: Card) -> LoadedModel:
    """The champion of a card in a store's registry. Raises as `load_champion`."""
    model = load_champion(store.registry / card.folder)
    return LoadedModel(model, card.spec, f"{card.summary.row}, champion of {card.track}", card)


def load_record(store: Store, record: RunRecord) -> LoadedModel:
    """The autoencoder of a local record. Raises BadInput for a classifier, CheckFailed if its
    weights were changed."""
    model = build_for(record.spec, record.image_shape, len(record.class_names))
    if not isinstance(model, Autoencoder):
        raise BadInput(f"run {record.run_key} is a classifier; name an autoencoder's")
    load_weights(model, read_weights(store.records, record))
    spec = record.spec
    title = f"{spec.title}, run {record.run_key} of {spec.protocol} on {spec.dataset_label}"
    return LoadedModel(model.eval(), spec, title)
