"""From a data set's reference, as given by the user, to its images, splits and description."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BadInput
from bench.core.identity import checked_name, own_label, slug
from bench.core.paths import given_path
from bench.core.protocol import SplitConfig
from bench.core.spec import Part
from bench.data.content import ImageSet, repeated_images
from bench.data.csv_file import load_csv
from bench.data.image_folder import load_folder
from bench.data.known import load_known, locate
from bench.data.npz_file import load_npz
from bench.data.reading import KINDS, Own, Reading, own_images
from bench.data.split import SearchSplits, Splits, split_set
from bench.data.table import DATASETS

READERS: Mapping[str, Callable[[Path, str, Reading], ImageSet]] = {
    "csv": load_csv,
    "npz": load_npz,
    "folder": load_folder,
}
"""Readers of KINDS, the formats of a person's own images: a path into a set of that name."""


@dataclass(frozen=True)
class DatasetInfo:
    """Description of a data set, without its images. `between_parts`, `within_parts`: how many
    images are exact copies of one in an earlier part, or in the same part."""

    label: str
    digest: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    counts: Mapping[Part, int]
    source: str
    notes: tuple[str, ...] = ()
    between_parts: int = 0
    within_parts: int = 0


def dataset_name(dataset: str) -> str:
    """The name of a data set: an id of DATASETS, or `csv.mydigits` for `csv:mydigits.csv`.

    Raises BadInput for an unknown data set, with the nearest names.
    """
    own = _own(dataset)
    if own is None:
        return dataset
    stem = own.path.resolve().name.removesuffix(".gz").removesuffix(f".{own.kind}")
    return checked_name("data set", f"{own.kind}.{slug(stem)}")


def dataset_label(images: ImageSet) -> str:
    """The name of a data set in tables: an id of DATASETS, or for a user's own images such as
    `csv.mydigits-1a2b3c` for `csv:mydigits.csv`, with six digits of their digest."""
    if images.name in DATASETS:
        return images.name
    return own_label(images.name, images.digest)


def dataset_reference(name: str) -> str:
    """`csv:PATH` and its like with an absolute path: workers may run in another folder."""
    own = own_images(name)
    return name if own is None else str(dataclasses.replace(own, path=own.path.resolve()))


def load_set(dataset: str) -> ImageSet:
    """Read and verify a whole data set: an id of DATASETS, csv:PATH, npz:PATH or folder:PATH, the
    latter with options as in `data.reading`.

    Raises BadInput with one line that names the file and the fault.
    """
    own = _own(dataset)
    if own is None:
        return load_known(DATASETS[dataset])
    return READERS[own.kind](own.path, dataset_name(dataset), own.reading)


def find_dataset(dataset: str) -> str:
    """Where a data set is: "bundled", or a path. BadInput if it is unknown or missing."""
    own = _own(dataset)
    return locate(DATASETS[dataset]).place if own is None else str(own.path)


def load_splits(dataset: str, split: SplitConfig) -> Splits:
    """Read a data set and split it; raises BadInput as `load_set` and `split_set` do."""
    return split_set(load_set(dataset), split)


def load_search_splits(dataset: str, split: SplitConfig) -> SearchSplits:
    """The same train and validation images as `load_splits`, without test images."""
    return split_set(load_set(dataset), split).without_test()


def data_notes(splits: Splits) -> tuple[str, ...]:
    """What a person should know of their own images: how they were read, and copies in two parts.

    Nothing for a known set, which is as its makers drew it.
    """
    if splits.name in DATASETS:
        return ()
    return (*splits.notes, *_copies_in_words(splits.copies))


def _copies_in_words(between: int, within: int = 0) -> Iterator[str]:
    if between:
        yield (
            f"{between:,} validation or test images are exact copies of images in an earlier part, "
            "so scores may be too good"
        )
    if within:
        yield f"{within:,} images are exact copies of another in the same part"


def describe_dataset(dataset: str) -> DatasetInfo:
    """Describe a data set; its images are read and verified, then released."""
    images = load_set(dataset)
    between, within = repeated_images(images.parts)
    return DatasetInfo(
        label=dataset_label(images),
        digest=images.digest,
        image_shape=images.image_shape,
        class_names=images.class_names,
        counts=images.counts,
        source=images.source,
        notes=(*images.notes, *_copies_in_words(between, within)),
        between_parts=between,
        within_parts=within,
    )


def _own(dataset: str) -> Own | None:
    """A person's own images; None for an id of DATASETS. BadInput for anything else."""
    if dataset in DATASETS:
        return None
    own = own_images(dataset)
    if own is not None:
        return own
    given = given_path(dataset, "data set")
    kind = "folder" if given.is_dir() else Path(given.name.removesuffix(".gz")).suffix[1:]
    if kind in KINDS:
        raise BadInput(f"unknown data set '{dataset}'; for your own images write {kind}:{dataset}")
    raise DATASETS.missing(dataset, *(f"{kind}:PATH" for kind in KINDS))
