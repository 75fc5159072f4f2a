"""Images as files: one folder per class, optionally inside folders for train, validation and test.

    birds/crow/1.png  birds/wren/2.png            a set of one part, classes crow and wren
    birds/train/crow/1.png  birds/test_set/...    a set with its own parts (see `parts`)
    birds/1.png                                   no classes

Images have one size, or are resized to one; all are grey or all are RGB. Other modes are converted:
palettes, transparency (shown on white), CMYK, 16 bits. Of several frames the first is taken.
Everything that cannot be used is named in one message.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
from bench.data.image_file import FORMATS, NO_IMAGE, OTHER_SIZE, Unusable, decoded, quiet
from bench.data.limits import reason_of, refuse_if_too_large
from bench.data.parts import part_hinted, part_named
from bench.data.pixels import LEVELS, SIXTEEN_BITS, as_levels, check_brightness, resized
from bench.data.reading import AS_THEY_ARE, Reading

_ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pnm")
)
_NOTES = frozenset((".txt", ".md", ".json", ".csv", ".html", ".ini", ".db"))
_NO_CLASS = ""
_LEFT_BY_SYSTEMS = frozenset(
    ("__MACOSX", "Icon\r", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
)
_NAMED = 5
"""How many files of each fault are named."""
_STRETCHED = 1.02
"""A side may be so much longer than in proportion before an image counts as stretched."""


def load_folder(path: Path, name: str, reading: Reading = AS_THEY_ARE) -> ImageSet:
    """Read a folder of images; classes are numbered in the sorted order of their folders' names.

    Raises BadInput naming the files or folders that do not match the layout above.
    Hidden files and notes (.txt, .csv, ...) are ignored.
    """
    if path.is_file():
        raise BadInput(f"{path}: a file; expected a folder of images (of a table write csv:PATH)")
    if not path.is_dir():
        raise BadInput(f"{path}: no such folder; expected a folder of images for each class")
    with quiet():
        return _read_folder(path, name, reading)


def _read_folder(path: Path, name: str, reading: Reading) -> ImageSet:
    faults = _Faults(path)
    folders = _part_folders(path)
    files = {part: _files_by_class(folder, faults) for part, folder in folders.items()}
    _check_classes(path, folders, files, faults)
    classes = sorted({label for by_class in files.values() for label in by_class})
    every = [file for by_class in files.values() for of in by_class.values() for file in of]
    if not every:
        faults.refuse()
        raise BadInput(f"{path}: holds no images ({FORMATS})")
    reader = _Reader(reading, faults)
    reader.begin(every)
    parts: dict[Part, LabelledImages] = {}
    names: dict[Part, tuple[str, ...]] = {}
    for part, by_class in files.items():
        labels = [classes.index(label) for label, of in by_class.items() for _ in of]
        paths = [file for of in by_class.values() for file in of]
        if not paths:
            faults.add("a part of the data without images", folders[part])
        parts[part] = LabelledImages(reader.pixels(paths), np.array(labels, np.int64))
        names[part] = tuple(file.relative_to(path).as_posix() for file in paths)
    faults.refuse(reader)
    reader.check_brightness(path)
    class_names = tuple(label or ONE_CLASS for label in classes)
    notes = (*_parts_used(folders, path), *reader.notes())
    return ImageSet(name, class_names, parts, own_source(name, path, reading), notes, names)


def _part_folders(path: Path) -> dict[Part, Path]:
    """The folder of each part; the folder itself if no folder in it is named after a part.

    Raises BadInput where it is unclear what is a part and what a class.
    """
    entries = list(_entries(path))
    inside = [entry for entry in entries if entry.is_dir()]
    named = {entry: part for entry in inside if (part := part_named(entry.name)) is not None}
    if not named:
        _refuse_hints(path, inside)
        return {"train": path}
    folders: dict[Part, Path] = {}
    for folder, part in named.items():
        if part in folders:
            raise BadInput(f"{path}: {folders[part].name} and {folder.name} are the same part")
        folders[part] = folder
    first = next(iter(named)).name
    others = [entry for entry in inside if entry not in named]
    others += [entry for entry in entries if entry.suffix.lower() in _ENDINGS and entry.is_file()]
    if others:
        raise BadInput(
            f"{path}: {first}/ lies beside {_listed([entry.name for entry in others])}; move the "
            f"classes into train/ if {first} is a part of the data, rename it if it is a class"
        )
    if "train" not in folders:
        raise BadInput(
            f"{path}: holds {_listed([folder.name for folder in named])} and no folder train; add "
            "it, or rename the folders if they are classes"
        )
    return {part: folders[part] for part in PARTS if part in folders}


def _refuse_hints(path: Path, folders: Sequence[Path]) -> None:
    """Folders such as trainA and testA are hardly classes: test images would be trained on."""
    hints = {folder.name: part for folder in folders if (part := part_hinted(folder.name))}
    if "train" in hints.values() and len(set(hints.values())) > 1:
        raise BadInput(
            f"{path}: {_listed(list(hints))} look like parts of the data; name the parts train, "
            "validation and test, and put the classes inside, or rename these folders if they are "
            "classes"
        )


def _parts_used(folders: Mapping[Part, Path], path: Path) -> Iterator[str]:
    """Which folder is which part, where their names leave a doubt."""
    if any(folder != path and folder.name != part for part, folder in folders.items()):
        yield "parts: " + ", ".join(f"{folder.name}/ is {part}" for part, folder in folders.items())


def _files_by_class(folder: Path, faults: "_Faults") -> dict[str, list[Path]]:
    """The images of one part by class, sorted by name so that the order is the same everywhere."""
    found: dict[str, list[Path]] = {}
    for entry in _entries(folder):
        if not entry.is_dir():
            if _is_image(entry, faults):
                found.setdefault(_NO_CLASS, []).append(entry)
            continue
        inside = list(_entries(entry))
        for below in inside:
            if below.is_dir():
                faults.add("a folder inside a class; expected images", below)
        images = [file for file in inside if not file.is_dir() and _is_image(file, faults)]
        if not images:
            faults.add("a class folder that holds no images: remove or fill it", entry)
        else:
            found[entry.name] = images
    return dict(sorted(found.items()))


def _check_classes(
    path: Path,
    folders: Mapping[Part, Path],
    files: Mapping[Part, dict[str, list[Path]]],
    faults: "_Faults",
) -> None:
    """Images either all have a class or none has."""
    for by_class in files.values():
        if _NO_CLASS in by_class and len(by_class) > 1:
            for file in by_class.pop(_NO_CLASS):
                faults.add("next to the class folders: move it into the folder of its class", file)
    loose = [part for part, by_class in files.items() if _NO_CLASS in by_class]
    classed = [part for part, by_class in files.items() if by_class and part not in loose]
    if loose and classed:
        raise BadInput(
            f"{path}: {folders[loose[0]].name}/ has no class folders, while "
            f"{folders[classed[0]].name}/ has some; give all parts classes, or none"
        )


def _entries(folder: Path) -> Iterator[Path]:
    """What a folder holds, by name, without hidden files and what systems leave there."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read: {reason_of(error)}") from None
    kept = (name for name in names if not name.startswith(".") and name not in _LEFT_BY_SYSTEMS)
    return (folder / name for name in kept)


