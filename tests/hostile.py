"""Shared by the tests of hostile files: good content, and what an error must look like."""

from bench.core.errors import BadInput
from bench.data import LabelledImages, load_set
from bench.data.idx import encode_part

SET = load_set("mnist_mini")
IMAGES, LABELS = (array[:40] for array in SET.parts["train"])
FILES = encode_part("train", LabelledImages(IMAGES, LABELS))
IMAGE_BYTES, LABEL_BYTES = FILES.values()
GREY = IMAGES[:, 0]
ROWS = IMAGES.reshape(40, -1).tolist()
HEADER = ["label", *(f"pixel{i}" for i in range(784))]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def assert_one_line(error: BadInput, words: list[str]) -> None:
    text = str(error)
    assert error.exit_code == 2 and "\n" not in text and len(text) < 600, text
    assert not [word for word in words if word not in text], text


def text_of(header: list[str] | None, rows: list[list[object]]) -> str:
    lines = ([header] if header else []) + rows
    return "\n".join(",".join(map(str, line)) for line in lines) + "\n"


def rows_with(line: int, column: int, cell: object) -> list[list[object]]:
    rows: list[list[object]] = [
        [label, *row] for label, row in zip(LABELS.tolist(), ROWS, strict=True)
    ]
    rows[line][column] = cell
    return rows


GOOD = rows_with(0, 0, 7)
