"""Find, read and verify the sets of DATASETS: bundled, in the cache folder, or from the system."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from bench.core.errors import BadInput
from bench.core.paths import given_path
from bench.core.spec import Part
from bench.data.content import PARTS, ImageSet, LabelledImages
from bench.data.idx import idx_name, read_pair, sha256_of_part
from bench.data.table import DATASETS, Dataset

BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class Found:
    """The location of a set: a short description, and the paths of its IDX files by usual name."""

    place: str
    files: Mapping[str, Path]


def cache_folder() -> Path:
    """`BENCH_DATA`, else the platform's folder for caches; it may not exist yet."""
    chosen = os.environ.get("BENCH_DATA")
    if chosen:
        return given_path(chosen, "BENCH_DATA").resolve()
    return Path(platformdirs.user_cache_dir("autoencoder-bench", appauthor=False))


def find(row: Dataset) -> Found | None:
    """Look for a known set: bundled, then the cache folder, then the system's folders.

    Raises BadInput naming the missing files if a folder holds only some of them.
    """
    if row.bundled:
        return _complete(row, BUNDLED, "bundled")
    # Not in the cache folder itself: the sets of the family share their file names.
    in_cache = [cache_folder() / row.id]
    if row.torchvision:
        in_cache.append(cache_folder() / row.torchvision / "raw")
    for folder in (*in_cache, *(Path(folder).expanduser() for folder in row.folders)):
        found = _complete(row, folder, str(folder))
        if found is not None:
            return found
    return None


def find_idx(row: Dataset, folder: Path) -> Found | None:
    """Look for a set's IDX files in a user's folder and in the sub-folders that tools make."""
    layouts = [f"{row.torchvision}/raw"] if row.torchvision else []
    for below in (row.id, *layouts, "raw", "."):
        found = _complete(row, folder / below, str(folder / below))
        if found is not None:
            return found
    return None


def _complete(row: Dataset, folder: Path, place: str) -> Found | None:
    """The files of a set in one folder: all of them, or none; BadInput names missing ones."""
    names = [idx_name(part, kind) for part in row.counts for kind in ("images", "labels")]
    paths = {name: path for name in names if (path := _existing(folder, name, row)) is not None}
    if not paths:
        return None
    missing = [name for name in names if name not in paths]
    if missing:
        raise BadInput(
            f"{folder}: the files of {row.id} are incomplete; missing (with or without .gz): "
            f"{', '.join(missing)}"
        )
    return Found(place, paths)


def _existing(folder: Path, name: str, row: Dataset) -> Path | None:
    # Some copies of MNIST use the name train-images.idx3-ubyte.
    spelled = (name, name.replace("-idx", ".idx"))
    prefix = f"{row.id}-" if row.bundled else ""
    for path in (folder / f"{prefix}{text}{end}" for text in spelled for end in ("", ".gz")):
        if path.is_file():
            return path
    return None


def locate(row: Dataset) -> Found:
    """The location of a known set; BadInput says how to get it, or which files are missing."""
    found = find(row)
    if found is None:
        looked = ", ".join(map(str, (cache_folder(), *row.folders)))
        raise BadInput(
            f"data set {row.id} is not here (looked in {looked}); "
            + (f"get it with: bench data fetch {row.id}, or " if row.torchvision else "take it ")
            + f"from files that you have: bench data fetch {row.id} --from DIR"
        )
    return found


def load_known(row: Dataset) -> ImageSet:
    """Read and verify a known set; BadInput as `locate`, or for wrong files."""
    return read_found(row, locate(row))


def read_found(row: Dataset, found: Found) -> ImageSet:
    """Read the IDX files of a known set and verify them against its row."""
    parts: dict[Part, LabelledImages] = {}
    for part in PARTS:
        if part in row.counts:
            images, labels = (found.files[idx_name(part, kind)] for kind in ("images", "labels"))
            parts[part] = read_pair(images, labels)
    verify(row, parts, {name: str(path) for name, path in found.files.items()})
    return image_set(row, parts)


def image_set(row: Dataset, parts: Mapping[Part, LabelledImages]) -> ImageSet:
    """Verified parts as the set of that row."""
    bundled = "bundled with bench, drawn from " if row.bundled else ""
    return ImageSet(row.id, row.class_names, parts, f"{row.id}: {bundled}{row.source}")


def verify(
    row: Dataset, parts: Mapping[Part, LabelledImages], where: Mapping[str, str] | str
) -> None:
    """Check the decoded parts of a known set against its row; BadInput names file and fault.

    `where` names the file behind each IDX name, or the one source of them all.
    """
    for part, count in row.counts.items():
        content = parts[part]
        places = {
            kind: where if isinstance(where, str) else where[idx_name(part, kind)]
            for kind in ("images", "labels")
        }
        shape = (count, *row.image_shape)
        if content.images.shape != shape:
            raise BadInput(
                f"{places['images']}: the {part} images of {row.id} are {_sizes(shape)}, "
                f"these are {_sizes(content.images.shape)}"
            )
        known = len(row.class_names)
        outside = content.labels[(content.labels < 0) | (content.labels >= known)]
        if len(outside):
            raise BadInput(
                f"{places['labels']}: label {outside[0]} is out of range; {row.id} has classes "
                f"0 to {known - 1}"
            )
        _check_digests(row, part, content, places)


def _check_digests(
    row: Dataset, part: Part, content: LabelledImages, places: Mapping[str, str]
) -> None:
    found = sha256_of_part(part, content)
    names = {kind: idx_name(part, kind) for kind in ("images", "labels")}
    for kind, name in names.items():
        owner = next(
            (o.id for o in DATASETS.shipped.values() if o.sha256.get(name) == found[name]), None
        )
        if owner not in (None, row.id):
            raise BadInput(f"{places[kind]}: holds the {part} {kind} of {owner}, not of {row.id}")
        if row.sha256 and found[name] != row.sha256[name]:
            raise BadInput(
                f"{places[kind]}: not the official {part} {kind} of {row.id}: SHA-256 "
                f"{found[name][:16]}... once decompressed, expected {row.sha256[name][:16]}...; "
                "get the file again (other images, or another order, work as csv:, npz: or "
                "folder:)"
            )
    # Those that torchvision downloads without a pinned digest have equally many of each class.
    sizes = np.bincount(content.labels, minlength=len(row.class_names))
    if row.torchvision and not row.sha256 and sizes.min() != sizes.max():
        raise BadInput(
            f"{places['labels']}: {row.id} has equally many {part} images of each class, these "
            f"labels do not ({sizes.min():,} to {sizes.max():,} per class)"
        )


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{n:,}" for n in shape)