def _is_image(file: Path, faults: "_Faults") -> bool:
    ending = file.suffix.lower()
    if ending in _ENDINGS and file.is_file():
        return True
    if ending not in _NOTES:
        faults.add(f"{NO_IMAGE}: remove it", file)
    return False


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


@dataclass
class _Faults:
    """What cannot be used, by kind of fault, with a detail for each file."""

    path: Path
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, fault: str, file: Path, detail: str = "") -> None:
        """Note a fault of a file or folder."""
        name = str(file.relative_to(self.path))
        self.found.setdefault(fault, []).append(f"{name} ({detail})" if detail else name)

    def refuse(self, reader: "_Reader | None" = None) -> None:
        """Raise BadInput with all faults, if there are any."""
        if not self.found:
            return
        total = sum(map(len, self.found.values()))
        several = f" {total:,} files:" if len(self.found) > 1 else ""
        kinds = "; ".join(
            f"{len(names):,} {fault}: {_listed(names)}" for fault, names in self.found.items()
        )
        cure = reader.cure() if reader and OTHER_SIZE in self.found else ""
        raise BadInput(f"{self.path}: cannot be used:{several} {kinds}{cure}")


class _Reader:
    """Reads image after image into arrays of one shape, and counts what it converts."""

    def __init__(self, reading: Reading, faults: _Faults) -> None:
        self._reading, self._faults = reading, faults
        self._shape = (0, 0, 0)
        self._size: tuple[int, int] | None = None
        self._sizes: Counter[str] = Counter()
        self._converted: Counter[str] = Counter()
        self._resized = self._stretched = 0
        self._highest: dict[int, float] = {}

    def begin(self, paths: Sequence[Path]) -> None:
        """Take size and channels from the first readable image; refuse what memory cannot hold.

        Without any, no array is made for them: `pixels` notes each one's fault.
        """
        for path in paths:
            try:
                first = decoded(path, None).values
            except Unusable:
                continue
            height, width, channels = first.shape
            self._size = None if self._reading.size else (height, width)
            wanted = self._reading.size or (height, width)
            self._shape = checked_shape((channels, *wanted), str(path))
            where = f"{self._faults.path} ({len(paths):,} images)"
            refuse_if_too_large(where, len(paths) * math.prod(self._shape))
            return

    def pixels(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        """The images of one part, N x C x H x W; those with faults are noted."""
        images = np.empty((len(paths), *self._shape), np.uint8)
        for index, path in enumerate(paths):
            try:
                images[index] = self._read(path)
                self._sizes[f"{self._size[0]}x{self._size[1]}" if self._size else ""] += 1
            except Unusable as error:
                self._faults.add(error.fault, path, error.detail)
                self._sizes.update([error.detail] if error.fault == OTHER_SIZE else [])
        return images

    def _read(self, path: Path) -> NDArray[np.uint8]:
        """One image, C x H x W; raises Unusable."""
        image = decoded(path, self._size)
        values = image.values
        if values.shape[2] != self._shape[0]:
            kinds = [("grey", "RGB")[count == 3] for count in (values.shape[2], self._shape[0])]
            raise Unusable(f"{kinds[0]} while the first image is {kinds[1]}")
        if image.upper and self._reading.scale is not None:
            raise Unusable("of 16-bit colour, which --scale cannot change: save it with 8 bits")
        white = self._reading.scale or self._white(values)
        highest = float(values.max())
        if not (values.min() >= 0 and highest <= white):
            raise Unusable(f"beyond white, which is {white} (--scale)", f"up to {highest:g}")
        self._highest[white] = max(highest, self._highest.get(white, 0))
        self._converted.update(image.converted)
        levels = as_levels(str(path), values, white, rounded=True)
        if self._reading.size is not None:
            self._count_resize(values.shape[:2], self._reading.size)
            levels = resized(levels, self._reading.size)
        return levels.transpose(2, 0, 1)

    @staticmethod
    def _white(values: NDArray[np.generic]) -> int:
        if values.dtype.kind == "f":
            raise Unusable("of floats: say which value is white with --scale 1 or 255")
        return LEVELS if values.dtype == np.uint8 else SIXTEEN_BITS

    def _count_resize(self, found: tuple[int, ...], wanted: tuple[int, int]) -> None:
        if found != wanted:
            self._resized += 1
            ratio = found[0] * wanted[1] / (found[1] * wanted[0])
            self._stretched += max(ratio, 1 / ratio) > _STRETCHED

    def cure(self) -> str:
        """What helps against images of several sizes, with the sizes seen."""
        sizes = [f"{count:,} of {size}" for size, count in self._sizes.most_common()]
        return f"; there are {_listed(sizes)}: resize them with --image-size 28 or HxW"

    def check_brightness(self, path: Path) -> None:
        """Refuse a set whose values stay far below white, unless that was stated."""
        if self._reading.scale is None:
            for white, highest in self._highest.items():
                check_brightness(str(path), highest, white)

    def notes(self) -> Iterator[str]:
        """What was converted and resized, with counts."""
        if self._converted:
            kind = "grey" if self._shape[0] == 1 else "RGB"
            had = ", ".join(f"{count:,} had {what}" for what, count in self._converted.items())
            yield f"converted to 8-bit {kind}: {had}"
        if self._resized:
            height, width = self._shape[1:]
            stretched = f", {self._stretched:,} of them stretched" if self._stretched else ""
            yield f"{self._resized:,} images were resized to {height}x{width}{stretched}"
