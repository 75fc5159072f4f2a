"""Which of several seeds represents its cell: pure functions over records."""

import math
from collections.abc import Sequence

from bench.core.spec import RunRecord


def selection_score(record: RunRecord) -> float:
    """The mean validation score of a record by its own selection metric; NaN if it has none."""
    return record.scores.get("val", {}).get(record.spec.selection_metric, math.nan)


def shown_record(records: Sequence[RunRecord]) -> RunRecord | None:
    """The record whose pictures represent a cell: the median one; None if none finished.

    If a protocol holds out no validation images, it is the lowest seed: test scores select
    nothing, not even a picture.
    """
    finished = [record for record in records if record.status == "finished"]
    lowest = min(finished, key=lambda record: record.spec.seed, default=None)
    return median_record(records) or lowest


def median_record(records: Sequence[RunRecord]) -> RunRecord | None:
    """The record with the median validation score; None if none finished with a score.

    For an even number it is the lower of the middle two, for equal scores the lower seed, so that
    the choice never depends on the order in which runs finished. Diverged runs do not count.
    """
    scored = [
        record
        for record in records
        if record.status == "finished" and math.isfinite(selection_score(record))
    ]
    scored.sort(key=lambda record: (selection_score(record), record.spec.seed))
    return scored[(len(scored) - 1) // 2] if scored else None
