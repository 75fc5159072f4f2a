"""Images -> every metric, per image (averaged once in float64) or per set; each encoded once.

Scores use the deterministic code on images in [0, 1] derived from uint8, reconstructions clipped.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.errors import CheckFailed
from bench.core.protocol import EvaluationConfig
from bench.evaluation.codes import Decode, checked_codes, checked_images
from bench.evaluation.quantisation import Ranges, quantised, ranges_of
from bench.evaluation.sealed import sealed
from bench.metrics import (
    METRICS,
    Made,
    Need,
    Seen,
    chosen_metrics,
    of_part,
    per_image,
    seen_of,
    whole_set,
)
from bench.metrics.seen import SENT, SHORT
from bench.models.base import Autoencoder, Classifier, ImageModel
from bench.models.variational import divergence

BATCH = 100
"""Images at once: feature maps of more would fill the memory of a worker, and gain little."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images (N, C, H, W), uint8, and their classes (N,), int64, on one device.

    Not `labelled`: the images have no classes, and metrics find no labels.
    """

    images: Tensor
    labels: Tensor
    labelled: bool = True

    def __len__(self) -> int:
        return len(self.images)


class Evaluation(NamedTuple):
    """`scores[metric]`: float32 (N,); `whole[metric]`: one value for all images. `codes`: float32
    (N, code_size); `output_std`: the mean over pixels of the reconstructions' standard deviation
    over images. `whole_loss`: see `mean_loss`; None if the protocol does not ask for it."""

    scores: dict[str, NDArray[np.float32]]
    whole: dict[str, float]
    codes: NDArray[np.float32]
    output_std: float
    whole_loss: float | None


class Classification(NamedTuple):
    """`scores[metric]`: float32 (N,); `whole[metric]`: one value for all images. `predicted`: int64
    (N,), `confidence`: float32 (N,), the probability of the predicted class."""

    scores: dict[str, NDArray[np.float32]]
    whole: dict[str, float]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]


Train = Callable[[], Seen]
"""Makes the training part, when the first metric reads it."""
Sources = dict[Need, Callable[[], Made]]
"""How the things that metrics read are made."""


def _chunks(model: ImageModel, images: Tensor) -> Iterator[Tensor]:
    """Images in [0, 1] by batches, in the model's memory layout; sets evaluation mode."""
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    model.eval()
    for chunk in images.split(BATCH):
        yield chunk.to(torch.float32).div_(255.0).contiguous(memory_format=layout)


_SMALLER = 32
"""Codes at once when they are decoded again."""
_ROUNDING = 5e-3
"""The largest difference of two decodings of a code, on [0, 1]: products of matrices of other sizes
round differently, on a GPU in about three decimal digits (TF32)."""


def _same(images: Tensor, others: Tensor) -> bool:
    """Whether images (N, C, H, W) differ by rounding only; NaN equals NaN."""
    near = (images - others).abs() <= _ROUNDING
    return bool((near | (images.isnan() & others.isnan())).all())


