"""Damaged, mislabelled and hostile files: one clear line that names the file and the fault."""

import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import LabelledImages, load_set
from bench.data.idx import encode_part, read_pair
from bench.data.known import find_idx, read_found
from bench.data.table import DATASETS
from bench.errors import BadInput

SET = load_set("mnist_mini")
IMAGES, LABELS = (array[:40] for array in SET.parts["train"])
FILES = encode_part("train", LabelledImages(IMAGES, LABELS))
IMAGE_BYTES, LABEL_BYTES = FILES.values()
ROWS = IMAGES.reshape(40, -1).tolist()
HEADER = ["label", *(f"pixel{i}" for i in range(784))]


def idx_header(magic: int, *sizes: int) -> bytes:
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes)


def bomb(header: bytes, zeros: int) -> bytes:
    """A small gzip file that unpacks to a header and very many zeros."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as stream:
        stream.write(header)
        for _ in range(zeros >> 20):
            stream.write(bytes(1 << 20))
    return packed.getvalue()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


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
    "empty": (b"", LABEL_BYTES, ["images-file", "no IDX file"]),
    "trailing bytes": (IMAGE_BYTES + b"x", LABEL_BYTES, ["images-file", "holds more than"]),
    "swapped": (LABEL_BYTES, IMAGE_BYTES, ["labels-file", "holds images", "swapped"]),
    "labels for images": (LABEL_BYTES, LABEL_BYTES, ["images-file", "holds labels", "0x803"]),
    "wrong magic": (b"\0\0\x0d\x03" + IMAGE_BYTES[4:], LABEL_BYTES, ["images-file", "0x00000d03"]),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), LABEL_BYTES, ["images-file", "no IDX file"]),
    "fewer labels": (
        IMAGE_BYTES,
        idx_header(0x801, 30) + LABEL_BYTES[8:38],
        ["labels-file", "30 labels", "40 images"],
    ),
    "27x29": (
        idx_header(0x803, 40, 27, 29) + bytes(40 * 27 * 29),
        LABEL_BYTES,
        ["images-file", "27x29", "divide by 4", "pad, crop or resize"],
    ),
    "8x8": (idx_header(0x803, 40, 8, 8) + bytes(2560), LABEL_BYTES, ["8x8", "at least 12"]),
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
    "gzip bomb of zeros": (bomb(b"", 256 << 20), LABEL_BYTES, ["images-file", "no IDX file"]),
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


def assert_one_line(error: BadInput, words: list[str]) -> None:
    text = str(error)
    assert error.exit_code == 2 and "\n" not in text and len(text) < 600, text
    assert not [word for word in words if word not in text], text


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
    "headerless, a column short": (
        text_of(None, [row[:-2] for row in GOOD]),
        ["line 1", "783 columns", "785"],
    ),
    "repeated column": (text_of([*HEADER[:-1], "pixel5"], GOOD), ["'pixel5'", "more than once"]),
    "unknown column": (text_of(["label", "name", *HEADER[2:]], GOOD), ["'name'", "neither"]),
    "two labels": (text_of(["label", "class", *HEADER[2:]], GOOD), ["label, class"]),
    "absurd number": (
        text_of(["label", *HEADER[2:], "pixel999999999"], GOOD),
        ["pixel999999999", "784 pixel columns"],
    ),
    "absurd grid": (text_of(["label", "1x1", "999999x999999"], [[1, 2, 3]]), ["999999x999999"]),
    "27x29": (
        text_of(
            ["label"] + [f"{r}x{c}" for r in range(1, 28) for c in range(1, 30)],
            [row[:784] for row in GOOD],
        ),
        ["27x29", "divide by 4"],
    ),
    "27x27": (text_of(None, [row[:730] for row in GOOD]), ["27x27", "divide by 4"]),
    "text for a number": (
        text_of(HEADER, rows_with(6, 50, "none")),
        ["line 8", "column 51", "'none'"],
    ),
    "256": (text_of(HEADER, rows_with(38, 9, 256)), ["line 40", "column 10", "'256'", "0 to 255"]),
    "-1": (text_of(None, rows_with(0, 784, -1)), ["line 1", "column 785", "'-1'"]),
    "1.5": (text_of(None, rows_with(5, 3, 1.5)), ["line 6", "column 4", "'1.5'"]),
    "empty cell": (text_of(HEADER, rows_with(5, 3, "")), ["line 7", "column 4", "''"]),
    "no label in a row": (text_of(HEADER, rows_with(5, 0, "")), ["line 7", "label is missing"]),
    "short row": (text_of(HEADER, [*GOOD[:3], GOOD[3][:-1]]), ["line 5", "784 columns", "785"]),
    "long row": (text_of(HEADER, [*GOOD[:3], [*GOOD[3], 1]]), ["line 5", "786 columns", "785"]),
    "every row long": (text_of(HEADER, [[*row, 1] for row in GOOD]), ["line 2", "786 columns"]),
    "cut in a row": (text_of(HEADER, GOOD)[:-1000], ["line 41", "columns"]),
    "semicolons": (text_of(None, GOOD).replace(",", ";"), ["1 columns", "separated by commas"]),
    "labels that are numbers of images": (
        text_of(None, [[i, *ROWS[0]] for i in range(1001)]),
        ["1,001 different labels"],
    ),
    "packed": (gzip.compress(text_of(HEADER, GOOD).encode()), ["no CSV text", "compressed?"]),
    "zeros": (bytes(5000), ["x.csv"]),
    "latin-1": (text_of(HEADER, rows_with(3, 0, "é")).encode("latin-1"), ["no CSV text"]),
}


@pytest.mark.parametrize("case", CSV_CASES)
def test_csv(case: str, tmp_path: Path) -> None:
    text, words = CSV_CASES[case]
    path = tmp_path / "x.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInput) as caught:
        load_set(f"csv:{path}")
    assert_one_line(caught.value, [str(path), *words])


def npz(**arrays: object) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def npz_of(name: str, data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return packed.getvalue()


def npy_claiming(shape: tuple[int, ...], zeros: int) -> bytes:
    header = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue() + bytes(zeros)


GREY = IMAGES[:, 0]
NPZ_CASES: dict[str, tuple[bytes, list[str]]] = {
    "no zip": (b"hello", ["no NPZ file"]),
    "empty": (b"", ["no NPZ file"]),
    "truncated": (npz(images=GREY)[:-30], ["no NPZ file"]),
    "damaged": (flipped(npz(images=GREY), 1000), ["damaged"]),
    "pickled": (npz(images=np.array([{"a": 1}, None])), ["images", "pickled", "never read"]),
    "pickled labels": (
        npz(images=GREY, labels=np.array(["a", 1] * 20, dtype=object)),
        ["labels", "pickled"],
    ),
    "other names": (npz(a=GREY, b=LABELS), ["holds a, b", "x_train"]),
    "test alone": (npz(x_test=GREY), ["holds x_test", "x_train"]),
    "no array": (npz_of("images.npy", b"hello world"), ["images", "no array"]),
    "evil header": (
        npz_of("images.npy", b"\x93NUMPY\x01\x00\x76\x00" + b"__import__('os')".ljust(118)),
        ["images", "no array"],
    ),
    "claims a terabyte": (
        npz_of("images.npy", npy_claiming((2**30, 32, 32), 100)),
        ["images", "1.0 TiB", "100 bytes"],
    ),
    "claims too little": (npz_of("images.npy", npy_claiming((1, 28, 28), 10**7)), ["damaged"]),
    "negative shape": (npz_of("images.npy", npy_claiming((-1, 28, 28), 784)), ["images"]),
    "fewer labels": (npz(x=GREY, y=LABELS[:30]), ["30 labels in y", "40 images in x"]),
    "labels missing for a part": (
        npz(x_train=GREY, y_train=LABELS, x_test=GREY),
        ["y_test", "missing"],
    ),
    "parts that differ": (
        npz(x_train=GREY, y_train=LABELS, x_test=GREY[:, :20], y_test=LABELS),
        ["x_test", "differ in shape"],
    ),
    "27x29": (npz(images=np.zeros((5, 27, 29), np.uint8)), ["images", "27x29", "divide by 4"]),
    "four channels": (npz(images=np.zeros((5, 28, 28, 4), np.uint8)), ["5 x 28 x 28 x 4"]),
    "flat": (npz(images=GREY.reshape(40, -1)), ["40 x 784", "N x H x W"]),
    "no images": (npz(images=GREY[:0]), ["no images"]),
    "floats between levels": (npz(images=GREY / 255 * 0.9), ["floats", "save the images as uint8"]),
    "standardised": (npz(images=(GREY - GREY.mean()) / GREY.std()), ["values from -"]),
    "nan": (npz(images=np.full((5, 28, 28), np.nan)), ["nan"]),
    "256": (npz(images=GREY.astype(int) + 1), ["to 256"]),
    "text": (npz(images=np.full((5, 28, 28), "a")), ["<U1", "numbers"]),
    "one-hot labels": (npz(images=GREY, labels=np.eye(10)[LABELS]), ["labels", "40 x 10"]),
    "float labels": (npz(images=GREY, labels=LABELS + 0.5), ["labels", "float64"]),
}


@pytest.mark.parametrize("case", NPZ_CASES)
def test_npz(case: str, tmp_path: Path) -> None:
    data, words = NPZ_CASES[case]
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(BadInput) as caught:
        load_set(f"npz:{path}")
    assert_one_line(caught.value, [str(path), *words])


def test_npz_bomb_is_refused_by_its_claim(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(npz_of("images.npy", npy_claiming((1 << 16, 64, 64), 1 << 28)))
    assert path.stat().st_size < 1 << 20
    free = type("Memory", (), {"available": 1 << 28})
    monkeypatch.setattr("bench.data.limits.psutil.virtual_memory", lambda: free)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=r"256\.0 MiB of memory"):
            load_set(f"npz:{path}")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def png(array: np.ndarray, **options: object) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(array).save(packed, "PNG", **options)
    return packed.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header (with a right check sum) claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    check = struct.pack(">I", zipfile.crc32(header))
    rest = png(GREY[0])[33:]
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + check + rest


FINE = png(GREY[0])
COLOUR = np.stack([GREY[0]] * 3, axis=-1)
FOLDER_CASES: dict[str, tuple[dict[str, bytes], list[str]]] = {
    "nothing": ({}, ["no images"]),
    "notes alone": ({"README.md": b"x"}, ["no images"]),
    "truncated": ({"a/1.png": FINE, "a/2.png": FINE[:-60]}, ["a/2.png", "damaged"]),
    "no image": ({"a/1.png": FINE, "a/2.png": b"hello"}, ["a/2.png", "no image"]),
    "empty file": ({"a/1.png": b""}, ["a/1.png", "no image"]),
    "other size": (
        {"a/1.png": FINE, "b/2.png": png(GREY[0][:20])},
        ["b/2.png", "20x28 grey", "28x28 grey"],
    ),
    "turned": (
        {"a/1.png": png(GREY[0][:20]), "a/2.png": png(GREY[0][:, :20])},
        ["a/2.png", "28x20", "20x28"],
    ),
    "other mode": ({"a/1.png": FINE, "a/2.png": png(COLOUR)}, ["a/2.png", "28x28 RGB"]),
    "transparency": (
        {"a/1.png": png(np.concatenate([COLOUR, COLOUR[..., :1]], axis=-1))},
        ["a/1.png", "mode RGBA", "convert"],
    ),
    "16 bits": ({"a/1.png": png(GREY[0].astype(np.uint16))}, ["a/1.png", "mode I;16"]),
    "27x29": ({"a/1.png": png(np.zeros((27, 29), np.uint8))}, ["a/1.png", "27x29"]),
    "beside the classes": ({"a/1.png": FINE, "2.png": FINE}, ["beside the class folders"]),
    "deeper": ({"a/1.png": FINE, "a/b/2.png": FINE}, ["a/b", "inside the class a"]),
    "empty class": ({"a/1.png": FINE, "b/notes.txt": b""}, ["/b", "no images"]),
    "other file": ({"a/1.png": FINE, "a/2.pkl": b""}, ["a/2.pkl", "remove it"]),
    "part twice": ({"train/1.png": FINE, "val/1.png": FINE, "valid/1.png": FINE}, ["same part"]),
    "bomb": ({"a/1.png": png_claiming(60_000, 60_000)}, ["a/1.png", "far too many pixels"]),
    "second a bomb": (
        {"a/1.png": FINE, "a/2.png": png_claiming(9_000, 9_000)},
        ["a/2.png", "9000x9000"],
    ),
}


@pytest.mark.parametrize("case", FOLDER_CASES)
def test_folder(case: str, tmp_path: Path) -> None:
    files, words = FOLDER_CASES[case]
    folder = tmp_path / "own"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    with pytest.raises(BadInput) as caught:
        load_set(f"folder:{folder}")
    assert_one_line(caught.value, [str(folder), *words])


@pytest.mark.parametrize("kind", ["csv", "npz", "folder"])
@pytest.mark.parametrize("place", ["/nowhere/x", "/dev/zero", "other kind"])
def test_paths_that_are_no_such_thing(kind: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    path = Path(place)
    if place == "other kind":
        path = tmp_path / "file" if kind == "folder" else tmp_path
    with pytest.raises(BadInput) as caught:
        load_set(f"{kind}:{path}")
    assert_one_line(caught.value, [str(path), "expected"])


def stored(kind: str) -> bytes:
    """A good file of that kind."""
    packed = io.BytesIO()
    if kind == "csv":
        return text_of(HEADER, GOOD).encode()
    if kind == "npz":
        np.savez(packed, images=GREY, labels=LABELS)
    else:
        Image.fromarray(COLOUR).save(packed, kind)
    return packed.getvalue()


@pytest.mark.parametrize("kind", ["csv", "npz", "png", "tiff", "gif", "webp"])
@pytest.mark.parametrize("within", [150, 1_000_000], ids=["header", "anywhere"])
def test_random_damage_never_ends_in_a_traceback(kind: str, within: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = stored(kind)
    path = tmp_path / f"x.{kind}"
    given = f"{kind}:{path}" if kind in ("csv", "npz") else f"folder:{tmp_path}"
    refused = 0
    for _ in range(80):
        data = bytearray(good)
        for place in rng.integers(0, min(within, len(data)), 3):
            data[place] = int(rng.integers(0, 256))
        path.write_bytes(data[: int(rng.integers(len(data) // 2, 2 * len(data)))])
        try:
            load_set(given)
        except BadInput as error:
            refused += 1
            assert_one_line(error, [str(tmp_path)])
    assert refused > 20
