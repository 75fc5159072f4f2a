"""From the values in a file to 8-bit levels of the asked size, in one way for every format.

White is the value 255, or 1 for bools and fractions (floats that are levels divided by 255), or
65,535 for 16-bit images. A set whose brightest value is far below that is refused: its images may
have other levels, and would come out nearly black.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.core.errors import BadInput

RESIZED_BY = "Pillow, bicubic, antialiased, each side by itself"
"""The method of every resize (Pillow's `resize` widens the filter to antialias)."""
LEVELS, SIXTEEN_BITS = 255, 65_535
_FILTER = Image.Resampling.BICUBIC
_DARK = 0.25
_USUAL_WHITES = (1, 3, 7, 15, 16, 31, 63, 127, LEVELS, 1023, 4095, 16_383, SIXTEEN_BITS)
_TOLERANCE = 0.1
"""Distance from a level, in levels: half precision near 1 is off by up to 0.06."""

Values = NDArray[np.generic]


@dataclass
class Seen:
    """What the values of many images have been so far: their range, and whether all are whole."""

    lowest: float = math.inf
    highest: float = -math.inf
    whole: bool = True

    def add(self, values: Values) -> None:
        """Take more values into account (at least one)."""
        # NaN must end in `lowest`, where it is refused.
        self.lowest = float(np.minimum(self.lowest, values.min()))
        self.highest = float(np.maximum(self.highest, values.max()))
        if self.whole and values.dtype.kind == "f":
            self.whole = bool((values == np.rint(values)).all())


def white_in(seen: Seen, dtype: np.dtype[np.generic], scale: int | None) -> int:
    """The value that means white, given as `scale` or found from the values and their type."""
    if scale is not None:
        return scale
    if dtype.kind == "b" or (not seen.whole and seen.highest <= 1):
        return 1
    if dtype == np.uint16 and seen.highest > LEVELS:
        return SIXTEEN_BITS
    return LEVELS


def check_range(where: str, seen: Seen, white: int) -> None:
    """Raise BadInput if values lie outside 0 to `white`."""
    if not (seen.lowest >= 0 and seen.highest <= white):
        cure = "save 8-bit images, or say which value is white with --scale"
        if seen.lowest < 0:
            cure = "if they were normalised, undo that (from -1 to 1: (x + 1) / 2)"
        raise BadInput(
            f"{where}: holds values from {seen.lowest:g} to {seen.highest:g}; expected 0 (black) "
            f"to {white:g} (white); {cure}"
        )


def check_brightness(where: str, highest: float, white: float) -> None:
    """Raise BadInput if the brightest value of a set is far below white."""
    if highest >= white * _DARK:
        return
    if not highest:
        raise BadInput(f"{where}: every value is 0; keep black images with --scale {white:g}")
    fits = next(usual for usual in _USUAL_WHITES if usual >= highest)
    raise BadInput(
        f"{where}: the brightest value is {highest:g} of {white:g}, so all images would be nearly "
        f"black; say which value is white: --scale {fits}, or --scale {white:g} if they are so dark"
    )


def as_levels(where: str, values: Values, white: int, *, rounded: bool) -> NDArray[np.uint8]:
    """Values from 0 to `white` as levels from 0 to 255.

    Raises BadInput for values between two levels, unless they may be `rounded`: uint8 cannot
    represent them, so the scores would be those of other images.
    """
    if values.dtype == np.uint8 and white == LEVELS:
        same: NDArray[np.uint8] = values.astype(np.uint8, copy=False)
        return same
    # Whole numbers of 16 bits keep their exact level in single precision.
    scaled = values.astype(np.float32) * np.float32(LEVELS / white)
    levels: NDArray[np.float32] = np.rint(scaled)
    if not rounded and values.dtype.kind == "f" and np.abs(scaled - levels).max() > _TOLERANCE:
        raise BadInput(
            f"{where}: holds floats that are not whole numbers from 0 to 255, nor those divided by "
            "255; save the images as uint8, or round them to 256 levels with --scale 1 or 255"
        )
    return levels.astype(np.uint8)


def resized(pixels: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """An image (H x W x C) in the size (H, W), by RESIZED_BY; untouched if it has it already."""
    if size is None or pixels.shape[:2] == size:
        return pixels
    channels = pixels.shape[2]
    image = Image.fromarray(pixels if channels > 1 else pixels[:, :, 0])
    return np.asarray(image.resize(size[::-1], _FILTER), np.uint8).reshape(*size, channels)
