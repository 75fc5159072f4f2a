"""Damaged and hostile NPZ files, image folders and paths: one clear line with file and fault."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile import GOOD, GREY, HEADER, LABELS, assert_one_line, flipped, text_of
from PIL import Image

from bench.core.errors import BadInput
from bench.data import load_set


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


NPZ_CASES: dict[str, tuple[bytes, list[str]]] = {
    "no zip": (b"hello", ["not an NPZ file"]),
    "empty": (b"", ["not an NPZ file"]),
    "truncated": (npz(images=GREY)[:-30], ["not an NPZ file"]),
    "damaged": (flipped(npz(images=GREY), 1000), ["damaged"]),
    "pickled": (npz(images=np.array([{"a": 1}, None])), ["images", "pickled", "never read"]),
    "pickled labels": (
        npz(images=GREY, labels=np.array(["a", 1] * 20, dtype=object)),
        ["labels", "pickled"],
    ),
    "other names": (npz(a=GREY, b=LABELS), ["holds a, b", "x_train"]),
    "test alone": (npz(x_test=GREY), ["holds x_test", "x_train"]),
    "no array": (npz_of("images.npy", b"hello world"), ["images", "not a NumPy array"]),
    "evil header": (
        npz_of("images.npy", b"\x93NUMPY\x01\x00\x76\x00" + b"__import__('os')".ljust(118)),
        ["images", "not a NumPy array"],
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
        ["x_test", "missing"],
    ),
    "parts that differ": (
        npz(x_train=GREY, y_train=LABELS, x_test=GREY[:, :20], y_test=LABELS),
        ["x_test", "differ in shape"],
    ),
    "3x29": (npz(images=np.zeros((5, 3, 29), np.uint8)), ["images", "3x29", "at least 4 pixels"]),
    "four channels": (npz(images=np.zeros((5, 28, 28, 4), np.uint8)), ["5 x 28 x 28 x 4"]),
    "flat, a column short": (npz(x=GREY.reshape(40, -1)[:, 1:]), ["40 x 783", "N x H x W"]),
    "no images": (npz(images=GREY[:0]), ["no images"]),
    "floats between levels": (npz(images=GREY / 255 * 0.9), ["floats", "save the images as uint8"]),
    "standardised": (npz(images=(GREY - GREY.mean()) / GREY.std()), ["values from -"]),
    "nan": (npz(images=np.full((5, 28, 28), np.nan)), ["nan"]),
    "256": (npz(images=GREY.astype(int) + 1), ["to 256"]),
    "text": (npz(images=np.full((5, 28, 28), "a")), ["<U1", "numbers"]),
    "labels of two kinds": (
        npz(images=GREY, labels=np.eye(10)[LABELS] + np.eye(10)[3]),
        ["labels", "40 x 10", "single 1"],
    ),
    "fractions as labels": (npz(images=GREY, labels=LABELS + 0.5), ["label 4.5", "whole number"]),
    "labels that are missing": (
        npz(images=GREY, labels=np.where(LABELS == 4, np.nan, LABELS)),
        ["labels are missing", "nan"],
    ),
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


def tiff(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(array.astype(np.float32) if array.dtype == float else array).save(
        packed, "TIFF"
    )
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
    "no image": ({"a/1.png": FINE, "a/2.png": b"hello"}, ["a/2.png", "not a readable image"]),
    "empty file": ({"a/1.png": b""}, ["a/1.png", "not a readable image"]),
    "other size": (
        {"a/1.png": FINE, "b/2.png": png(GREY[0][:20])},
        ["b/2.png (20x28)", "1 of 28x28", "1 of 20x28", "--image-size"],
    ),
    "turned": (
        {"a/1.png": png(GREY[0][:20]), "a/2.png": png(GREY[0][:, :20])},
        ["a/2.png", "28x20", "20x28"],
    ),
    "other mode": ({"a/1.png": FINE, "a/2.png": png(COLOUR)}, ["1 RGB", "grey", "a/2.png"]),
    "floats": ({"a/1.tiff": tiff(GREY[0] / 255)}, ["1 of floats", "a/1.tiff", "--scale"]),
    "numbers above 16 bits": (
        {"a/1.tiff": tiff(GREY[0].astype(np.int32) * 300)},
        ["a/1.tiff", "65535", "up to 76"],
    ),
    "3x29": ({"a/1.png": png(np.zeros((3, 29), np.uint8))}, ["a/1.png", "3x29"]),
    "beside the classes": (
        {"a/1.png": FINE, "2.png": FINE},
        ["next to the class folders", "2.png"],
    ),
    "deeper": ({"a/1.png": FINE, "a/b/2.png": FINE}, ["inside a class", "a/b"]),
    "empty class": ({"a/1.png": FINE, "b/notes.txt": b""}, ["no images", ": b"]),
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
