"""What metrics may read of one part of the data, for one model: `Seen`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Need = Literal["images", "reconstructions", "codes", "labels", "logits", "train"]
OUTPUTS: frozenset[Need] = frozenset({"reconstructions", "codes", "logits"})
"""What a model computes, and may get wrong."""


class Seen:
    """One part of the data as one model sees it; each thing is made on first use and kept.

    `images` and `reconstructions`: float32 (N, C, H, W) in [0, 1]; `codes`: float32 (N, size);
    `labels`: int64 (N,); `logits`: float32 (N, K); `train`: the training part of the same model.
    Reading what there is not (logits of an autoencoder), or what `only` left out, raises
    ValueError.
    """

    def __init__(self, sources: "Mapping[Need, Callable[[], Tensor | Seen]]") -> None:
        self._sources = dict(sources)
        self._made: dict[Need, Tensor | Seen] = {}

    def _get(self, name: Need) -> "Tensor | Seen":
        if name not in self._sources:
            there = ", ".join(sorted(self._sources)) or "nothing"
            raise ValueError(f"{name} cannot be read here; there is {there}")
        if name not in self._made:
            self._made[name] = self._sources[name]()
        return self._made[name]

    def tensor(self, name: Need) -> "Tensor":
        """Anything but `train`, by name."""
        found = self._get(name)
        assert not isinstance(found, Seen), name
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
    def train(self) -> "Seen":
        """The whole training part, on the CPU; it has no `train` of its own."""
        found = self._get("train")
        assert isinstance(found, Seen)
        return found

    def only(self, needs: Iterable[Need]) -> "Seen":
        """A view of `needs` alone, of the training part too; raises ValueError if one is missing.

        Nothing is made yet, and what is made for the view is kept here.
        """
        wanted = frozenset(needs)
        if missing := wanted - set(self._sources):
            raise ValueError(f"there is no {' and no '.join(sorted(missing))} to read here")

        def source(name: Need) -> "Callable[[], Tensor | Seen]":
            if name == "train":
                return lambda: self.train.only(wanted - {"train"})
            return lambda: self._get(name)

        return Seen({name: source(name) for name in wanted})

    def split(self, count: int) -> "Iterator[Seen]":
        """The same images, at most `count` at a time; each with the whole training part."""
        cut: dict[Need, Tensor] = {
            name: self.tensor(name) for name in self._sources if name != "train"
        }
        rest: dict[Need, Callable[[], Tensor | Seen]] = {
            name: source for name, source in self._sources.items() if name == "train"
        }
        for pieces in zip(*(whole.split(count) for whole in cut.values()), strict=True):
            yield seen_of(dict(zip(cut, pieces, strict=True)), rest)


def seen_of(
    given: "Mapping[Need, Tensor]", rest: "Mapping[Need, Callable[[], Tensor | Seen]] | None" = None
) -> Seen:
    """A Seen of tensors that are there already, and of sources for the rest."""

    def source(tensor: "Tensor") -> "Callable[[], Tensor | Seen]":
        return lambda: tensor

    return Seen({name: source(tensor) for name, tensor in given.items()} | dict(rest or {}))
