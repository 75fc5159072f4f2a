"""One image file as an array: any mode becomes grey or RGB, upright, its first frame."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.data.limits import reason_of
from bench.data.pixels import SIXTEEN_BITS

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
FORMATS = ", ".join(_FORMATS)
OTHER_SIZE = "of another size"
NO_IMAGE = f"not a readable image ({FORMATS})"
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
"""Modes of more than 8 bits: 16-bit grey, in TIFF files also 32-bit numbers and floats."""
_KEPT = ("L", "RGB", "LA", "La", "RGBA", "RGBa")
_GREY = ("1", "L", "LA", "La")
_CONVERTED = {"1": "1 bit", "P": "a palette", "PA": "a palette", "CMYK": "CMYK colours"}
_WHITE = (255, 255, 255, 255)


class Unusable(Exception):
    """An image that cannot be used: `fault` says why, as the kinds of fault are counted."""

    def __init__(self, fault: str, detail: str = "") -> None:
        super().__init__(fault, detail)
        self.fault, self.detail = fault, detail


@dataclass(frozen=True)
class Decoded:
    """An image as H x W x C (C: 1 or 3). `values`: uint8 levels, or the values of a deep mode.
    `converted`: what the file had that was changed, such as "a palette"."""

    values: NDArray[np.generic]
    converted: tuple[str, ...]
    upper: bool
    """Whether these are the upper 8 bits of 16, which is all that Pillow reads of colours."""


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow warns about odd metadata, which does not matter here, and, above 89 million pixels,
    about a decompression bomb, which is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decoded(path: Path, size: tuple[int, int] | None) -> Decoded:
    """Decode a file, which must have that size (H, W) unless it is None; raises Unusable."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # EXIF may rotate the image, which swaps its sides: compared again after decoding.
            if size is not None and sorted(image.size) != sorted(size):
                raise Unusable(OTHER_SIZE, f"{image.height}x{image.width}")
            found = []
            if getattr(image, "is_animated", False):
                found.append("several frames (the first is taken)")
            if upper := image.mode not in _DEEP and ";16" in str(image.tile):
                found.append("16-bit colours (the upper 8 bits are taken)")
            upright = ImageOps.exif_transpose(image)
            if size is not None and upright.size != size[::-1]:
                raise Unusable(OTHER_SIZE, f"{upright.height}x{upright.width}")
            values, converted = _values(upright)
            return Decoded(values, (*found, *converted), upper)
    except Unusable:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unusable("far too many pixels (a decompression bomb?)") from None
    except UnidentifiedImageError:
        raise Unusable(NO_IMAGE) from None
    except Exception as error:
        # Pillow's decoders raise almost any exception on damage (KeyError, TypeError,
        # struct.error, ...): in every case the file cannot be used.
        raise Unusable("damaged or cannot be read", reason_of(error)) from None


def _values(image: Image.Image) -> tuple[NDArray[np.generic], list[str]]:
    """The values of an image (H x W x C), and what was changed."""
    mode, converted = image.mode, []
    if mode in _DEEP:
        deep = np.asarray(image)
        if deep.dtype.kind == "i" and deep.min() >= 0 and deep.max() <= SIXTEEN_BITS:
            deep = deep.astype(np.uint16)
        return deep[:, :, None], ["more than 8 bits"]
    if mode in _CONVERTED:
        converted.append(_CONVERTED[mode])
    elif mode not in _KEPT:
        converted.append(f"the mode {mode}")
    if image.has_transparency_data:
        converted.append("transparency (shown on white)")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    grey = mode in _GREY or (mode in ("P", "PA") and _is_grey(image))
    wanted = "L" if grey else "RGB"
    pixels = np.asarray(image if image.mode == wanted else image.convert(wanted), np.uint8)
    return pixels.reshape(image.height, image.width, -1), converted


def _is_grey(image: Image.Image) -> bool:
    """Whether all colours of an image are grey."""
    colours = np.asarray(image.convert("RGB"))
    return bool((colours == colours[:, :, :1]).all())
