"""Images: the table of known data sets, readers for the user's own, and splits."""

from bench.data.content import ImageSet, LabelledImages
from bench.data.loading import (
    DatasetInfo,
    data_notes,
    dataset_label,
    dataset_name,
    dataset_reference,
    describe_dataset,
    find_dataset,
    load_search_splits,
    load_set,
    load_splits,
)
from bench.data.split import SearchSplits, Splits, require_images, split_set
from bench.data.table import DATASETS, Dataset

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetInfo",
    "ImageSet",
    "LabelledImages",
    "SearchSplits",
    "Splits",
    "data_notes",
    "dataset_label",
    "dataset_name",
    "dataset_reference",
    "describe_dataset",
    "find_dataset",
    "load_search_splits",
    "load_set",
    "load_splits",
    "require_images",
    "split_set",
]
