"""Own images are never misread without a word: parts, labels, levels, copies, names of arrays."""

import dataclasses
import struct
from pathlib import Path
from zlib import compress, crc32

import numpy as np
import pytest
from own_images import COLOUR, GREY, LABELS, PIXELS, SET, rows_of, save, write_csv

from bench.benchmark.plan import Request, plan
from bench.core.errors import BadInput
from bench.core.protocol import SplitConfig, load_protocol
from bench.core.spec import COPIED
from bench.core.store import Store
from bench.data import data_notes, describe_dataset, load_set, split_set
from bench.execution.runner import execute, ignore_epochs
from bench.leaderboard.ledger import ledger_columns, row_of
from bench.records.files import iter_records
from bench.registry import publishing
from bench.registry.results import Scope


def refused(reference: str) -> str:
    """The one line of the refusal."""
    with pytest.raises(BadInput) as caught:
        load_set(reference)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


def folder_of(root: Path, names: list[str]) -> Path:
    """A folder with two classes of two pictures in each of the named folders; `x/` is a class."""
    for start, name in enumerate(names):
        for index in range(4):
            inside = f"{index:d}.png" if name.endswith("/") else f"{index % 2}/{index}.png"
            save(root / name / inside, GREY[4 * start + index])
    return root


# Parts or classes


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (["train", "test"], ["train", "test"]),
        (["train", "test", "dev"], ["train", "validation", "test"]),
        (["training_set", "test_set"], ["train", "test"]),
        (["Training-Images", "EVAL", "Test"], ["train", "validation", "test"]),
        (["trainset", "valid", "testset"], ["train", "validation", "test"]),
        (["train", "eval"], ["train", "validation"]),
        (["TRAIN", "Validation"], ["train", "validation"]),
        (["train_data", "development"], ["train", "validation"]),
    ],
)
def test_folders_named_after_parts_are_parts(names, parts, tmp_path: Path) -> None:
    found = load_set(f"folder:{folder_of(tmp_path, names)}")
    assert list(found.parts) == parts and found.class_names == ("0", "1")
    said = [note for note in found.notes if note.startswith("parts:")]
    assert bool(said) == any(name not in parts for name in names)
    assert all(f"{name}/ is" in said[0] for name in names if said)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["train", "test", "extra"], ["lies beside extra", "test"]),
        (["train", "cats/", "dogs/"], ["train/ lies beside cats, dogs"]),
        (["test", "cats/", "dogs/"], ["test/ lies beside cats, dogs", "rename"]),
        (["Training_Set", "test_set", "unlabelled/"], ["lies beside unlabelled"]),
        (["dev", "eval"], ["dev and eval", "same part"]),
        (["val", "test"], ["test, val", "no folder train"]),
        (["train", "val", "dev"], ["same part"]),
    ],
)
def test_what_may_be_a_part_or_a_class_is_refused(names, words, tmp_path: Path) -> None:
    text = refused(f"folder:{folder_of(tmp_path, names)}")
    assert not [word for word in words if word not in text], text


@pytest.mark.parametrize(
    "names",
    [
        ["trainA/", "trainB/", "testA/", "testB/"],
        ["cats_train/", "cats_test/"],
        ["train2017/", "val2017/"],
        ["mnistTrain/", "mnistTest/", "notes/"],
    ],
)
def test_parts_that_would_become_classes_are_refused(names, tmp_path: Path) -> None:
    text = refused(f"folder:{folder_of(tmp_path, names)}")
    assert "look like parts of the data" in text and names[0].rstrip("/") in text


@pytest.mark.parametrize(
    "names",
    [
        ["steam train/", "tram/"],
        ["latest/", "restrained/"],
        ["train1/", "train2/"],
        ["tests/", "a/"],
    ],
)
def test_classes_that_only_sound_like_parts_are_classes(names, tmp_path: Path) -> None:
    found = load_set(f"folder:{folder_of(tmp_path, names)}")
    assert found.class_names == tuple(sorted(name.rstrip("/") for name in names))


def test_images_beside_parts_and_parts_without_classes_are_refused(tmp_path: Path) -> None:
    save(folder_of(tmp_path / "a", ["train", "test"]) / "1.png", GREY[0])
    assert "lies beside 1.png" in refused(f"folder:{tmp_path / 'a'}")
    folder_of(tmp_path / "b", ["train", "test/"])
    assert "test/ has no class folders, while train/ has" in refused(f"folder:{tmp_path / 'b'}")


