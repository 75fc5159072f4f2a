"""What a file in `registry/scores/` holds: scores per image, curves and small pictures of a cell.

A file has these arrays for each finished seed, of N validation and M test images:

| key                          | type          | meaning                                           |
|------------------------------|---------------|---------------------------------------------------|
| SEED/validation, SEED/test   | float16 N, M  | a score of the selection metric per image, scaled |
| SEED/validation/scale, ...   | float64 2     | score = value * scale[0] + scale[1]               |
| SEED/validation/METRIC, ...  | float16 N, M  | likewise, of the metrics that order the boards of |
|                              |               | further tasks, with their scales                  |
| SEED/curve                   | float32       | the same metric on validation after each epoch    |
| SEED/x_hat                   | uint8         | the first seed's reconstructions of up to 24 test |
|                              | 24, C, H, W   | images, which are in `originals-<digest>`         |
| SEED/samples,                | uint8         | up to 24 decoded draws of the first seed, of each |
| SEED/samples_SAMPLER         | N, C, H, W    | sampler where its generation was measured         |
| SEED/interpolation           | uint8         | its decoded points between the codes of pairs of  |
|                              | N, C, H, W    | images, one pair after the other                  |

The scale is chosen so that the mean over images is kept. The files are not compressed: git, wheels
and archives do that, and the bytes are the same on every machine. Pictures are of known data sets
only: people's own images stay in their records.
"""

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import CheckFailed
from bench.core.spec import RunRecord
from bench.data import DATASETS
from bench.leaderboard.ledger import Ledger, LedgerRow
from bench.leaderboard.merging import PARTS
from bench.leaderboard.significance import Scores
from bench.metrics import headlines
from bench.metrics.base import PSNR_CAP
from bench.records.files import Arrays

PRECISION = 1e-4
"""The largest relative distance between the mean of the scores and the ledger's mean."""
_LARGEST_EXPONENT = 15  # of float16: 2 ** 15 < 65504
Tensors = dict[str, NDArray[Any]]
PICTURES = 24
"""The most pictures of one kind in a file."""
_PICTURE = re.compile(r"x_hat|samples(_[a-z]+)?|interpolation")
_SOURCE = re.compile(r"pictures/x(_hat)?|(samples|interpolation|paths|generated/[a-z]+)/x_hat")
"""The arrays of a record that pictures are made from."""


def encoded(scores: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.float64]]:
    """Scores (N,) as float16, and their scale and shift; `decoded` gives them back.

    A score keeps 11 binary digits (an error of 0.05 % at most) if it is above 2e-9 of the largest
    one, and the mean over images is kept: by a factor, or by a shift where scores have both signs.
    0 and 1 stay exact. The result is the same on every machine.
    """
    exact = scores.astype(np.float64)
    scale = math.ldexp(1.0, math.frexp(np.abs(exact).max())[1] - _LARGEST_EXPONENT)
    values = (exact / scale).astype(np.float16)
    rounded = values.astype(np.float64) * scale
    wanted, found = math.fsum(exact), math.fsum(rounded)  # exact sums, in whatever order
    if exact.min() < 0 < exact.max():
        return values, np.array([scale, (wanted - found) / len(exact)])
    return values, np.array([scale * (wanted / found if found else 1.0), 0.0])


def decoded(values: NDArray[np.float16], scale: NDArray[np.float64]) -> Scores:
    """The scores (N,) that `encoded` was given, as far as float16 holds them."""
    scores: Scores = (values.astype(np.float64) * scale[0] + scale[1]).astype(np.float32)
    return scores


def as_kept(scores: NDArray[np.float32]) -> Scores:
    """Scores as they are read back from a file."""
    return decoded(*encoded(scores))


def tensors_of(row: LedgerRow, record: RunRecord, arrays: Arrays) -> Tensors:
    """The scores and the curve of a run."""
    found: Tensors = {}
    for part in PARTS.values():
        for metric in (row.selection_metric, *headlines()):
            scores = arrays.get(f"{part}/{metric}")
            if scores is not None:
                key = _key(row, part, metric)
                found[key], found[f"{key}/scale"] = encoded(scores)
    name = f"val/{row.selection_metric}"
    curve = [epoch.values[name] for epoch in record.history if name in epoch.values]
    return found | ({f"{row.seed}/curve": np.array(curve, np.float32)} if curve else {})


def _key(row: LedgerRow, part: str, metric: str) -> str:
    """Where a file has a row's scores of a metric on "validation" or "test"."""
    return f"{row.seed}/{part}" + ("" if metric == row.selection_metric else f"/{metric}")


def is_picture(name: str) -> bool:
    """Whether a file has these arrays of its first seed only: `x_hat`, `samples`, ..."""
    return _PICTURE.fullmatch(name) is not None


