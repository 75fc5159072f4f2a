"""Shared by the tests of own images: real pictures, and the files that people make of them."""

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data import load_set

SET = load_set("fashion_mnist_mini")
TRAIN = SET.parts["train"]
GREY, LABELS = TRAIN.images[:60, 0], TRAIN.labels[:60]
COLOUR = np.stack([TRAIN.images[at : at + 60, 0] for at in (0, 60, 120)], axis=-1)
"""Real pictures in colour: three of the set's images as the channels of one (N x 28 x 28 x 3)."""
PIXELS = [f"pixel{i}" for i in range(784)]


def rows_of(images: np.ndarray = GREY, labels: object = LABELS) -> list[list[object]]:
    """Rows of a table: the label, then the pixels."""
    return [
        [label, *image.ravel().tolist()]
        for label, image in zip(np.asarray(labels).tolist(), images, strict=True)
    ]


def write_csv(
    path: Path,
    rows: list[list[object]],
    header: list[str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> Path:
    """Write a table as people's programs do."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(([header] if header else []) + rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def save(path: Path, image: np.ndarray | Image.Image, **options: object) -> Path:
    """Write one picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(path, **options)
    return path


def photos(folder: Path, sizes: list[tuple[int, int]], count: int = 12) -> Path:
    """A folder of pictures in these sizes (H, W), by turns, in two classes."""
    for index in range(count):
        height, width = sizes[index % len(sizes)]
        picture = Image.fromarray(GREY[index]).resize((width, height))
        save(folder / ("left" if index % 2 else "right") / f"{index:03d}.png", picture)
    return folder
