"""Figures and image grids as files of a run; rewriting replaces them."""

import dataclasses
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from bench.core.spec import RunRecord
from bench.records.classes import class_scores, top_confusions
from bench.records.files import Arrays

Images = NDArray[Any]
PROGRESS = "progress/x_hat"
PER_CLASS, CONFUSIONS = "per_class.json", "confusions.json"
_STEP = re.compile(r"progress[~#]x_hat[+%]step[+%](\d+)")


def log_files(client: MlflowClient, run_id: str, record: RunRecord, arrays: Arrays) -> None:
    """`record.json`, every figure as a PNG in `figures/`, and a classifier's tables by class."""
    from bench.figures import draw_figures, to_png

    figures = draw_figures(record, arrays)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "record.json").write_bytes(record.to_json())
        if figures:
            (root / "figures").mkdir()
        for name, figure in figures.items():
            (root / "figures" / f"{name}.png").write_bytes(to_png(figure))
        for name, content in class_tables(record, arrays).items():
            (root / name).write_bytes(content)
        client.log_artifacts(run_id, str(root))


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
    from bench.figures import image_grid

    there = {
        int(match[1])
        for item in client.list_artifacts(run_id, "images")
        if (match := _STEP.search(item.path))
    }
    times = {values.epoch: values.unix_ms for values in record.history}
    for epoch, x_hat in zip(arrays["progress/epoch"], arrays["progress/x_hat"], strict=True):
        if int(epoch) in there:
            continue
        client.log_image(
            run_id,
            image_grid(_pairs(arrays["progress/x"], x_hat), upscale=4),
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