def pictures_of(row: LedgerRow, arrays: Arrays) -> Arrays:
    """The pictures of a run on a known data set, by name, and `x`, the originals of `x_hat`.

    People's own images are not published, and large ones are not kept.
    """
    if row.dataset not in DATASETS or any(f"pictures/{x}" not in arrays for x in ("x", "x_hat")):
        return {}
    found = {}
    for key in filter(_SOURCE.fullmatch, sorted(arrays)):
        kind, *sampler, name = key.split("/")
        match kind:
            case "pictures":
                found[name] = arrays[key]
            case "generated":
                found[f"samples_{sampler[0]}"] = _bytes(arrays[key])
            case "samples" if not any(other.startswith("generated/") for other in arrays):
                found[kind] = _bytes(arrays[key])
            case "interpolation" if "paths/x_hat" not in arrays:
                found[kind] = _bytes(arrays[key])
            case "paths":
                found["interpolation"] = _bytes(arrays[key])
    return found


def _bytes(images: NDArray[Any]) -> NDArray[np.uint8]:
    """The first PICTURES images (... x C x H x W) as bytes; of paths, whole ones."""
    steps = images.shape[1] if images.ndim == 5 else 1
    shown = images.reshape(-1, *images.shape[-3:])[: max(1, PICTURES // steps) * steps]
    return shown if shown.dtype == np.uint8 else np.rint(255 * shown.clip(0, 1)).astype(np.uint8)


def kept_arrays(row: LedgerRow, arrays: Arrays) -> list[str]:
    """The keys of the arrays of a record from which a row's file is made."""
    metrics = (row.selection_metric, *headlines())
    wanted = [f"{part}/{metric}" for part in PARTS.values() for metric in metrics]
    return [key for key in arrays if key in wanted or _SOURCE.fullmatch(key)]


def is_run_of(row: LedgerRow, arrays: Arrays) -> bool:
    """Whether a record's scores are those of the ledger's row, not only of a reproduction."""
    means = {
        part: float(np.mean(arrays[key], dtype=np.float64))
        for part, name in PARTS.items()
        if (key := f"{name}/{row.selection_metric}") in arrays
    }
    return bool(means) and all(_is_mean(row, part, means.get(part)) for part in PARTS)


def _is_mean(row: LedgerRow, part: str, mean: float | None) -> bool:
    return _is_near(row.selected(part), mean)


def _is_near(known: float | None, mean: float | None) -> bool:
    if known is None or mean is None:
        return known is mean
    return abs(mean - known) <= PRECISION * abs(known)


def check_content(tensors: Tensors, rows: Ledger, where: str, cure: str) -> None:
    """Raise CheckFailed unless the scores of these rows are there with the means of the ledger."""
    for row in rows:
        for part, name in PARTS.items():
            for metric in (row.selection_metric, *headlines()):
                known = row.scores.get(f"{part}_{metric}")
                mean = _mean_of(tensors, _key(row, name, metric))
                if not _is_near(known, mean):
                    what = "" if metric == row.selection_metric else f" {metric}"
                    raise CheckFailed(
                        f"{where}: the mean {name}{what} score of seed {row.seed} is {mean}, "
                        f"registry/results.csv says {known}; {cure}"
                    )
            if row.selection_metric == "mse":
                key = _key(row, name, "mse")
                if key not in tensors:
                    continue
                values, scale = tensors[key], tensors[f"{key}/scale"]
                if why := _other_means(row, part, values, scale):
                    raise CheckFailed(f"{where}: seed {row.seed}: {why}; {cure}")


def _other_means(
    row: LedgerRow, part: str, values: NDArray[np.float16], scale: NDArray[np.float64]
) -> str:
    """Which mean of the ledger's row the squared errors per image exclude, or "".

    The PSNR of an image follows from its squared error; its absolute error is between the squared
    error and the root of it. Each error is known but for a step of float16.
    """
    errors = decoded(values, scale).astype(np.float64)
    step = np.spacing(np.abs(values)).astype(np.float64) * scale[0]
    low, high = (errors - step).clip(_LEAST_ERROR, 1), (errors + step).clip(_LEAST_ERROR, 1)
    ranges = {
        "psnr": (np.mean(-10 * np.log10(high)), np.mean(-10 * np.log10(low))),
        "mae": (np.mean(errors - step), np.mean(np.sqrt(high))),
    }
    for metric, (least, most) in ranges.items():
        known = row.scores.get(f"{part}_{metric}")
        if known is not None and not least <= known <= most:
            return (
                f"registry/results.csv says {part}_{metric} {known:.6g}, the squared errors of its "
                f"images allow {least:.6g} to {most:.6g}"
            )
    return ""


_LEAST_ERROR = 10 ** (-PSNR_CAP / 10)
"""The squared error of an image with the highest PSNR."""


def _mean_of(tensors: Tensors, key: str) -> float | None:
    values, scale = tensors.get(key), tensors.get(f"{key}/scale")
    if values is None or scale is None or not values.size:
        return None
    if (values.dtype, scale.dtype) != (np.dtype(np.float16), np.dtype(np.float64)):
        return None
    if values.ndim != 1 or scale.shape != (2,):
        return None
    return float(np.mean(decoded(values, scale), dtype=np.float64))
