"""A person's own images: the same set from every format, and what each format allows."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core.errors import BadInput
from bench.data import LabelledImages, dataset_name, describe_dataset, find_dataset, load_set
from bench.data.csv_file import read_csv
from bench.data.idx import encode_part, read_pair
from bench.data.npz_file import read_npz

SET = load_set("fashion_mnist_mini")
SMALL = {
    part: LabelledImages(images[:50], labels[:50]) for part, (images, labels) in SET.parts.items()
}
IMAGES, LABELS = SMALL["train"]
ROWS = IMAGES.reshape(50, -1)
PIXELS = [f"pixel{i}" for i in range(784)]


def write_csv(path: Path, header: list[str] | None, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(([header] if header else []) + rows)
    return path


def colour(count: int) -> np.ndarray:
    """Real pictures in colour: three of the set's images as the channels of one (N x H x W x 3)."""
    grey = SET.parts["train"].images[: 3 * count, 0]
    return np.stack([grey[:count], grey[count : 2 * count], grey[2 * count :]], axis=-1)


def labelled(rows: np.ndarray = ROWS) -> list[list[object]]:
    return [[label, *row] for label, row in zip(LABELS.tolist(), rows.tolist(), strict=True)]


def write_as_kaggle(path: Path) -> Path:
    return write_csv(path / "x.csv", ["label", *PIXELS], labelled())


def write_label_last(path: Path) -> Path:
    rows = [[*row[1:], row[0]] for row in labelled()]
    return write_csv(path / "x.csv", [*PIXELS, "label"], rows)


def write_by_row_and_column(path: Path) -> Path:
    names = [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)]
    return write_csv(path / "x.csv", ["label", *names], labelled())


def write_shuffled(path: Path) -> Path:
    order = np.random.default_rng(0).permutation(784)
    rows = labelled(ROWS[:, order])
    names = [f"Pixel{i + 1:04d}" for i in order]
    return write_csv(path / "x.csv", ["Class", *names], rows)


def write_bare_numbers(path: Path) -> Path:
    return write_csv(path / "x.csv", ["label", *map(str, range(784))], labelled())


def write_headerless(path: Path) -> Path:
    return write_csv(path / "x.csv", None, labelled())


def write_excel(path: Path) -> Path:
    """A byte order mark, quotes, spaces, blank lines and Windows line ends."""
    lines = ['"label",' + ",".join(f'"{name}"' for name in PIXELS), ""]
    lines += [",".join(f' "{cell}"'.strip() for cell in row) for row in labelled()] + ["", ""]
    file = path / "x.csv"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    return file


CSV_WRITERS = [
    write_as_kaggle,
    write_label_last,
    write_by_row_and_column,
    write_shuffled,
    write_bare_numbers,
    write_headerless,
    write_excel,
]


@pytest.mark.parametrize("write", CSV_WRITERS)
def test_every_csv_gives_the_same_images_and_labels(write, tmp_path: Path) -> None:
    table = read_csv(write(tmp_path))
    images, labels = table.images, table.labels
    assert images.dtype == np.uint8 and np.array_equal(images, IMAGES)
    assert [int(label) for label in labels] == LABELS.tolist()


def test_csv_of_one_class_in_colour_and_with_words(tmp_path: Path) -> None:
    one = [["all", *row] for row in ROWS.tolist()]
    found = load_set(f"csv:{write_csv(tmp_path / 'a.csv', None, one)}")
    assert found.class_names == ("all",) and set(found.parts["train"].labels) == {0}
    assert np.array_equal(found.parts["train"].images, IMAGES)
    pictures = colour(9)
    rows = [["cat" if i % 3 else "a dog", *picture.ravel()] for i, picture in enumerate(pictures)]
    found = load_set(f"csv:{write_csv(tmp_path / 'c.csv', None, rows)}")
    assert found.class_names == ("a dog", "cat") and found.image_shape == (3, 28, 28)
    assert np.array_equal(found.parts["train"].images, pictures.transpose(0, 3, 1, 2))
    assert found.parts["train"].labels.tolist() == [0, 1, 1] * 3


@pytest.mark.parametrize("keys", ["x_{0} y_{0}", "{0}_images {0}_labels"])
@pytest.mark.parametrize("kind", ["uint8", "int64", "float32", "float16", "grey levels", "nhwc"])
def test_npz_with_parts(keys: str, kind: str, tmp_path: Path) -> None:
    def stored(images: np.ndarray) -> np.ndarray:
        if kind == "nhwc":
            return images.transpose(0, 2, 3, 1)
        if kind == "grey levels":
            return images[:, 0].astype(np.float64)
        scale = 255 if kind.startswith("float") else 1
        return (images[:, 0] / scale).astype(kind)

    names = {"train": "train", "validation": "val", "test": "test"}
    arrays = {}
    for part, (images, labels) in SMALL.items():
        x, y = keys.format(names[part]).split()
        arrays |= {x: stored(images), y: labels[:, None] if kind == "nhwc" else labels}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    found = read_npz(tmp_path / "x.npz")
    images, labels = found.images, found.labels
    assert list(images) == ["train", "validation", "test"]
    for part, content in SMALL.items():
        assert np.array_equal(images[part], content.images)
        assert np.array_equal(labels[part], content.labels)