# The column of the labels


def label_last(rows: list[list[object]]) -> list[list[object]]:
    return [[*row[1:], row[0]] for row in rows]


@pytest.mark.parametrize("images", [GREY, COLOUR, 255 - GREY], ids=["grey", "colour", "bright"])
def test_a_label_without_a_header_is_found_at_both_ends(images, tmp_path: Path) -> None:
    rows = rows_of(images)
    first = load_set(f"csv:{write_csv(tmp_path / 'first.csv', rows)}")
    last = load_set(f"csv:{write_csv(tmp_path / 'last.csv', label_last(rows))}")
    assert first.digest == last.digest and first.class_names == tuple("0123456789")
    assert first.notes == () and last.notes == ("the labels are in the last column",)


def test_corners_with_rare_exceptions_are_no_labels(tmp_path: Path) -> None:
    images, labels = (part[600:1200] for part in SET.parts["train"])
    images = images[:, 0]
    last, beside = images[:, -1, -1], images[:, -1, -2]
    assert set(last.tolist()) == {0, 1, 22} and (last == 0).mean() > 0.95
    assert np.abs(last.astype(int) - beside).sum() > last.sum(), "not like the pixel beside it"
    rows = rows_of(images, labels)
    for name, table in {"first": rows, "last": label_last(rows)}.items():
        found = load_set(f"csv:{write_csv(tmp_path / f'{name}.csv', table)}").parts["train"]
        assert np.array_equal(found.images[:, 0], images) and np.array_equal(found.labels, labels)
    # Fine pictures without an even ground: neighbours are alike.
    middle = np.ascontiguousarray(images[:, 8:20, 8:20])
    header = write_csv(tmp_path / "middle.csv", label_last(rows_of(middle, labels)))
    assert np.array_equal(load_set(f"csv:{header}").parts["train"].images[:, 0], middle)


def test_words_and_fractions_tell_the_label_too(tmp_path: Path) -> None:
    words = rows_of(GREY / 255, [f"class {label}" for label in LABELS])
    for name, rows in {"words": words, "numbers": rows_of(GREY / 255)}.items():
        path = write_csv(tmp_path / f"{name}.csv", label_last(rows))
        found = load_set(f"csv:{path}").parts["train"]
        assert np.array_equal(found.images[:, 0], GREY) and np.array_equal(found.labels, LABELS)


def test_an_unclear_label_is_refused_until_it_is_stated(tmp_path: Path) -> None:
    # One class, 0, and black corners: both ends look alike.
    path = write_csv(tmp_path / "x.csv", label_last(rows_of(GREY, [0] * len(GREY))))
    text = refused(f"csv:{path}")
    assert "first column (0)" in text and "last (0)" in text and "--label-column first" in text
    stated = load_set(f"csv[label=last]:{path}").parts["train"]
    assert np.array_equal(stated.images[:, 0], GREY)


def test_the_column_can_be_stated(tmp_path: Path) -> None:
    rows = rows_of()
    named = write_csv(tmp_path / "named.csv", rows, ["Digit", *PIXELS])
    assert "--label-column" in refused(f"csv:{named}")
    expected = load_set(f"csv:{write_csv(tmp_path / 'plain.csv', rows)}")
    for label in ("digit", "Digit", "first"):
        assert load_set(f"csv[label={label}]:{named}").digest == expected.digest
    assert "no such column" in refused(f"csv[label=digits]:{named}")
    bare = write_csv(tmp_path / "bare.csv", [row[1:] for row in rows])
    assert "--label-column none" in refused(f"csv:{bare}")
    without = load_set(f"csv[label=none]:{bare}")
    assert without.class_names == ("all",)
    assert np.array_equal(without.parts["train"].images[:, 0], GREY)
    assert "no header" in refused(f"csv[label=digit]:{bare}")
    two = write_csv(tmp_path / "two.csv", [[1, *row] for row in rows], ["class", "label", *PIXELS])
    assert "class" in refused(f"csv:{two}")
    assert load_set(f"csv[label=label]:{two}").digest == expected.digest


