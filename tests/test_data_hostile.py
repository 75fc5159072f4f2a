"""Damaged, mislabelled and hostile IDX and CSV files: one clear line with file and fault."""

import gzip
import io
import lzma
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hostile import (
    GOOD,
    HEADER,
    IMAGE_BYTES,
    LABEL_BYTES,
    SET,
    assert_one_line,
    flipped,
    rows_with,
    text_of,
)

from bench.core.errors import BadInput
from bench.data import LabelledImages, load_set
from bench.data.idx import encode_part, read_pair
from bench.data.known import find_idx, read_found
from bench.data.table import DATASETS


def idx_header(magic: int, *sizes: int) -> bytes:
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes)


def bomb(header: bytes, zeros: int) -> bytes:
    """A small gzip file that unpacks to a header and very many zeros."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        stream.write(header)
        for _ in range(zeros >> 20):
            stream.write(bytes(1 << 20))
    return packed.getvalue()


IDX_CASES: dict[str, tuple[bytes, bytes, list[str]]] = {
    "images truncated": (IMAGE_BYTES[:-100], LABEL_BYTES, ["images-file", "truncated"]),
    "gzip truncated": (
        gzip.compress(IMAGE_BYTES)[:-500],
        LABEL_BYTES,
        ["images-file", "truncated", "get the file again"],
    ),
    "gzip damaged": (
        flipped(gzip.compress(IMAGE_BYTES), 2000),
        LABEL_BYTES,
        ["images-file", "damaged"],
    ),
    "packed short of its claim": (
        gzip.compress(IMAGE_BYTES[:-100]),
        LABEL_BYTES,
        ["images-file", "truncated", "31,360", "31,260"],
    ),
    "header cut": (IMAGE_BYTES[:10], LABEL_BYTES, ["images-file", "truncated within its header"]),
    "empty": (b"", LABEL_BYTES, ["images-file", "not an IDX file"]),
    "trailing bytes": (IMAGE_BYTES + b"x", LABEL_BYTES, ["images-file", "holds more than"]),
    "swapped": (LABEL_BYTES, IMAGE_BYTES, ["labels-file", "holds images", "swapped"]),
    "labels for images": (LABEL_BYTES, LABEL_BYTES, ["images-file", "holds labels", "0x803"]),
    "wrong magic": (b"\0\0\x0d\x03" + IMAGE_BYTES[4:], LABEL_BYTES, ["images-file", "0x00000d03"]),
    "a picture": (
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        LABEL_BYTES,
        ["images-file", "not an IDX file"],
    ),
    "fewer labels": (
        IMAGE_BYTES,
        idx_header(0x801, 30) + LABEL_BYTES[8:38],
        ["labels-file", "30 labels", "40 images"],
    ),
    "3x29": (
        idx_header(0x803, 40, 3, 29) + bytes(40 * 3 * 29),
        LABEL_BYTES,
        ["images-file", "3x29", "at least 4 pixels"],
    ),
    "no images": (idx_header(0x803, 0, 28, 28), idx_header(0x801, 0), ["no images"]),
    "claims a terabyte": (
        idx_header(0x803, 2**20, 1024, 1024),
        LABEL_BYTES,
        ["images-file", "1.0 TiB", "can hold"],
    ),
    "claims a terabyte, packed": (
        gzip.compress(idx_header(0x803, 2**20, 1024, 1024)),
        LABEL_BYTES,
        ["images-file", "1.0 TiB", "can hold"],
    ),
    "gzip bomb behind an honest header": (
        bomb(IMAGE_BYTES, 256 << 20),
        LABEL_BYTES,
        ["images-file", "holds more than the 31,360 bytes"],
    ),
    "gzip bomb of zeros": (bomb(b"", 256 << 20), LABEL_BYTES, ["images-file", "not an IDX file"]),
}


@pytest.mark.parametrize("case", IDX_CASES)
def test_idx(case: str, tmp_path: Path) -> None:
    images, labels, words = IDX_CASES[case]
    (tmp_path / "images-file").write_bytes(images)
    (tmp_path / "labels-file").write_bytes(labels)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as caught:
            read_pair(tmp_path / "images-file", tmp_path / "labels-file")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20, "unpacked more than it had to"
    finally:
        tracemalloc.stop()
    assert_one_line(caught.value, words)


def test_a_set_that_memory_cannot_hold_is_refused_with_its_size(tmp_path, monkeypatch) -> None:
    (tmp_path / "i").write_bytes(IMAGE_BYTES)
    (tmp_path / "l").write_bytes(LABEL_BYTES)
    free = type("Memory", (), {"available": 20_000})
    monkeypatch.setattr("bench.data.limits.psutil.virtual_memory", lambda: free)
    with pytest.raises(BadInput) as caught:
        read_pair(tmp_path / "i", tmp_path / "l")
    assert_one_line(caught.value, [str(tmp_path / "i"), "30.6 KiB", "9.8 KiB", "memory"])


def known_with(tmp_path: Path, **changed: bytes) -> None:
    """Read files of kmnist, the row without pinned digests, that hold other (mirrored) images."""
    row = DATASETS["kmnist"]
    images, labels = SET.parts["train"]
    mirrored = LabelledImages(np.ascontiguousarray(images[..., ::-1]), labels)
    for part in ("train", "test"):
        for name, data in encode_part(part, mirrored).items():
            (tmp_path / name).write_bytes(changed.get(name.replace("-", "_"), data))
    found = find_idx(row, tmp_path)
    assert found is not None
    read_found(row, found)


def test_known_sets_are_held_to_count_and_labels(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        known_with(tmp_path)
    assert_one_line(caught.value, ["train-images-idx3-ubyte", "60,000 x 1 x 28 x 28", "6,000"])


def test_labels_out_of_range_and_out_of_balance(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(DATASETS["kmnist"].counts, "train", 6000)
    labels = SET.parts["train"].labels.copy()
    labels[17] = 99
    name = "train_labels_idx1_ubyte"
    with pytest.raises(BadInput) as caught:
        known_with(tmp_path, **{name: idx_header(0x801, 6000) + labels.astype(np.uint8).tobytes()})
    assert_one_line(caught.value, ["train-labels-idx1-ubyte", "label 99", "0 to 9"])
    labels[17] = (SET.parts["train"].labels[17] + 1) % 10
    with pytest.raises(BadInput) as caught:
        known_with(tmp_path, **{name: idx_header(0x801, 6000) + labels.astype(np.uint8).tobytes()})
    assert_one_line(caught.value, ["train-labels-idx1-ubyte", "equally many", "599", "601"])


def test_a_folder_with_some_of_the_files_names_the_others(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        find_idx(DATASETS["mnist"], tmp_path)
    assert_one_line(caught.value, [str(tmp_path), "incomplete", "t10k-labels-idx1-ubyte"])


LACKING = [name for name in HEADER if name != "pixel417"]
CSV_CASES: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", ["is empty"]),
    "blank": ("\n\n\n", ["is empty"]),
    "header alone": (text_of(HEADER, []), ["no images below"]),
    "missing column": (
        text_of(LACKING, [row[:418] + row[419:] for row in GOOD]),
        ["'pixel417' is missing"],
    ),
    "missing last column": (
        text_of(HEADER[:-1], [row[:-1] for row in GOOD]),
        ["783 pixel columns", "pixel0 to pixel782", "is a column missing"],
    ),
    "missing column by row and column": (
        text_of(
            ["label"]
            + [f"{r}x{c}" for r in range(1, 29) for c in range(1, 29) if (r, c) != (3, 7)],
            [row[:-1] for row in GOOD],
        ),
        ["'3x7' is missing"],
    ),
    "headerless, two columns short": (
        text_of(None, [row[:-2] for row in GOOD]),
        ["line 1", "783 columns", "785"],
    ),
    "headerless, a column short": (
        text_of(None, [row[:-1] for row in GOOD]),
        ["line 1", "784 columns", "is a column missing"],
    ),
    "no label column": (
        text_of(HEADER[1:], [row[1:] for row in GOOD]),
        ["'label' is missing"],
    ),
    "repeated column": (text_of([*HEADER[:-1], "pixel5"], GOOD), ["'pixel5'", "more than once"]),
    "unknown column": (text_of(["label", "name", *HEADER[2:]], GOOD), ["'name'", "neither"]),
    "two labels": (text_of(["label", "class", *HEADER[2:]], GOOD), ["label, class"]),
    "absurd number": (
        text_of(["label", *HEADER[2:], "pixel999999999"], GOOD),
        ["pixel999999999", "784 pixel columns"],
    ),
    "absurd grid": (text_of(["label", "1x1", "999999x999999"], [[1, 2, 3]]), ["999999x999999"]),
    "3x29": (
        text_of(
            ["label"] + [f"{r}x{c}" for r in range(1, 4) for c in range(1, 30)],
            [row[:88] for row in GOOD],
        ),
        ["3x29", "at least 4 pixels"],
    ),
    "3x3": (text_of(None, [row[:10] for row in GOOD]), ["3x3", "at least 4 pixels"]),
    "text for a number": (
        text_of(HEADER, rows_with(6, 50, "none")),
        ["line 8", "column 51", "'none'"],
    ),
    "256": (text_of(HEADER, rows_with(38, 9, 256)), ["line 40", "column 10", "'256'", "0 to 255"]),
    "-1": (text_of(None, rows_with(0, 700, -1)), ["line 1", "column 701", "'-1'"]),
    "1.5": (text_of(None, rows_with(5, 3, 1.5)), ["line 6", "column 4", "'1.5'"]),
    "empty cell": (text_of(HEADER, rows_with(5, 3, "")), ["line 7", "column 4", "''"]),
    "no label in a row": (text_of(HEADER, rows_with(5, 0, "")), ["line 7", "label is missing"]),
    "short row": (text_of(HEADER, [*GOOD[:3], GOOD[3][:-1]]), ["line 5", "784 columns", "785"]),
    "long row": (text_of(HEADER, [*GOOD[:3], [*GOOD[3], 1]]), ["line 5", "786 columns", "785"]),
    "every row long": (text_of(HEADER, [[*row, 1] for row in GOOD]), ["line 2", "786 columns"]),
    "cut in a row": (text_of(HEADER, GOOD)[:-1000], ["line 41", "columns"]),
    "spaces": (text_of(None, GOOD).replace(",", " "), ["1 columns", "is a column missing"]),
    "labels that are missing": (
        text_of(HEADER, rows_with(6, 0, "nan")),
        ["1 of 40 labels", "nan", "image 7"],
    ),
    "labels that are no classes": (
        text_of(HEADER, rows_with(6, 0, "0.5")),
        ["label 0.5", "not a whole number"],
    ),
    "UTF-16": (text_of(HEADER, GOOD).encode("utf-16"), ["UTF-16", "UTF-8"]),
    "UTF-16 without a mark": (text_of(HEADER, GOOD).encode("utf-16-le"), ["UTF-16?", "NUL"]),
    "packed and cut": (gzip.compress(text_of(HEADER, GOOD).encode())[:-900], ["gzip", "damaged"]),
    "packed by xz": (lzma.compress(text_of(HEADER, GOOD).encode()), ["not CSV text"]),
    "zeros": (bytes(5000), ["x.csv"]),
}


@pytest.mark.parametrize("case", CSV_CASES)
def test_csv(case: str, tmp_path: Path) -> None:
    text, words = CSV_CASES[case]
    path = tmp_path / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput) as caught:
        load_set(f"csv:{path}")
    assert_one_line(caught.value, [str(path), *words])