def test_npz_of_one_part_in_colour_without_labels(tmp_path: Path) -> None:
    pictures = colour(9)
    for name, array in {"last": pictures, "first": pictures.transpose(0, 3, 1, 2)}.items():
        np.savez(tmp_path / f"{name}.npz", images=array)
    sets = [load_set(f"npz:{tmp_path}/{name}.npz") for name in ("first", "last")]
    assert sets[0].digest == sets[1].digest
    assert sets[0].image_shape == (3, 28, 28) and sets[0].class_names == ("all",)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_folder_with_parts_classes_and_notes(tmp_path: Path) -> None:
    for part, folder in {"train": "train", "validation": "val", "test": "Test"}.items():
        images, labels = SMALL[part]
        for index, (image, label) in enumerate(zip(images[:, 0], labels, strict=True)):
            save(tmp_path / folder / f"class {label}" / f"{index:03d}.png", image)
    (tmp_path / "README.md").write_text("notes are passed over")
    (tmp_path / "train" / ".hidden").write_text("so are hidden files")
    found = load_set(f"folder:{tmp_path}")
    assert list(found.parts) == ["train", "validation", "test"]
    assert found.class_names == tuple(f"class {i}" for i in range(10))
    for part, (images, labels) in SMALL.items():
        order = np.argsort(labels, kind="stable")
        assert np.array_equal(found.parts[part].images, images[order])
        assert np.array_equal(found.parts[part].labels, labels[order])


def test_folder_of_classes_and_folder_of_images(tmp_path: Path) -> None:
    for index, picture in enumerate(colour(6)):
        save(tmp_path / "birds" / ("crow" if index < 4 else "wren") / f"{index}.bmp", picture)
        save(tmp_path / "flat" / f"{index}.tif", picture)
    birds, flat = load_set(f"folder:{tmp_path}/birds"), load_set(f"folder:{tmp_path}/flat")
    assert birds.class_names == ("crow", "wren") and birds.counts == {"train": 6}
    assert birds.parts["train"].labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert flat.class_names == ("all",)
    assert np.array_equal(birds.parts["train"].images, flat.parts["train"].images)
    assert np.array_equal(birds.parts["train"].images, colour(6).transpose(0, 3, 1, 2))


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    upright = np.ascontiguousarray(IMAGES[0, 0][:, :20])
    turned = Image.fromarray(np.rot90(upright))
    exif = turned.getexif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to see it upright
    turned.save(tmp_path / "a.png", exif=exif)
    save(tmp_path / "b.png", upright)
    images = load_set(f"folder:{tmp_path}").parts["train"].images
    assert images.shape == (2, 1, 28, 20) and np.array_equal(images[0], images[1])


def test_all_formats_give_one_digest(tmp_path: Path) -> None:
    order = np.argsort(LABELS, kind="stable")
    images, labels = IMAGES[order], LABELS[order]
    rows = [[label, *row] for label, row in zip(labels, images.reshape(50, -1), strict=True)]
    write_csv(tmp_path / "x.csv", None, rows)
    np.savez(tmp_path / "x.npz", x_train=images[:, 0], y_train=labels)
    for index, (image, label) in enumerate(zip(images[:, 0], labels, strict=True)):
        save(tmp_path / "x" / str(label) / f"{index:03d}.png", image)
    given = [f"csv:{tmp_path}/x.csv", f"npz:{tmp_path}/x.npz", f"folder:{tmp_path}/x"]
    infos = [describe_dataset(text) for text in given]
    assert len({info.digest for info in infos}) == 1
    digits = infos[0].digest[:6]
    names = [f"{kind}.x-{digits}" for kind in ("csv", "npz", "folder")]
    assert [info.label for info in infos] == names
    assert {info.class_names for info in infos} == {tuple("0123456789")}
    assert str(tmp_path) not in "".join(info.source for info in infos)
    assert find_dataset(given[0]) == str(tmp_path / "x.csv")


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_idx_is_read_plain_and_packed_whatever_its_name(pack, tmp_path: Path) -> None:
    files = encode_part("train", SMALL["train"])
    paths = [tmp_path / name for name in files]
    for path, data in zip(paths, files.values(), strict=True):
        path.write_bytes(pack(data))
    found = read_pair(*paths)
    assert np.array_equal(found.images, IMAGES) and np.array_equal(found.labels, LABELS)


def test_numbers_sort_as_numbers_and_one_vocabulary_serves_all_parts(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz",
        x_train=IMAGES[:3, 0],
        y_train=np.array([10, 9, -1]),
        x_test=IMAGES[:2, 0],
        y_test=np.array(["9", "100"]),
    )
    found = load_set(f"npz:{tmp_path}/x.npz")
    assert found.class_names == ("-1", "9", "10", "100")
    assert found.parts["train"].labels.tolist() == [2, 1, 0]
    assert found.parts["test"].labels.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("csv:/data/My Digits.csv", "csv.my-digits"),
        ("folder:../../My..Photos_2024", "folder.my.photos_2024"),
        ("npz:~/größe.npz", "npz.gr-e"),
        ("npz:" + "a" * 200 + ".npz", "npz." + "a" * 40),
        ("kmnist", "kmnist"),
    ],
)
def test_labels_are_names_that_can_be_used(given: str, label: str) -> None:
    assert dataset_name(given) == label


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("fashion_mnits", ["fashion_mnits", "did you mean", "fashion_mnist"]),
        ("cvs:x.csv", ["cvs:x.csv", "unknown data set"]),
        ("csv:", ["path is missing", "csv:PATH"]),
        ("./digits.csv", ["csv:./digits.csv"]),
        ("tests", ["folder:tests"]),
        ("", ["unknown data set ''"]),
    ],
)
def test_what_is_no_data_set_is_named_with_the_way_out(given: str, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        dataset_name(given)
    assert all(word in str(caught.value) for word in words), str(caught.value)