class Coded:
    """One part of the data (at least one image) as an autoencoder sees it: every image is encoded
    once.

    Codes are kept, all reconstructions only if a metric of a whole set has read them. `rest` makes
    what else metrics read. `decode` makes images of codes, elsewhere; without it the model itself
    does.
    """

    def __init__(
        self, model: Autoencoder, data: Labelled, rest: Sources, decode: Decode | None = None
    ) -> None:
        self.model, self.data, self._rest = model, data, rest
        self.elsewhere = decode is not None
        self._decode_images = decode or model.decode_images
        self._codes: list[Tensor] = []
        self._divergences: list[Tensor] = []
        self._decoded: list[Tensor] = []
        self._compared: dict[int, Tensor] = {}

    @functools.cached_property
    def whole(self) -> Seen:
        """The whole part, on the CPU; a model without a code gives no `codes`."""
        sources: Sources = {
            "images": lambda: torch.cat([x.contiguous().cpu() for x in self._images()]),
            "reconstructions": self._all_decoded,
            "reconstruct": lambda: self._reconstruct,
        }
        if self.data.labelled:
            sources["labels"] = self.data.labels.cpu
        if self.model.code_size:
            sources["codes"] = self.codes
            sources["decode"] = lambda: self._decode_codes
        sources |= self._coarse(self.codes)
        if self.model.variational:
            sources["kl"] = self._all_divergences
        if self.model.code_size and self.model.levels is None:
            sources["vectors"] = lambda: seen.codes
            if self.model.code_size <= SHORT:
                sources["short_vectors"] = lambda: seen.codes
        seen = Seen(sources | self._rest)
        return seen

    def batches(self, exact: bool = True) -> Iterator[Seen]:
        """The part by batches, contiguous, on the model's device; with `exact` the codes are
        decoded as they are."""
        labels = self.data.labels.split(BATCH)
        for place, (x, of) in enumerate(zip(self._images(), labels, strict=True)):
            codes = self._code(place, x)
            given: dict[Need, Tensor] = {"images": x.contiguous(), "labels": of}
            if exact:
                x_hat = self._decoded[place] if self._decoded else self._decode(codes)
                given["reconstructions"] = x_hat
                if place in (0, len(labels) // 2, len(labels) - 1):
                    self._compared[place] = x_hat
            if self.model.code_size:
                given["codes"] = codes
            yield seen_of(given, self._rest | self._coarse(_always(codes)))

    def _coarse(self, codes: Callable[[], Tensor]) -> Sources:
        """Reconstructions of real codes that are sent with few bits per number."""

        def source(bits: int) -> Callable[[], Tensor]:
            def made() -> Tensor:
                given = codes()
                return self._decode_codes(quantised(given, self._ranges(), bits)).to(given.device)

            return made

        real = self.model.levels is None and self.model.code_size
        return {need: source(bits) for need, bits in SENT.items()} if real else {}

    def _ranges(self) -> Ranges:
        """Of the training codes."""
        train = self._rest["train"]() if "train" in self._rest else None
        if not isinstance(train, Seen):
            raise ValueError(
                "codes with few bits need the training part: their range is its codes'"
            )
        return train.once("ranges of codes", lambda: ranges_of(train.codes))

    def require_code_alone(self) -> None:
        """CheckFailed unless an image is decoded from its own code, and from nothing else.

        Of three batches (after `batches`), the codes are decoded again in another order and in
        smaller batches, and by the model that encoded them.
        """
        codes = torch.cat([self._codes[place] for place in self._compared])
        found = torch.cat(list(self._compared.values()))
        order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))
        again = torch.cat([self._decode(part) for part in codes[order].split(_SMALLER)])
        if not _same(found[order], again):
            raise CheckFailed(
                "its decoder makes other images of the same codes in another order: an image may "
                "depend on its own code alone, not on those beside it or before it"
            )
        try:
            here = torch.cat([self.model.decode_images(part) for part in codes.split(BATCH)])
        except Exception:
            here = torch.full_like(found, torch.inf)
        if not _same(found, here):
            raise CheckFailed(
                "its decoder makes other images of the same codes where the images were encoded: "
                "it uses more than the code and the recorded weights"
            )

    def codes(self) -> Tensor:
        """(N, code_size), float32, on the CPU."""
        if len(self._codes) * BATCH < len(self.data):
            for place, x in enumerate(self._images()):
                self._code(place, x)
        return torch.cat([codes.float().cpu() for codes in self._codes])

    def _images(self) -> Iterator[Tensor]:
        return _chunks(self.model, self.data.images)

    def _code(self, place: int, x: Tensor) -> Tensor:
        if place == len(self._codes):
            with sealed("its encoder"):
                # A copy: scores are those of the images as they are, whatever it does to them.
                given, log_variance = self.model.posterior_images(x.clone())
            codes = checked_codes(self.model, given, len(x))
            self._codes.append(codes)
            if log_variance is not None:
                self._divergences.append(divergence(codes, log_variance))
        return self._codes[place]

    def _decode(self, codes: Tensor) -> Tensor:
        return checked_images(self._decode_images(codes)).contiguous()

    def _reconstruct(self, images: Tensor) -> Tensor:
        """(M, C, H, W) in [0, 1] -> reconstructions, contiguous, on the CPU."""
        self.model.eval()
        found = []
        for batch in images.split(BATCH):
            with sealed("its encoder"):
                given = self.model.encode_images(_prepared(self.model, batch).clone())
            codes = checked_codes(self.model, given, len(batch))
            found.append(self._decode(codes).cpu())
        return torch.cat(found)

    def _decode_codes(self, codes: Tensor) -> Tensor:
        """(M, code_size) -> images (M, C, H, W) in [0, 1], contiguous, on the CPU."""
        self.model.eval()
        batches = (_prepared(self.model, batch) for batch in codes.split(BATCH))
        return torch.cat([self._decode(batch).cpu() for batch in batches])

    def _all_divergences(self) -> Tensor:
        self.codes()
        return torch.cat([each.float().cpu() for each in self._divergences])

    def _all_decoded(self) -> Tensor:
        self.codes()
        self._decoded = [self._decode(codes) for codes in self._codes]
        return torch.cat([x_hat.cpu() for x_hat in self._decoded])