def test_an_index_taken_for_labels_is_said(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", rows_of(GREY, range(len(GREY))))
    assert "counts the rows" in load_set(f"csv:{path}").notes[0]


# What is white


def written(kind: str, folder: Path, values: np.ndarray) -> str:
    """The reference of the values in a file of that kind."""
    if kind == "npz":
        np.savez(folder / "x.npz", images=values, labels=LABELS)
        return f"npz:{folder}/x.npz"
    if kind == "csv":
        rows = rows_of(values, [f"c{label}" for label in LABELS])
        return f"csv:{write_csv(folder / 'x.csv', rows)}"
    for index, (value, label) in enumerate(zip(values, LABELS, strict=True)):
        save(folder / "x" / str(label) / f"{index:03d}.png", value)
    return f"folder:{folder}/x"


@pytest.mark.parametrize("kind", ["csv", "npz", "folder"])
@pytest.mark.parametrize(
    ("white", "brightest"), [(1, "1 of 255"), (15, "15 of 255"), (3, "3 of 255")]
)
def test_few_levels_are_refused_until_white_is_stated(kind, white, brightest, tmp_path) -> None:
    levels = np.rint(GREY / 255 * white).astype(np.uint8)
    reference = written(kind, tmp_path, levels)
    text = refused(reference)
    assert f"brightest value is {brightest}" in text and f"--scale {white}" in text
    first, colon, path = reference.partition(":")
    order = np.argsort(LABELS, kind="stable") if kind == "folder" else np.arange(len(LABELS))
    bright = load_set(f"{first}[scale={white}]{colon}{path}").parts["train"].images
    assert np.array_equal(bright[:, 0], (levels.astype(int) * (255 // white))[order])
    dark = load_set(f"{first}[scale=255]{colon}{path}").parts["train"].images
    assert np.array_equal(dark[:, 0], levels[order])


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_whole_numbers_and_fractions_are_alike_in_every_reader(kind: str, tmp_path: Path) -> None:
    expected = load_set(written(kind, tmp_path, GREY)).digest
    for values in (GREY / 255, (GREY / 255).astype(np.float32), GREY.astype(np.float64)):
        assert load_set(written(kind, tmp_path, values)).digest == expected
    zeros_and_ones = (GREY > 127).astype(np.float64)
    assert "1 of 255" in refused(written(kind, tmp_path, zeros_and_ones))
    # Rows of zeros and ones before the first fraction take their meaning from it.
    mixed = np.concatenate([np.repeat(zeros_and_ones[:1], 30, axis=0), GREY[30:] / 255])
    found = load_set(written(kind, tmp_path, mixed)).parts["train"].images[:, 0]
    assert np.array_equal(found[:30], np.repeat(zeros_and_ones[:1] * 255, 30, axis=0))
    assert np.array_equal(found[30:], GREY[30:])
    both = np.concatenate([GREY[:30] / 255, GREY[30:]])
    assert "0 to 255" in refused(written(kind, tmp_path, both))


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_values_that_are_no_levels_are_refused_with_what_helps(kind: str, tmp_path: Path) -> None:
    def text_of(values: np.ndarray) -> str:
        if kind == "csv":
            return refused(
                f"csv:{write_csv(tmp_path / 'x.csv', rows_of(values), ['label', *PIXELS])}"
            )
        np.savez(tmp_path / "x.npz", x=values)
        return refused(f"npz:{tmp_path}/x.npz")

    rough = text_of(np.round(GREY / 255, 2))
    assert "round them to 256 levels with --scale 1 or 255" in rough
    assert rough.count(str(tmp_path)) == 1, "the file is named once"
    below = text_of(GREY / 127.5 - 1)
    assert "(x + 1) / 2" in below or "'-1.0' is not a whole number from 0 to 255" in below


def test_fractions_and_zeros_and_ones_in_chunks_far_apart(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("bench.data.csv_file._CHUNK", 10)
    values = np.concatenate([(GREY[:20] > 127).astype(float), GREY[20:] / 255])
    found = load_set(written("csv", tmp_path, values)).parts["train"].images[:, 0]
    assert np.array_equal(found, np.concatenate([(GREY[:20] > 127) * 255, GREY[20:]]))
    both = np.concatenate([GREY[:20] / 255, GREY[20:]])
    assert "line 1, column" in refused(written("csv", tmp_path, both))


def test_ten_bits_in_a_file_of_sixteen(tmp_path: Path) -> None:
    for bits, folder in ((10, tmp_path / "ten"), (16, tmp_path / "sixteen")):
        for index, image in enumerate(GREY[:8]):
            values = np.rint(image / 255 * (2**bits - 1)).astype(np.uint16)
            save(folder / f"{index}.png", values)
    text = refused(f"folder:{tmp_path / 'ten'}")
    assert "brightest value is 1023 of 65535" in text and "--scale 1023" in text
    ten = load_set(f"folder[scale=1023]:{tmp_path / 'ten'}")
    sixteen = load_set(f"folder:{tmp_path / 'sixteen'}")
    assert np.array_equal(ten.parts["train"].images[:, 0], GREY[:8])
    assert ten.parts["train"].images.shape == sixteen.parts["train"].images.shape
    assert np.array_equal(sixteen.parts["train"].images[:, 0], GREY[:8])
    np.savez(tmp_path / "x.npz", x=np.rint(GREY / 255 * 1023).astype(np.uint16))
    assert "1023 of 65535" in refused(f"npz:{tmp_path}/x.npz")


def sixteen_bit_colour(image: np.ndarray) -> bytes:
    """A PNG file of 16-bit colours (H x W x 3), which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_ten_bits_in_colours_of_sixteen(tmp_path: Path) -> None:
    for bits in (10, 16):
        (tmp_path / f"{bits}").mkdir()
        for index, image in enumerate(COLOUR[:4]):
            values = np.rint(image / 255 * (2**bits - 1)).astype(np.uint16)
            (tmp_path / f"{bits}" / f"{index}.png").write_bytes(sixteen_bit_colour(values))
    assert "brightest value is 3 of 255" in refused(f"folder:{tmp_path / '10'}")
    assert "4 of 16-bit colour" in refused(f"folder[scale=3]:{tmp_path / '10'}")
    found = load_set(f"folder:{tmp_path / '16'}")
    assert np.array_equal(found.parts["train"].images, COLOUR[:4].transpose(0, 3, 1, 2))
    assert "4 had 16-bit colours" in found.notes[0]


# Labels


@pytest.mark.parametrize("kind", ["csv", "npz"])
@pytest.mark.parametrize("missing", ["nan", "NaN", "NULL", "<NA>", "None", "NA", "n/a"])
def test_a_label_that_is_not_a_number_is_no_class(kind: str, missing: str, tmp_path: Path) -> None:
    labels = [missing if index == 7 else str(label) for index, label in enumerate(LABELS)]
    if kind == "csv":
        text = refused(f"csv:{write_csv(tmp_path / 'x.csv', rows_of(GREY, labels))}")
    else:
        np.savez(tmp_path / "x.npz", x=GREY, y=np.array(labels))
        text = refused(f"npz:{tmp_path}/x.npz")
    assert "1 of 60 labels are missing" in text and "image 8" in text and missing in text


def test_words_may_say_none_but_not_that_a_label_is_missing(tmp_path: Path) -> None:
    """ "none" is a class of defects, for example; "NULL" and "N/A" are none in any table."""
    words = np.where(LABELS > 4, "scratch", "none")
    assert load_set(f"csv:{write_csv(tmp_path / 'x.csv', rows_of(GREY, words))}").class_names == (
        "none",
        "scratch",
    )
    np.savez(tmp_path / "none.npz", x=GREY, y=np.full(60, "None"))
    assert load_set(f"npz:{tmp_path}/none.npz").class_names == ("None",)
    for missing in ("NULL", "N/A", "<NA>"):
        labels = np.where(LABELS > 4, "scratch", missing)
        text = refused(f"csv:{write_csv(tmp_path / 'y.csv', rows_of(GREY, labels))}")
        assert f"labels are missing ({missing}" in text
    np.savez(tmp_path / "empty.npz", x=GREY, y=np.where(LABELS > 4, "scratch", ""))
    assert "labels are missing (empty" in refused(f"npz:{tmp_path}/empty.npz")


# Names of arrays


@pytest.mark.parametrize(
    "names",
    [
        ("X_train", "y_train", "X_test", "y_test"),
        ("images_train", "labels_train", "images_test", "labels_test"),
        ("train_x", "train_y", "test_x", "test_y"),
        ("trainX", "trainY", "testX", "testY"),
        ("train_images", "train_targets", "test_images", "test_targets"),
        ("data", "target", "test_data", "test_target"),
        ("train", "train_labels", "test", "test_labels"),
        ("images", "labels", "images_testing", "labels_testing"),
    ],
)
def test_usual_names_of_arrays_are_known_and_said(names, tmp_path: Path) -> None:
    arrays = dict(zip(names, (GREY[:40], LABELS[:40], GREY[40:], LABELS[40:]), strict=True))
    np.savez(tmp_path / "x.npz", **arrays, meta=np.arange(3))
    found = load_set(f"npz:{tmp_path}/x.npz")
    assert found.counts == {"train": 40, "test": 20} and len(found.class_names) == 10
    assert np.array_equal(found.parts["test"].labels, LABELS[40:])
    (note,) = found.notes
    assert all(name in note for name in names) and "ignored meta" in note


@pytest.mark.parametrize("word", ["dev", "val", "valid", "validation", "eval"])
def test_validation_images_are_known_by_every_usual_word(word: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **{"x_train": GREY[:40], f"x_{word}": GREY[40:]})
    assert load_set(f"npz:{tmp_path}/x.npz").counts == {"train": 40, "validation": 20}


def test_the_more_explicit_array_is_taken_and_the_other_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=GREY[:5], x_train=GREY, valid=np.ones(60), labels=LABELS)
    found = load_set(f"npz:{tmp_path}/x.npz")
    assert found.counts == {"train": 60}
    assert found.notes == (
        "used x_train as train images with labels labels; ignored images, valid",
    )


# Copies


def test_copies_between_parts_are_counted_reported_and_a_badge(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=GREY[:40], x_test=GREY[30:50], x_val=GREY[50:])
    info = describe_dataset(f"npz:{tmp_path}/x.npz")
    assert (info.between_parts, info.within_parts) == (10, 0)
    assert any("10 validation or test images are exact copies" in note for note in info.notes)
    splits = split_set(load_set(f"npz:{tmp_path}/x.npz"), SplitConfig())
    assert splits.copies == 10 and "10 validation or test" in data_notes(splits)[-1]
    apart = split_set(load_set("fashion_mnist_mini"), SplitConfig())
    assert apart.copies == 0 and data_notes(apart) == ()


def test_copies_within_a_part_are_between_parts_once_it_is_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.repeat(GREY, 2, axis=0))
    info = describe_dataset(f"npz:{tmp_path}/x.npz")
    assert (info.between_parts, info.within_parts) == (0, 60)
    assert "60 images are exact copies of another in the same part" in info.notes
    assert split_set(load_set(f"npz:{tmp_path}/x.npz"), SplitConfig(test=0.5)).copies > 20


def test_rows_of_data_with_copies_wear_a_badge(store: Store, tiny_protocol: str) -> None:
    images = SET.parts["train"].images[:900, 0]
    apart, copied = store.root / "apart.npz", store.root / "copied.npz"
    np.savez(apart, x_train=images[:600], x_test=images[600:])
    np.savez(copied, x_train=images[:600], x_test=images[500:])
    protocol = load_protocol(tiny_protocol)
    protocol = dataclasses.replace(protocol, split=SplitConfig(validation=0.1))
    for path in (apart, copied):
        request = Request(protocol, models=("pca",), dataset=f"npz:{path}")
        made = plan(request, store)
        execute(made.specs[0], store, ignore_epochs)
        assert ("100 validation or test" in " ".join(made.notes)) == (path == copied)
    badges = {
        cell.board.dataset.partition("-")[0]: cell.badges
        for board in publishing.look(store, Scope()).boards
        for cell in board.cells
    }
    assert badges["npz.copied"] == ("100 images in two parts",)
    assert badges["npz.apart"] == ()
    rows = {row.dataset: row for row in map(row_of, iter_records(store.records))}
    assert sorted(COPIED in row.facts for row in rows.values()) == [False, True]
    alone = [row for row in rows.values() if COPIED not in row.facts]
    assert COPIED not in ledger_columns(alone), "ledgers without copies stay as they are"
