"""Whether a model keeps the contract of all models, checked on bundled real images."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.data import load_set
from bench.models.zoo import known_model

if TYPE_CHECKING:
    from bench.models.contract import Finding

_IMAGES, _COUNT = "fashion_mnist_mini", 64


def findings(model: str) -> "tuple[str, Iterator[Finding]]":
    """The name of a variant or of a class (`mine.py:Net`), and the result of each rule.

    Raises BadInput for a model that is not there, cannot be imported or declares something
    impossible.
    """
    import torch

    from bench.models.contract import candidates, check

    name = known_model(model)
    part = load_set(_IMAGES).parts["train"]
    images, labels = (torch.from_numpy(each[:_COUNT].copy()) for each in part)
    torch.set_num_threads(1)
    return name, check(candidates(name, images, labels))