def _always(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor


def _prepared(model: Autoencoder, batch: Tensor) -> Tensor:
    """A batch on the model's device, in its memory layout if it is one of images."""
    device = next(iter(model.state_dict().values())).device
    if batch.ndim != 4 or not model.channels_last:
        return batch.to(device)
    return batch.to(device).contiguous(memory_format=torch.channels_last)


@functools.singledispatch
def seen_by(
    model: ImageModel, data: Labelled, train: Train | None = None, decode: Decode | None = None
) -> Seen:
    """A part (at least one image) as a model sees it, on the CPU; computed when it is read.

    `decode` makes images of an autoencoder's codes; without it the model itself does.
    """
    raise TypeError(f"{type(model).__name__} is of no task that can be scored")


@seen_by.register
def _(
    model: Autoencoder, data: Labelled, train: Train | None = None, decode: Decode | None = None
) -> Seen:
    return Coded(model, data, {} if train is None else {"train": train}, decode).whole


@seen_by.register
def _(
    model: Classifier, data: Labelled, train: Train | None = None, decode: Decode | None = None
) -> Seen:
    def logits() -> Tensor:
        labels = data.labels.split(BATCH)
        answers = map(model.answers, _chunks(model, data.images), labels)
        return torch.cat([answer["logits"] for answer in answers]).float().cpu()

    sources: Sources = {
        "images": lambda: torch.cat([x.cpu() for x in _chunks(model, data.images)]).contiguous(),
        "labels": data.labels.cpu,
        "logits": logits,
    }
    return Seen(sources if train is None else sources | {"train": train})


def mean_scores(
    model: ImageModel, data: Labelled, metrics: Sequence[str], config: EvaluationConfig
) -> dict[str, float]:
    """The mean over images of each metric that has a value for every image."""
    sums: dict[str, float] = {}
    for x, labels in zip(_chunks(model, data.images), data.labels.split(BATCH), strict=True):
        answers = model.answers(x, labels)
        sources: Sources = {need: answer.contiguous for need, answer in answers.items()}
        for name, values in per_image(metrics, Seen(sources), config).items():
            sums[name] = sums.get(name, 0.0) + values.double().sum().item()
    return {name: total / len(data) for name, total in sums.items()}


def classify(
    model: Classifier, data: Labelled, config: EvaluationConfig, train: Train | None = None
) -> Classification:
    """Score every image (at least one) with every metric of `config`.

    `train` gives the training part as `seen_by` does, for metrics that need it.
    """
    seen = seen_by(model, data, train)
    confidence, predicted = seen.logits.double().softmax(dim=1).max(dim=1)
    scores = per_image(config.metrics, seen, config)
    return Classification(
        {name: values.numpy() for name, values in scores.items()},
        whole_set(config.metrics, seen, config),
        predicted.numpy(),
        confidence.float().numpy(),
    )


def evaluate(
    model: Autoencoder,
    data: Labelled,
    config: EvaluationConfig,
    train: Train | None = None,
    decode: Decode | None = None,
) -> Evaluation:
    """Score every image (at least one) with every metric of `config`; `train` as in `classify`.

    `decode` makes images of codes, elsewhere; without it the model itself does. With it, both must
    agree, and the order of the codes must not matter. CheckFailed if they do not, if the codes
    are none (`codes.checked_codes`), or if what is decoded is not finite.

    A model gets no value of metrics that need what it does not have (a code, say), nor of those of
    further tasks that need what the data do not have (classes, say), or are not defined.
    """
    rest: Sources = {} if train is None else {"train": train}
    return evaluate_part(Coded(model, data, rest, decode), config)


def evaluate_part(part: Coded, config: EvaluationConfig) -> Evaluation:
    """As `evaluate`, of a part whose codes may have been read already."""
    model, data, seen = part.model, part.data, part.whole
    chosen = [name for name in chosen_metrics(config) if not _lacks(name, seen)]
    scores: dict[str, list[Tensor]] = {name: [] for name in chosen}

    def keep(names: Sequence[str], batch: Seen) -> None:
        for name, values in per_image(names, batch, config).items():
            scores[name].append(values.float().cpu())

    # What was packed into the last digits is lost only to a decoder that has not met these codes
    # whole before: it might remember them.
    coarse = [name for name in chosen if name in METRICS and METRICS[name].needs & {*SENT}]
    for batch in part.batches(exact=False) if coarse else ():
        keep(coarse, batch)
    found = of_part(chosen, seen, config)
    whole = {name: value.item() for name, value in found.items() if not value.ndim}
    scores |= {name: [values] for name, values in found.items() if values.ndim}
    total = squares = torch.zeros((), dtype=torch.float64)
    for batch in part.batches():
        keep([name for name in chosen if name not in coarse], batch)
        outputs = batch.reconstructions.double().cpu()
        total = total + outputs.sum(dim=0)
        squares = squares + outputs.square().sum(dim=0)
    if part.elsewhere:
        part.require_code_alone()
    variance = (squares / len(data) - (total / len(data)).square()).clamp_min(0)
    return Evaluation(
        {name: torch.cat(values).numpy() for name, values in scores.items() if values},
        whole,
        part.codes().numpy(),
        variance.sqrt().mean().item(),
        mean_loss(model, data.images) if config.whole_loss else None,
    )


def _lacks(metric: str, seen: Seen) -> bool:
    """Whether a metric is left out; without training part, or an unknown one, it is an error."""
    row = METRICS.get(metric)
    if row is None or row.needs - seen.offers == {"train"}:
        return False
    needed = row.needs if row.further else row.needs & {"codes", *SENT}
    return bool(needed - seen.offers)


def mean_loss(model: Autoencoder, images: Tensor) -> float:
    """The mean over images (N, C, H, W), uint8, of the variant's whole training loss.

    Codes are sampled as in training (always with the same random numbers), nothing is corrupted.
    The scale is that of training: the decoder's own value range, penalties included.
    """
    total = 0.0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for x in _chunks(model, images):
            # Not under no_grad: some penalties are gradients.
            total += model.loss(x).total.item() * len(x)
    return total / len(images)
