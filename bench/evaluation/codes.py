"""What counts as a code, and how it goes from one process to another: as its numbers alone.

Real codes are sent as float32, 32 bits a number; discrete ones as whole numbers; of a code of 0
numbers only how many there are.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.core.errors import CheckFailed
from bench.core.track import REAL_BITS
from bench.models.base import Autoencoder

Decode = Callable[[Tensor], Tensor]
"""Codes (N, code_size) -> images (N, C, H, W) in [0, 1], on the same device."""


def checked_codes(model: Autoencoder, codes: object, images: int) -> Tensor:
    """What an encoder made of so many images, if it is their code; CheckFailed otherwise.

    A code is (images, code_size), float32, and finite; the numbers of a discrete code are whole,
    from 0 to levels - 1.
    """
    size = model.code_size
    codes = _plain(codes)
    if not isinstance(codes, Tensor):
        raise CheckFailed(
            f"its encoder gives {type(codes).__name__} instead of a tensor of {images} x {size} "
            "numbers: every code has the same length"
        )
    if tuple(codes.shape) != (images, size):
        found = " x ".join(map(str, codes.shape)) or "one number"
        raise CheckFailed(
            f"its encoder gives {found} numbers for {images} images, expected {images} x {size}: "
            "every code has as many numbers as the model says (code_size)"
        )
    if codes.dtype != torch.float32:
        kind = str(codes.dtype).removeprefix("torch.")
        raise CheckFailed(f"its codes are {kind}, expected float32 ({REAL_BITS} bits per number)")
    if not codes.isfinite().all():
        raise CheckFailed("its codes hold numbers that are not finite")
    if model.levels is not None and not _are_levels(codes, model.levels):
        raise CheckFailed(
            f"its codes are discrete, and hold numbers that are not whole from 0 to "
            f"{model.levels - 1}"
        )
    return codes


def _plain(codes: object) -> object:
    """A tensor without what a subclass of Tensor makes of torch's functions."""
    if not isinstance(codes, Tensor) or type(codes) is Tensor:
        return codes
    with torch._C.DisableTorchFunctionSubclass():
        return codes.as_subclass(Tensor)


def checked_images(images: Tensor) -> Tensor:
    """What a decoder made, if every number of it is finite; CheckFailed otherwise."""
    if not images.isfinite().all():
        raise CheckFailed("its decoder gives numbers that are not finite")
    return images


def _are_levels(codes: Tensor, levels: int) -> bool:
    inside = (codes >= 0) & (codes < levels) & (codes == codes.round())
    return bool(inside.all())


def to_bytes(codes: Tensor, discrete: bool) -> bytes:
    """Codes (N, size) as their numbers: little-endian float32, or int64 if `discrete`."""
    kind = "<i8" if discrete else "<f4"
    return codes.detach().cpu().numpy().astype(kind).tobytes()


def from_bytes(content: bytes, count: int, size: int, discrete: bool) -> Tensor:
    """The inverse of `to_bytes`: float32 (count, size), on the CPU."""
    numbers = np.frombuffer(content, "<i8" if discrete else "<f4").astype(np.float32)
    return torch.from_numpy(numbers.reshape(count, size))
