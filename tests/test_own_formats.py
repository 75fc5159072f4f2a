"""Readers take what people's programs write: tables, arrays and pictures of every usual kind."""

import gzip
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from own_images import COLOUR, GREY, LABELS, PIXELS, TRAIN, rows_of, save, write_csv
from PIL import Image

from bench.core.errors import BadInput
from bench.data import dataset_name, load_set

ROWS = rows_of()
HEADER = ["label", *PIXELS]


def assert_same(reference: str, labels: np.ndarray = LABELS) -> tuple[str, ...]:
    """The images and labels of the file are those of the bundled set; returns its notes."""
    found = load_set(reference)
    assert np.array_equal(found.parts["train"].images[:, 0], GREY)
    names = np.array(found.class_names)[found.parts["train"].labels]
    assert names.tolist() == [str(label) for label in labels]
    return found.notes


# Tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("header", [None, HEADER], ids=["bare", "header"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_tables_by_separator_packed_or_not(delimiter, header, packed, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ROWS, header, delimiter)
    if packed:
        path = path.with_suffix(".csv.gz")
        path.write_bytes(gzip.compress((tmp_path / "x.csv").read_bytes()))
    assert assert_same(f"csv:{path}") == ()
    assert dataset_name(f"csv:{path}") == "csv.x"


def test_whole_numbers_with_a_point(tmp_path: Path) -> None:
    rows = rows_of(GREY.astype(float), LABELS.astype(float))
    assert assert_same(f"csv:{write_csv(tmp_path / 'x.csv', rows, HEADER)}") == ()
    # As pandas writes a table in which one column has become floats.
    some = [[row[0], float(row[1]), *row[2:]] for row in ROWS]
    assert assert_same(f"csv:{write_csv(tmp_path / 'y.csv', some, HEADER)}") == ()


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    words = np.where(LABELS > 4, "Kätzchen", "Fuß")
    rows = rows_of(GREY, words)
    for encoding, notes in (("latin-1", 1), ("utf-8", 0), ("utf-8-sig", 0)):
        path = write_csv(tmp_path / f"{encoding}.csv", rows, HEADER, encoding=encoding)
        said = assert_same(f"csv:{path}", words)
        assert len(said) == notes and all("Latin-1" in note for note in said)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_latin_1_that_looks_like_utf_8_to_its_last_letter(packed: bool, tmp_path: Path) -> None:
    words = np.where(np.arange(len(LABELS)) == len(LABELS) - 1, "Caf\u00e9", "Tee")
    rows = [[*row[1:], row[0]] for row in rows_of(GREY, words)]
    path = write_csv(tmp_path / "x.csv", rows, [*PIXELS, "label"], encoding="latin-1")
    content = path.read_bytes().rstrip(b"\r\n")
    assert content.endswith(b"\xe9")
    path = path.with_suffix(".csv.gz") if packed else path
    path.write_bytes(gzip.compress(content) if packed else content)
    assert ["Latin-1" in note for note in assert_same(f"csv:{path}", words)] == [True]


@pytest.mark.parametrize("content", [b"\xda", b"label,a\n1,2\xc3", b"\xef\xbb", b"\xf0\x9f\n\xf0"])
def test_a_text_that_ends_within_a_letter_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.csv"):
        load_set(f"csv:{path}")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "id"])
def test_an_index_column_is_left_out_and_said(name: str, tmp_path: Path) -> None:
    rows = [[index, *row] for index, row in enumerate(ROWS)]
    path = write_csv(tmp_path / "x.csv", rows, [name, *HEADER])
    assert assert_same(f"csv:{path}") == (f"left out the column '{name}'",)
    last = write_csv(tmp_path / "y.csv", [[*row[1:], row[0]] for row in rows], [*HEADER, name])
    assert len(assert_same(f"csv:{last}")) == 1


def test_the_index_may_be_words(tmp_path: Path) -> None:
    rows = [[f"train_{index:03d}", *row] for index, row in enumerate(ROWS)]
    assert_same(f"csv:{write_csv(tmp_path / 'x.csv', rows, ['id', *HEADER])}")


def test_columns_that_pandas_numbered(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "x.csv", ROWS, [str(place) for place in range(785)])
    with pytest.raises(BadInput, match="--label-column"):
        load_set(f"csv:{table}")
    assert_same(f"csv[label=first]:{table}")
    assert_same(f"csv[label=0]:{table}")
    rows = [[index, *row] for index, row in enumerate(ROWS)]
    table = write_csv(tmp_path / "y.csv", rows, ["", *(str(place) for place in range(785))])
    assert assert_same(f"csv[label=0]:{table}") == ("left out the column ''",)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["{}x{}", "pixel_{}_{}", "p{}_{}", "{}_{}"])
