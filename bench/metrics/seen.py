"""What metrics may read of one part of the data, for one model: `Seen`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Need = Literal[
    "images",
    "reconstructions",
    "codes",
    "labels",
    "logits",
    "kl",
    "others",
    "decode",
    "reconstruct",
    "model",
    "train",
    "validation",
]
OUTPUTS: frozenset[Need] = frozenset({"reconstructions", "codes", "logits", "kl"})
"""What a model computes, and may get wrong."""
PER_IMAGE: frozenset[Need] = OUTPUTS | {"images", "labels"}
"""Tensors with a row for each image of the part."""
TENSORS: frozenset[Need] = PER_IMAGE | {"others"}
PARTS: frozenset[Need] = frozenset({"train", "validation"})
"""Other parts of the data, as the same model sees them."""
MISSING: "Mapping[Need, str]" = {
    "labels": "needs images with classes",
    "others": "needs a known data set to which another one of the same shape is foreign",
    "kl": "needs a variational code",
    "codes": "needs a code",
    "decode": "needs a code",
}
"""What a model or a data set may lack, and so why a metric is left out, for people; the first one
that a metric needs is the most likely."""
Made: TypeAlias = "Tensor | Seen | Network | Callable[[Tensor], Tensor] | None"
T = TypeVar("T")


class Network(Protocol):
    """What a metric of cost may ask of an autoencoder (`bench.models.base`)."""

    channels_last: ClassVar[bool]

    def encode_images(self, x: "Tensor") -> "Tensor":
        """Images (N, C, H, W) in [0, 1] -> codes (N, code_size)."""

    def decode_images(self, z: "Tensor") -> "Tensor":
        """Codes (N, code_size) -> images (N, C, H, W) in [0, 1]."""

    def state_dict(self) -> "Mapping[str, Tensor]":
        """The weights by name."""


class Seen:
    """One part of the data as one model sees it; each thing is made on first use and kept.

    `images` and `reconstructions`: float32 (N, C, H, W) in [0, 1]; `codes`: float32 (N, size);
    `labels`: int64 (N,); `logits`: float32 (N, K); `kl`: float32 (N, size), the KL divergence of
    each number of a variational code from the prior, in nats; `others`: images of another data set,
    like `images`, but (M, C, H, W); `decode`, `reconstruct`: functions of the model, (M, size)
    codes -> images and images -> images, on the CPU; `model`: the network itself; `train`,
    `validation`: those parts of the data, as the same model sees them.
    Reading what there is not (logits of an autoencoder), or what `only` left out, raises
    ValueError.
    """

    def __init__(
        self,
        sources: "Mapping[Need, Callable[[], Made]]",
        shared: dict[str, object] | None = None,
    ) -> None:
        self._sources = dict(sources)
        self._made: dict[Need, Made] = {}
        self._shared = {} if shared is None else shared

    @property
    def offers(self) -> frozenset[Need]:
        """What can be read here."""
        return frozenset(self._sources)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, made once for all metrics that ask for it by this name: a fit that
        several read. All of them must need what it reads."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]  # type: ignore[assignment]
        return found

    def _get(self, name: Need) -> Made:
        if name not in self._sources:
            there = ", ".join(sorted(self._sources)) or "nothing"
            raise ValueError(f"{name} cannot be read here; there is {there}")
        if name not in self._made:
            self._made[name] = self._sources[name]()
        return self._made[name]

    def tensor(self, name: Need) -> "Tensor":
        """A tensor, by name."""
        found: Tensor = self._get(name)  # type: ignore[assignment]
        assert name in TENSORS, name
        return found

    def function(self, name: Need) -> "Callable[[Tensor], Tensor]":
        """A function, by name."""
        found = self._get(name)
        assert callable(found), name
        return found

    @property
    def images(self) -> "Tensor":
        """(N, C, H, W), float32 in [0, 1]."""
        return self.tensor("images")

    @property
    def reconstructions(self) -> "Tensor":
        """(N, C, H, W), float32 in [0, 1]."""
        return self.tensor("reconstructions")

    @property
    def codes(self) -> "Tensor":
        """(N, code_size), float32: deterministic codes."""
        return self.tensor("codes")

    @property
    def labels(self) -> "Tensor":
        """(N,), int64: classes from 0."""
        return self.tensor("labels")

    @property
    def logits(self) -> "Tensor":
        """(N, K), float32."""
        return self.tensor("logits")

    @property
    def kl(self) -> "Tensor":
        """(N, code_size), float32, in nats."""
        return self.tensor("kl")

    @property
    def others(self) -> "Tensor":
        """(M, C, H, W), float32 in [0, 1]: images of another data set."""
        return self.tensor("others")

    def decode(self, codes: "Tensor") -> "Tensor":
        """Codes (M, code_size) -> images (M, C, H, W) in [0, 1], on the CPU."""
        return self.function("decode")(codes)

    def reconstruct(self, images: "Tensor") -> "Tensor":
        """Images (M, C, H, W) in [0, 1] -> reconstructions, on the CPU."""
        return self.function("reconstruct")(images)

    @property
    def model(self) -> Network:
        """The network, on its device."""
        found: Network = self._get("model")  # type: ignore[assignment]
        return found

    @property
    def train(self) -> "Seen":
        """The whole training part, on the CPU; it has no `train` of its own."""
        found = self._get("train")
        assert isinstance(found, Seen)
        return found

    @property
    def validation(self) -> "Seen | None":
        """The whole validation part, on the CPU; None if a protocol has none."""
        found = self._get("validation")
        assert found is None or isinstance(found, Seen)
        return found

    def only(self, needs: Iterable[Need]) -> "Seen":
        """A view of `needs` alone, of the training part too; raises ValueError if one is missing.

        Nothing is made yet, and what is made for the view is kept here.
        """
        wanted = frozenset(needs)
        if missing := wanted - set(self._sources):
            raise ValueError(f"there is no {' and no '.join(sorted(missing))} to read here")

        def source(name: Need) -> "Callable[[], Made]":
            if name == "train":
                return lambda: self.train.part_of(wanted)
            if name == "validation":
                return lambda: self.validation and self.validation.part_of(wanted)
            return lambda: self._get(name)

        return Seen({name: source(name) for name in wanted}, self._shared)

    def part_of(self, wanted: frozenset[Need]) -> "Seen":
        """What there is of `wanted`, without other parts."""
        return self.only(wanted & self.offers - PARTS)

    def split(self, count: int) -> "Iterator[Seen]":
        """The same images, at most `count` at a time; each with the whole training part."""
        cut: dict[Need, Tensor] = {
            name: self.tensor(name) for name in self._sources if name in PER_IMAGE
        }
        rest: dict[Need, Callable[[], Made]] = {
            name: source for name, source in self._sources.items() if name not in PER_IMAGE
        }
        for pieces in zip(*(whole.split(count) for whole in cut.values()), strict=True):
            yield seen_of(dict(zip(cut, pieces, strict=True)), rest)


def seen_of(
    given: "Mapping[Need, Tensor]", rest: "Mapping[Need, Callable[[], Made]] | None" = None
) -> Seen:
    """A Seen of tensors that are there already, and of sources for the rest."""

    def source(tensor: "Tensor") -> "Callable[[], Tensor | Seen]":
        return lambda: tensor

    return Seen({name: source(tensor) for name, tensor in given.items()} | dict(rest or {}))
