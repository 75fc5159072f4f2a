"""Images for a trained model: a folder, NPZ or CSV, read as data sets are, in the model's shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput
from bench.core.paths import given_path
from bench.data import DATASETS, ImageSet, load_set
from bench.data.content import PARTS
from bench.data.pixels import RESIZED_BY
from bench.data.reading import KINDS, Own, own_images, with_options

_GREY = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601, as Pillow turns colours into grey."""
_CURE = "--image-size 28 or HxW"


@dataclass(frozen=True)
class Images:
    """Images in the order of their files: `pixels` (N, C, H, W) uint8, and `names`, of a folder
    the files relative to it, else the number of the image from 0. `notes`: what was changed."""

    pixels: NDArray[np.uint8]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_images(
    given: str, shape: tuple[int, int, int], resize: bool, scale: str = "", label: str = ""
) -> Images:
    """Read the images at a path (a folder, .npz, .csv or .csv.gz, also as folder:PATH, npz:PATH,
    csv:PATH) or of a known data set, for a model whose images are C x H x W.

    Parts follow each other: train, validation, test. Grey becomes RGB for an RGB model, RGB becomes
    grey for a grey one if all its colours are grey, or with `resize`, which also changes the sides.
    Raises BadInput for what cannot be read, and for another shape, with the one expected.
    """
    channels, height, width = shape
    reference = _reference(given)
    if own_images(reference) is not None or scale or label:
        size = f"{height}x{width}" if resize else ""
        reference = with_options(reference, size, scale, label)
    try:
        found = load_set(reference)
    except BadInput as error:
        # The reader's advice names the option of `bench run`.
        raise BadInput(str(error).replace(_CURE, "--resize")) from None
    pixels = np.concatenate([found.parts[part].images for part in PARTS if part in found.parts])
    notes = list(found.notes)
    if pixels.shape[2:] != (height, width):
        here = "x".join(map(str, pixels.shape[2:]))
        raise BadInput(
            f"{given}: holds images of {here} pixels, the model takes {height}x{width}; "
            + (
                "a known data set is read as it is"
                if own_images(reference) is None
                else "add --resize to resize them"
            )
        )
    if any("were resized" in note for note in notes):
        notes.append(f"resized by {RESIZED_BY}")
    pixels, note = _in_colours(pixels, channels, given, resize)
    return Images(pixels, tuple(_names(found)), (*notes, *note))


def place_of(given: str) -> Path | None:
    """The folder or file of a person's own images; None of a known data set. Raises BadInput if
    there is nothing."""
    own = own_images(_reference(given))
    return None if own is None else own.path


def _reference(given: str) -> str:
    """The reference of a path by what lies there, of a data set or of a reference as it is."""
    if given in DATASETS or own_images(given) is not None:
        return given
    path = given_path(given, "images")
    if path.is_dir():
        return str(Own("folder", path))
    kind = Path(path.name.lower().removesuffix(".gz")).suffix[1:]
    if kind in KINDS:
        return str(Own(kind, path))
    if not path.exists():
        raise BadInput(f"{given}: no such file or folder; expected a folder of images, NPZ or CSV")
    raise BadInput(
        f"{given}: expected a folder of images, or a file that ends in .npz, .csv or .csv.gz; a "
        "single image goes into a folder"
    )


def _in_colours(
    pixels: NDArray[np.uint8], channels: int, given: str, convert: bool
) -> tuple[NDArray[np.uint8], list[str]]:
    """Images with so many channels, and what was done."""
    if pixels.shape[1] == channels:
        return pixels, []
    if channels == 3:
        return pixels.repeat(3, axis=1), ["grey images were repeated in the three channels"]
    if (pixels == pixels[:, :1]).all():
        return np.ascontiguousarray(pixels[:, :1]), ["RGB images without colours were read as grey"]
    if not convert:
        raise BadInput(
            f"{given}: holds RGB images, the model takes grey ones (1 channel); add --resize to "
            "turn them into grey"
        )
    levels = np.empty((len(pixels), 1, *pixels.shape[2:]), np.uint8)
    for index, image in enumerate(pixels):  # one at a time: floats take eight times the memory
        levels[index, 0] = np.rint(np.tensordot(_GREY, image, axes=1))
    return levels, ["RGB images were turned into grey"]


def _names(found: ImageSet) -> Iterator[str]:
    for part in PARTS:
        if part in found.parts:
            files = found.files.get(part)
            numbers = range(len(found.parts[part].images))
            several = f"{part}/" if len(found.parts) > 1 else ""
            yield from files or (f"{several}{number}" for number in numbers)