def test_columns_named_by_row_and_column(name: str, first: int, tmp_path: Path) -> None:
    """As scikit-learn's `load_digits(as_frame=True)` names them, among others."""
    numbers = range(first, first + 28)
    header = [name.format(row, column) for row in numbers for column in numbers]
    rows = [[*row[1:], row[0]] for row in ROWS]
    assert assert_same(f"csv:{write_csv(tmp_path / 'x.csv', rows, [*header, 'target'])}") == ()
    order = np.random.default_rng(0).permutation(784)
    rows = [[row[0], *(row[1 + place] for place in order)] for row in ROWS]
    mixed = write_csv(tmp_path / "y.csv", rows, ["label", *(header[place] for place in order)])
    assert assert_same(f"csv:{mixed}") == ()
    rows = [row[:-1] for row in ROWS]
    cut = write_csv(tmp_path / "z.csv", rows, ["label", *header[:-1]])
    with pytest.raises(BadInput, match=f"'{header[-1]}' is missing"):
        load_set(f"csv:{cut}")


@pytest.mark.parametrize("header", [None, HEADER], ids=["bare", "header"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_decimal_commas_are_named(header, place: str, tmp_path: Path) -> None:
    """As spreadsheets write fractions in half of Europe: semicolons between, commas inside."""
    rows = rows_of(GREY / 255)
    if place == "last":
        rows = [[*row[1:], row[0]] for row in rows]
        header = header and [*header[1:], header[0]]
    path = write_csv(tmp_path / "x.csv", rows, header, ";")
    path.write_text(path.read_text().replace(".", ","))
    with pytest.raises(BadInput, match=r"line .*: '0,0' is not .* behind a point"):
        load_set(f"csv:{path}")


def test_an_index_without_a_header_is_suspected(tmp_path: Path) -> None:
    rows = [[index, *row] for index, row in enumerate(ROWS)]
    with pytest.raises(BadInput, match=r"786 columns.*does one number the rows"):
        load_set(f"csv:{write_csv(tmp_path / 'x.csv', rows)}")


def test_more_than_a_thousand_labels(tmp_path: Path) -> None:
    images = TRAIN.images[:1300, 0, ::2, ::2]
    names = [f"plant {index % 1200:04d}" for index in range(1300)]
    header = ["label", *PIXELS[: 14 * 14]]
    path = write_csv(tmp_path / "x.csv", rows_of(images, names), header)
    found = load_set(f"csv[size=28]:{path}")
    assert len(found.class_names) == 1200
    assert "1,200 different labels for 1,300 images" in found.notes
    np.savez(tmp_path / "x.npz", x=np.repeat(images, 2, axis=1).repeat(2, axis=2), y=names)
    assert len(load_set(f"npz:{tmp_path}/x.npz").class_names) == 1200


# Arrays


def test_bools_floats_flat_and_one_hot(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=GREY.reshape(60, -1), y=np.eye(10)[LABELS])
    np.savez(tmp_path / "b.npz", images=GREY, labels=LABELS.astype(np.float32))
    np.savez(tmp_path / "c.npz", X_train=GREY, y_train=np.eye(10, dtype=bool)[LABELS])
    np.savez(tmp_path / "d.npz", data=np.asfortranarray(GREY / 255), target=LABELS[:, None])
    for name in "abcd":
        assert_same(f"npz:{tmp_path}/{name}.npz")
    np.savez(tmp_path / "e.npz", X=GREY > 127)
    found = load_set(f"npz:{tmp_path}/e.npz").parts["train"].images[:, 0]
    assert np.array_equal(found, (GREY > 127) * 255)


# Pictures


def gif_of(frames: list[np.ndarray]) -> bytes:
    packed = io.BytesIO()
    first, *rest = map(Image.fromarray, frames)
    first.save(packed, "GIF", save_all=True, append_images=rest)
    return packed.getvalue()


def pictures(kind: str, folder: Path) -> np.ndarray:
    """Write pictures of one kind and return what should be read (N x H x W or N x H x W x 3)."""
    folder.mkdir()
    for index in range(6):
        grey, colour = Image.fromarray(GREY[index]), Image.fromarray(COLOUR[index])
        path = folder / f"{index}.png"
        match kind:
            case "palette":
                save(path, colour.quantize(256))
            case "grey palette":
                save(path, grey.convert("P"))
            case "alpha":
                save(path, colour.convert("RGBA"))
            case "grey alpha":
                save(path, grey.convert("LA"))
            case "16 bits":
                save(path, GREY[index].astype(np.uint16) * 257)
            case "1 bit":
                save(path, grey.point(lambda value: value > 127 and 255).convert("1"))
            case "CMYK":
                save(path.with_suffix(".tif"), colour.convert("CMYK"))
            case "frames":
                path.with_suffix(".gif").write_bytes(gif_of([GREY[index], GREY[index + 1]]))
    if kind == "palette":
        return np.array(
            [np.asarray(Image.open(p).convert("RGB")) for p in sorted(folder.iterdir())]
        )
    if kind == "1 bit":
        return (GREY[:6] > 127) * 255
    return COLOUR[:6] if kind in ("alpha", "CMYK") else GREY[:6]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("palette", "RGB: 6 had a palette"),
        ("grey palette", "grey: 6 had a palette"),
        ("alpha", "RGB: 6 had transparency"),
        ("grey alpha", "grey: 6 had transparency"),
        ("16 bits", "grey: 6 had more than 8 bits"),
        ("1 bit", "grey: 6 had 1 bit"),
        ("CMYK", "RGB: 6 had CMYK"),
        ("frames", "6 had several frames"),
    ],
)
def test_every_mode_is_converted_and_said_once(kind: str, said: str, tmp_path: Path) -> None:
    expected = pictures(kind, tmp_path / "x")
    found = load_set(f"folder:{tmp_path}/x")
    images = found.parts["train"].images.transpose(0, 2, 3, 1)
    assert np.array_equal(images.reshape(expected.shape), expected)
    (note,) = found.notes
    assert said in note


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    alpha = np.where(np.arange(28) < 14, 0, 255).astype(np.uint8)
    layers = [*COLOUR[0].transpose(2, 0, 1), np.repeat(alpha[None], 28, axis=0)]
    save(tmp_path / "x.png", np.stack(layers, axis=-1))
    (image,) = load_set(f"folder:{tmp_path}").parts["train"].images.transpose(0, 2, 3, 1)
    assert (image[:, :14] == 255).all() and np.array_equal(image[:, 14:], COLOUR[0][:, 14:])


