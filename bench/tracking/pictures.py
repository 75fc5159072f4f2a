"""Figures and image grids as files of a run; rewriting replaces them."""

import dataclasses
import json
import re
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from bench.core.spec import RunRecord
from bench.records.classes import class_scores, top_confusions
from bench.records.files import Arrays

if TYPE_CHECKING:
    from bench.tracking.contract import Draw

Images = NDArray[Any]
PROGRESS = "progress/x_hat"
PER_CLASS, CONFUSIONS = "per_class.json", "confusions.json"
_STEP = re.compile(r"progress[~#]x_hat[+%]step[+%](\d+)")


def log_files(client: MlflowClient, run_id: str, record: RunRecord, arrays: Arrays) -> None:
    """`record.json`, every figure as a PNG in `figures/`, and a classifier's tables by class."""
    from bench.figures import draw_files

    figures = draw_files(record, arrays)
    _log_all(
        client,
        run_id,
        {"record.json": record.to_json(), **_as_pictures(figures), **class_tables(record, arrays)},
    )


def log_figures(client: MlflowClient, run_id: str, figures: Mapping[str, "Draw"]) -> None:
    """Figures that are drawn now, as PNGs in `figures/`; those that cannot be are left out."""
    from bench.figures import as_files, to_png

    def png(draw: "Draw") -> bytes:
        return to_png(draw())

    files = as_files({name: partial(png, draw) for name, draw in figures.items()})
    if files:
        _log_all(client, run_id, _as_pictures(files))


def _as_pictures(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"figures/{name}.png": content for name, content in files.items()}


def _log_all(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    """Send files by their path in the run, all at once."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        client.log_artifacts(run_id, folder)


def class_tables(record: RunRecord, arrays: Arrays) -> dict[str, bytes]:
    """Scores by class and the most frequent confusions on the test images, by file name.

    In the format of MLflow's `log_table`, which itself would append to an existing file.
    """
    tables = {
        PER_CLASS: [dataclasses.asdict(row) for row in class_scores(record, arrays)],
        CONFUSIONS: [dataclasses.asdict(row) for row in top_confusions(record, arrays)],
    }
    return {
        name: json.dumps(
            {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        ).encode()
        for name, rows in tables.items()
        if rows
    }


def log_progress(client: MlflowClient, run_id: str, record: RunRecord, arrays: Arrays) -> None:
    """Validation images by epoch: each original above its reconstruction, enlarged four times.

    MLflow's image grid has a slider over the epochs, which shows the network learn. Existing
    images are not sent again: MLflow would show them twice.
    """
    if "progress/x_hat" not in arrays:
        return
    from bench.figures import drawn, image_grid

    there = {
        int(match[1])
        for item in client.list_artifacts(run_id, "images")
        if (match := _STEP.search(item.path))
    }
    times = {values.epoch: values.unix_ms for values in record.history}
    for epoch, x_hat in zip(arrays["progress/epoch"], arrays["progress/x_hat"], strict=True):
        if int(epoch) in there:
            continue
        grid = drawn("progress/x_hat", partial(image_grid, _pairs(arrays["progress/x"], x_hat), 4))
        if grid is None:
            continue
        client.log_image(
            run_id,
            grid,
            key=PROGRESS,
            step=int(epoch),
            timestamp=times.get(int(epoch), record.finished_unix_ms),
        )


def _pairs(x: Images, x_hat: Images) -> Images:
    """Alternating rows of originals and reconstructions, [R, K, C, H, W].

    Half of the images per row, since MLflow's tiles are square: a strip of eight would be tiny.
    """
    half = max(1, len(x) // 2)
    rows = [
        part[i : i + half] for i in range(0, half * (len(x) // half), half) for part in (x, x_hat)
    ]
    return np.stack(rows)


def schema_of_images(record: RunRecord, count: int) -> tuple[str, str]:
    """Schema and profile of a data set input, as MLflow stores those of numpy arrays."""
    shape = [-1, *record.image_shape]
    schema = {
        "mlflow_tensorspec": {
            "features": json.dumps(
                [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": shape}}]
            )
        }
    }
    return json.dumps(schema), json.dumps({"num_images": count})
