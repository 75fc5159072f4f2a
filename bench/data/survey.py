"""What `bench data list` and `bench data check` show: plain rows, ready for JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from bench.core.errors import BadInput, CheckFailed
from bench.data.known import find
from bench.data.loading import describe_dataset
from bench.data.table import DATASETS, Dataset


def list_datasets() -> list[dict[str, Any]]:
    """Each known set with its counts, and where it was found or how to get it."""
    return [
        {
            "id": row.id,
            "title": row.title,
            "counts": dict(row.counts),
            "image_shape": list(row.image_shape),
            "class_names": list(row.class_names),
            "licence": row.licence,
            "source": row.source,
            "here": here,
            "where": where,
        }
        for row in DATASETS.usable()
        for here, where in [_where(row)]
    ]


def check_datasets(names: Sequence[str]) -> list[dict[str, Any]]:
    """Read sets completely and check known ones against their rows; no names: every set found.

    Raises CheckFailed naming each known set whose files are wrong, and BadInput for a named set
    that is missing or a user's own files that cannot be used.
    """
    chosen = list(names) or [row.id for row in DATASETS.usable() if _where(row)[0]]
    rows: list[dict[str, Any]] = []
    faults: list[str] = []
    for name in chosen:
        row = DATASETS.get(name)
        try:
            rows.append(dataclasses.asdict(describe_dataset(name)) | {"verified": _held_to(row)})
        except BadInput as error:
            # An existing but wrong known set has changed: the check failed.
            if row is None or not _where(row)[0]:
                raise
            faults.append(str(error))
    if faults:
        raise CheckFailed("; ".join(faults))
    return rows


def _where(row: Dataset) -> tuple[bool, str]:
    """Whether a set is here (complete or not), and a description of where."""
    try:
        found = find(row)
    except BadInput as error:
        return True, str(error)
    if found is None:
        return False, f"not here: bench data fetch {row.id}"
    return True, found.place if row.bundled else f"found at {found.place}"


def _held_to(row: Dataset | None) -> str:
    """What the content was compared with."""
    if row is None:
        return "readable; nothing known to compare with"
    return "SHA-256 of every file" if row.sha256 else "counts, shape and classes (no SHA-256 known)"