def test_what_systems_leave_in_folders_is_ignored(tmp_path: Path) -> None:
    for index, image in enumerate(GREY):
        save(tmp_path / "x" / "train" / str(LABELS[index]) / f"{index:02d}.png", image)
    plain = load_set(f"folder:{tmp_path}/x")
    (tmp_path / "x" / "train" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "x" / "train" / "0" / "Thumbs.db").write_bytes(b"x")
    for system in ("Icon\r", "desktop.ini", "._1.png"):
        (tmp_path / "x" / "train" / "0" / system).write_bytes(b"x")
    for system in ("@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"):
        (tmp_path / "x" / system).mkdir()
        (tmp_path / "x" / "train" / system).mkdir()
    for place in (tmp_path / "x", tmp_path / "x" / "train", tmp_path / "x" / "train" / "0"):
        (place / "__MACOSX" / "train").mkdir(parents=True)
        (place / "__MACOSX" / "._1.png").write_bytes(b"x")
    found = load_set(f"folder:{tmp_path}/x")
    assert found.digest == plain.digest and found.class_names == plain.class_names


def test_all_faults_of_a_folder_are_in_one_message(tmp_path: Path) -> None:
    for index in range(30):
        save(tmp_path / "a" / f"{index:02d}.png", GREY[index])
    fine = (tmp_path / "a" / "00.png").read_bytes()
    for index in range(8):
        (tmp_path / "a" / f"cut{index}.png").write_bytes(fine[:-80])
    for index in range(7):
        save(tmp_path / "b" / f"small{index}.png", GREY[index, :20])
    save(tmp_path / "b" / "colour.png", COLOUR[0])
    (tmp_path / "b" / "notes.docx").write_bytes(b"x")
    (tmp_path / "b" / "text.png").write_text("hello")
    (tmp_path / "c").mkdir()
    with pytest.raises(BadInput) as caught:
        load_set(f"folder:{tmp_path}")
    text = str(caught.value)
    assert "\n" not in text
    for words in (
        "19 files",
        "8 damaged or cannot be read: a/cut0.png",
        "a/cut4.png (image file is truncated",
        "and 3 more",
        "7 of another size: b/small0.png (20x28)",
        "and 2 more",
        "1 RGB while the first image is grey: b/colour.png",
        "b/notes.docx",
        "b/text.png",
        "no images: remove or fill it: c",
        "--image-size",
    ):
        assert words in text, text
    assert "cut5" not in text and "small5" not in text, "the first five of each fault"
    for name in ("a/cut*.png", "b"):
        for path in list(tmp_path.glob(name)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "c").rmdir()
    assert load_set(f"folder:{tmp_path}").counts == {"train": 30}
