"""Draw the bundled subsets from the official files: `python -m bench.data.bundled.draw --help`.

Train and validation images come from the official train files, test images from the official
test files: equally many per class, with a fixed seed, in their official order. The official
files are verified by SHA-256 first. A second call writes the same bytes (compressed bytes depend
on the version of zlib; the decompressed ones, whose SHA-256 are pinned in `bench/data/table.py`,
do not).
"""

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadInput, BenchError
from bench.core.spec import Part
from bench.core.store import write_atomically
from bench.data.content import ImageSet, LabelledImages
from bench.data.idx import encode_part, sha256_of_part
from bench.data.known import BUNDLED, find_idx, load_known, read_found
from bench.data.split import stratified_draw
from bench.data.table import DATASETS, Dataset

SEED = 0
SMALLEST = 9  # gzip's level: written once, read often


def draw(full: ImageSet, mini: Dataset) -> dict[Part, LabelledImages]:
    """The parts of a bundled subset, drawn from a verified full set."""
    rng = np.random.default_rng(SEED)
    train, test = full.parts["train"], full.parts["test"]
    both = equal_draw(train.labels, mini.counts["train"] + mini.counts["validation"], rng)
    # From equally many images per class, a stratified draw takes equally many.
    validation = both[stratified_draw(train.labels[both], mini.counts["validation"], rng)]
    chosen: dict[Part, tuple[LabelledImages, NDArray[np.int64]]] = {
        "train": (train, np.setdiff1d(both, validation)),
        "validation": (train, validation),
        "test": (test, equal_draw(test.labels, mini.counts["test"], rng)),
    }
    return {
        part: LabelledImages(content.images[positions], content.labels[positions])
        for part, (content, positions) in chosen.items()
    }


def equal_draw(
    labels: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Positions of `count` images, equally many per class, although MNIST's classes differ."""
    keys = rng.random(len(labels))
    classes = np.unique(labels)
    members = [np.flatnonzero(labels == label) for label in classes]
    each = count // len(classes)
    return np.sort(np.concatenate([of[np.argsort(keys[of])[:each]] for of in members]))


def write(mini: Dataset, parts: dict[Part, LabelledImages], folder: Path) -> dict[str, str]:
    """Write a subset's files, without times or names in the gzip header; returns the SHA-256."""
    digests: dict[str, str] = {}
    for part, content in parts.items():
        digests |= sha256_of_part(part, content)
        for name, data in encode_part(part, content).items():
            packed = gzip.compress(data, SMALLEST, mtime=0)
            write_atomically(folder / f"{mini.id}-{name}.gz", packed)
    return digests


def full_set(name: str, folder: Path | None) -> ImageSet:
    """The official set, from a folder or from where `bench data fetch` stored it."""
    row = DATASETS[name]
    if folder is None:
        return load_known(row)
    found = find_idx(row, folder)
    if found is None:
        raise BadInput(f"{folder}: holds no IDX files of {name}")
    return read_found(row, found)


def main() -> int:
    """Draw both subsets and print the SHA-256 of each file's content."""
    parser = argparse.ArgumentParser(description="Draw the bundled subsets again.")
    parser.add_argument("--fashion", type=Path, help="folder of the official Fashion-MNIST files")
    parser.add_argument("--mnist", type=Path, help="folder of the official MNIST files")
    parser.add_argument("--to", type=Path, default=BUNDLED, help="folder to write to")
    given = parser.parse_args()
    try:
        for name, folder in (("fashion_mnist", given.fashion), ("mnist", given.mnist)):
            mini = DATASETS[f"{name}_mini"]
            digests = write(mini, draw(full_set(name, folder), mini), given.to)
            sys.stdout.writelines(f"{sha}  {mini.id}-{file}\n" for file, sha in digests.items())
    except BenchError as error:
        sys.stderr.write(f"draw: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
