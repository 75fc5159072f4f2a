"""From a data set's reference, as given by the user, to its images, splits and description."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BadInput, unknown_name
from bench.core.identity import checked_name, own_label, slug
from bench.core.paths import given_path
from bench.core.protocol import SplitConfig
from bench.core.spec import Part
from bench.data.content import ImageSet
from bench.data.csv_file import load_csv
from bench.data.image_folder import load_folder
from bench.data.known import load_known, locate
from bench.data.npz_file import load_npz
from bench.data.split import SearchSplits, Splits, split_set
from bench.data.table import DATASETS

READERS: Mapping[str, Callable[[Path, str], ImageSet]] = {
    "csv": load_csv,
    "npz": load_npz,
    "folder": load_folder,
}
"""Formats of the user's own images: each reads a path into a set of the given name."""


@dataclass(frozen=True)
class DatasetInfo:
    """Description of a data set, without its images."""

    label: str
    digest: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    counts: Mapping[Part, int]
    source: str


def dataset_name(dataset: str) -> str:
    """The name of a data set: an id of DATASETS, or `csv.mydigits` for `csv:mydigits.csv`.

    Raises BadInput for an unknown data set, with the nearest names.
    """
    own = _own(dataset)
    if own is None:
        return dataset
    kind, path = own
    return checked_name("data set", f"{kind}.{slug(path.resolve().name.removesuffix(f'.{kind}'))}")


def dataset_label(images: ImageSet) -> str:
    """The name of a data set in tables: an id of DATASETS, or for a user's own images such as
    `csv.mydigits-1a2b3c` for `csv:mydigits.csv`, with six digits of their digest."""
    if images.name in DATASETS:
        return images.name
    return own_label(images.name, images.digest)


def dataset_reference(name: str) -> str:
    """`csv:PATH` and its like with an absolute path: workers may run in another folder."""
    kind, separator, path = name.partition(":")
    if separator and not path:
        raise BadInput(f"data set '{name}' has no path; expected one such as {kind}:images")
    if not separator:
        return name
    return f"{kind}:{given_path(path, f'data set {kind}:PATH').resolve()}"


def load_set(dataset: str) -> ImageSet:
    """Read and verify a whole data set: an id of DATASETS, csv:PATH, npz:PATH or folder:PATH.

    Raises BadInput with one line that names the file and the fault.
    """
    own = _own(dataset)
    if own is None:
        return load_known(DATASETS[dataset])
    kind, path = own
    return READERS[kind](path, dataset_name(dataset))


def find_dataset(dataset: str) -> str:
    """Where a data set is: "bundled", or a path. BadInput if it is unknown or missing."""
    own = _own(dataset)
    return locate(DATASETS[dataset]).place if own is None else str(own[1])


def load_splits(dataset: str, split: SplitConfig) -> Splits:
    """Read a data set and split it; raises BadInput as `load_set` and `split_set` do."""
    return split_set(load_set(dataset), split)


def load_search_splits(dataset: str, split: SplitConfig) -> SearchSplits:
    """The same train and validation images as `load_splits`, without test images."""
    return split_set(load_set(dataset), split).without_test()


def describe_dataset(dataset: str) -> DatasetInfo:
    """Describe a data set; its images are read and verified, then released."""
    images = load_set(dataset)
    return DatasetInfo(
        label=dataset_label(images),
        digest=images.digest,
        image_shape=images.image_shape,
        class_names=images.class_names,
        counts=images.counts,
        source=images.source,
    )


def _own(dataset: str) -> tuple[str, Path] | None:
    """Kind and path of the user's own images; None for an id of DATASETS."""
    if dataset in DATASETS:
        return None
    kind, colon, path = dataset.partition(":")
    if colon and kind in READERS:
        if not path:
            raise BadInput(f"data set '{dataset}': the path is missing; write {kind}:PATH")
        return kind, given_path(path, f"data set {kind}:PATH")
    given = given_path(dataset, "data set")
    if given.is_dir():
        raise BadInput(f"unknown data set '{dataset}'; for your own images write folder:{dataset}")
    if given.suffix.lstrip(".") in READERS:
        raise BadInput(
            f"unknown data set '{dataset}'; for your own images write {given.suffix[1:]}:{dataset}"
        )
    raise unknown_name("data set", dataset, (*DATASETS, *(f"{kind}:PATH" for kind in READERS)))
