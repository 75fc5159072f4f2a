"""Images as files: one folder per class, optionally inside train, validation and test folders.

    birds/crow/1.png  birds/wren/2.png            a set of one part, classes crow and wren
    birds/train/crow/1.png  birds/test/...        a set with its own parts
    birds/1.png                                   no classes

All images have one size and are all grey or all RGB, 8 bits per channel.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.core.errors import BadInput
from bench.core.spec import Part
from bench.data.content import (
    ONE_CLASS,
    PARTS,
    ImageSet,
    LabelledImages,
    checked_shape,
    own_source,
)
from bench.data.limits import reason_of, refuse_if_too_large

_PART_NAMES: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm")
)
_NOTES = frozenset((".txt", ".md", ".json", ".csv", ".html", ".ini", ".db"))
_MODES = {"L": 1, "RGB": 3}
_NO_CLASS = ""


def load_folder(path: Path, name: str) -> ImageSet:
    """Read a folder of images; classes are numbered in the sorted order of their folders' names.

    Raises BadInput naming the file or folder for anything that does not match the layout above.
    Hidden files and notes (.txt, .csv, ...) are ignored.
    """
    if path.is_file():
        raise BadInput(f"{path}: a file; expected a folder of images (of a table write csv:PATH)")
    if not path.is_dir():
        raise BadInput(f"{path}: no such folder; expected a folder of images for each class")
    with warnings.catch_warnings():
        # Pillow warns about odd metadata, which does not matter here, and, above 89 million
        # pixels, about a decompression bomb, which is an error here.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _read_folder(path, name)


def _read_folder(path: Path, name: str) -> ImageSet:
    files = {part: _files_by_class(folder) for part, folder in _part_folders(path).items()}
    classes = sorted({label for by_class in files.values() for label in by_class})
    if _NO_CLASS in classes and len(classes) > 1:
        raise BadInput(
            f"{path}: some images are next to the class folders ({classes[1]}, ...), not in one; "
            "move each image into the folder of its class"
        )
    shape = _common_shape(path, files)
    parts: dict[Part, LabelledImages] = {}
    for part, by_class in files.items():
        labels = [classes.index(label) for label, of in by_class.items() for _ in of]
        paths = [file for of in by_class.values() for file in of]
        parts[part] = LabelledImages(_pixels(paths, shape), np.array(labels, np.int64))
    names = tuple(label or ONE_CLASS for label in classes)
    return ImageSet(name, names, parts, own_source(name, path))


def _part_folders(path: Path) -> dict[Part, Path]:
    """The folder of each part; the folder itself if its folders are not named after parts."""
    named = {
        entry: _PART_NAMES.get(entry.name.lower()) for entry in _entries(path) if entry.is_dir()
    }
    if "train" not in named.values() or None in named.values():
        return {"train": path}
    folders: dict[Part, Path] = {}
    for folder, part in named.items():
        if part in folders:
            raise BadInput(f"{path}: {folders[part].name} and {folder.name} are the same part")
        if part is not None:
            folders[part] = folder
    return {part: folders[part] for part in PARTS if part in folders}


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of one part by class, sorted by name so that the order is the same everywhere."""
    found: dict[str, list[Path]] = {}
    for entry in _entries(folder):
        if entry.is_dir():
            inside = list(_entries(entry))
            deeper = next((below for below in inside if below.is_dir()), None)
            if deeper is not None:
                raise BadInput(f"{deeper}: a folder inside the class {entry.name}; expected images")
            images = [file for file in inside if _is_image(file)]
            if not images:
                raise BadInput(f"{entry}: holds no images; remove the folder or fill it")
            found[entry.name] = images
        elif _is_image(entry):
            found.setdefault(_NO_CLASS, []).append(entry)
    if not found:
        raise BadInput(f"{folder}: holds no images (PNG, JPEG, BMP, GIF, TIFF, WEBP, PPM)")
    return dict(sorted(found.items()))


def _entries(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read: {reason_of(error)}") from None
    return (folder / name for name in names if not name.startswith("."))


def _is_image(file: Path) -> bool:
    ending = file.suffix.lower()
    if ending in _ENDINGS and file.is_file():
        return True
    if ending in _NOTES:
        return False
    raise BadInput(
        f"{file}: is not a readable image (PNG, JPEG, BMP, GIF, TIFF, WEBP, PPM); remove it"
    )


def _common_shape(
    path: Path, files: Mapping[Part, Mapping[str, list[Path]]]
) -> tuple[int, int, int]:
    """Shape of the first image, after checking that all images fit into memory."""
    paths = [file for by_class in files.values() for of in by_class.values() for file in of]
    height, width, channels = _decoded(paths[0]).shape
    shape = checked_shape((channels, height, width), str(paths[0]))
    refuse_if_too_large(f"{path} ({len(paths):,} images)", len(paths) * height * width * channels)
    return shape


def _pixels(paths: list[Path], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    images = np.empty((len(paths), *shape), np.uint8)
    for index, path in enumerate(paths):
        pixels = _decoded(path, shape).transpose(2, 0, 1)
        if pixels.shape != shape:
            _refuse_other(path, pixels.shape, shape)
        images[index] = pixels
    return images


def _decoded(path: Path, shape: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """One image as H x W x C, upright according to EXIF; it must have that shape (C x H x W)."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_header(path, image, shape)
            upright = ImageOps.exif_transpose(image)
            channels = _MODES[upright.mode]
            pixels = np.asarray(upright, np.uint8)
            return pixels.reshape(upright.height, upright.width, channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadInput(f"{path}: far too many pixels (a decompression bomb?)") from None
    except UnidentifiedImageError:
        raise BadInput(
            f"{path}: is not a readable image (PNG, JPEG, BMP, GIF, TIFF, WEBP, PPM)"
        ) from None
    except BadInput:
        raise
    except Exception as error:
        # Pillow's decoders raise almost any exception on damage (KeyError, TypeError,
        # struct.error, ...): in every case the file cannot be used.
        raise BadInput(f"{path}: damaged or cannot be read: {reason_of(error)}") from None


def _check_header(path: Path, image: Image.Image, shape: tuple[int, int, int] | None) -> None:
    """Check an image's header before any pixel is decoded."""
    if image.mode not in _MODES:
        raise BadInput(
            f"{path}: is of mode {image.mode}; expected 8-bit grey (L) or RGB, without palette or "
            "transparency: convert the images first"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise BadInput(f"{path}: holds {frames} frames; expected a single image")
    # EXIF may rotate the image, which swaps its sides: sizes are compared again after
    # decoding.
    if shape is not None and (
        _MODES[image.mode] != shape[0] or sorted(image.size) != sorted(shape[1:])
    ):
        _refuse_other(path, (_MODES[image.mode], image.height, image.width), shape)


def _refuse_other(
    path: Path, found: tuple[int, int, int], expected: tuple[int, int, int]
) -> NoReturn:
    texts = [
        f"{height}x{width} {'grey' if channels == 1 else 'RGB'}"
        for channels, height, width in (found, expected)
    ]
    raise BadInput(
        f"{path}: is {texts[0]}, while the first image is {texts[1]}; all images must have one "
        "size and be all grey or all RGB"
    )
