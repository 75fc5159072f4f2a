"""How own images are read is part of their reference, and so of specs, records and commands."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from own_images import GREY, LABELS, photos, rows_of, save, write_csv
from PIL import Image
from typer.testing import CliRunner, Result

from bench.benchmark.plan import Request, plan
from bench.cli import app
from bench.core.commands import repeat_command
from bench.core.errors import BadInput
from bench.core.protocol import load_protocol
from bench.core.store import Store, from_hint, to_hint
from bench.data import dataset_name, dataset_reference, describe_dataset, load_set
from bench.data.reading import Own, Reading, own_images, read_like, with_options
from bench.registry.naming import located


def bench(*words: str) -> Result:
    return CliRunner().invoke(app, words)


READINGS = [
    ("folder[size=28x28]:photos", "folder", Reading(size=(28, 28)), "photos"),
    ("folder[size=28]:photos", "folder", Reading(size=(28, 28)), "photos"),
    ("csv[label=last,scale=1]:d.csv", "csv", Reading(scale=1, label="last"), "d.csv"),
    ("csv[label=a%3A%2C%5D b]:d.csv", "csv", Reading(label="a:,] b"), "d.csv"),
    ("npz[scale=255]:a:b[c]:d.npz", "npz", Reading(scale=255), "a:b[c]:d.npz"),
    ("npz:x[size=3]:y.npz", "npz", Reading(), "x[size=3]:y.npz"),
    ("csv[]:d.csv", "csv", Reading(), "d.csv"),
]


@pytest.mark.parametrize(("text", "kind", "reading", "path"), READINGS)
def test_a_reference_is_read_and_written(text, kind, reading, path) -> None:
    own = own_images(text)
    assert own == Own(kind, Path(path), reading)
    assert own_images(str(own)) == own, "what is written is read as the same"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("folder[size=0]:p", ["'0'", "28x32"]),
        ("folder[size=28x]:p", ["28x", "height x width"]),
        ("folder[size=-3]:p", ["-3"]),
        ("folder[sise=28]:p", ["sise=28", "no option"]),
        ("folder[size=28,size=32]:p", ["at most once"]),
        ("folder[size=28]:", ["path is missing"]),
        ("folder[label=last]:p", ["--label-column", "csv:PATH only"]),
        ("csv[scale=0]:p", ["--scale", "white"]),
        ("csv[scale=1e9]:p", ["--scale", "1e9"]),
    ],
)
def test_an_impossible_reading_is_one_line(text: str, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        dataset_name(text)
    assert "\n" not in str(caught.value)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_options_add_to_the_reference_and_never_contradict_it() -> None:
    assert with_options("folder:p") == "folder:p"
    assert with_options("folder:p", size="28") == "folder[size=28x28]:p"
    assert with_options("csv[scale=1]:d", label="last") == "csv[scale=1,label=last]:d"
    assert with_options("folder[size=28x28]:p", size="28") == "folder[size=28x28]:p"
    for dataset, options, words in (
        ("fashion_mnist_mini", {"size": "28"}, ["--image-size", "fashion_mnist_mini"]),
        ("", {"scale": "1"}, ["--scale", "--dataset"]),
        ("folder[size=32x32]:p", {"size": "28"}, ["--image-size", "32x32"]),
        ("npz:x.npz", {"label": "last"}, ["--label-column", "csv:PATH only"]),
    ):
        with pytest.raises(BadInput) as caught:
            with_options(dataset, **options)
        assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_without_options_everything_is_as_before(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", [(28, 28)])
    assert dataset_reference(f"folder:{folder}") == f"folder:{folder}"
    info = describe_dataset(f"folder:{folder}")
    assert info.label == f"folder.photos-{info.digest[:6]}" and info.notes == ()
    assert info.source == "folder.photos: own images, read from photos"


def test_the_size_is_part_of_the_datas_identity(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", [(40, 40), (56, 28)])
    small, large = (describe_dataset(f"folder[size={side}]:{folder}") for side in (28, 32))
    assert small.image_shape == (1, 28, 28) and large.image_shape == (1, 32, 32)
    assert small.label != large.label and small.digest != large.digest
    assert "28x28 pixels (Pillow, bicubic, antialiased" in small.source
    assert "12 images were resized to 28x28, 6 of them stretched" in small.notes
    # Antialiased: a fine chequer pattern becomes grey, where taking every other pixel would not.
    chequer = ((np.indices((56, 56)).sum(axis=0) % 2) * 255).astype(np.uint8)
    save(tmp_path / "fine" / "a.png", chequer)
    (image,) = load_set(f"folder[size=28]:{tmp_path / 'fine'}").parts["train"].images[:, 0]
    assert np.abs(image[4:-4, 4:-4].astype(int) - 127).max() < 28


@pytest.mark.parametrize("kind", ["folder", "npz", "csv"])
def test_every_format_resizes_alike_and_leaves_the_asked_size_untouched(kind, tmp_path) -> None:
    for index, image in enumerate(GREY[:6]):
        save(tmp_path / "x" / f"{index}.png", image)
    np.savez(tmp_path / "x.npz", x=GREY[:6])
    write_csv(tmp_path / "x.csv", rows_of(GREY[:6], ["all"] * 6))
    path = tmp_path / {"folder": "x", "npz": "x.npz", "csv": "x.csv"}[kind]
    plain, same, small = (
        load_set(f"{kind}{options}:{path}") for options in ("", "[size=28]", "[size=20x16]")
    )
    assert same.digest == plain.digest and not [n for n in same.notes if "resized" in n]
    expected = [
        np.asarray(Image.fromarray(image).resize((16, 20), Image.Resampling.BICUBIC))
        for image in GREY[:6]
    ]
    assert np.array_equal(small.parts["train"].images[:, 0], np.array(expected))


def test_unequal_sizes_are_refused_with_the_sizes_and_the_option(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", [(40, 40), (56, 28), (40, 40), (64, 32)])
    with pytest.raises(BadInput) as caught:
        load_set(f"folder:{folder}")
    for words in ("9 of another size", "56x28", "6 of 40x40", "3 of 64x32", "--image-size 28"):
        assert words in str(caught.value), str(caught.value)


def test_a_size_too_large_for_memory_says_its_need(tmp_path: Path, monkeypatch) -> None:
    folder = photos(tmp_path / "photos", [(40, 40)])
    np.savez(tmp_path / "x.npz", x=GREY)
    write_csv(tmp_path / "x.csv", rows_of())
    free = type("Memory", (), {"available": 1 << 30})
    monkeypatch.setattr("bench.data.limits.psutil.virtual_memory", lambda: free)
    for given, need in (
        (f"folder[size=9000]:{folder}", "927.0 MiB"),
        (f"npz[size=9000]:{tmp_path}/x.npz", "4.5 GiB"),
        (f"csv[size=9000]:{tmp_path}/x.csv", "4.5 GiB"),
    ):
        with pytest.raises(BadInput) as caught:
            load_set(given)
        assert f"needs {need} of memory" in str(caught.value), str(caught.value)


def test_the_reading_travels_with_hints_specs_and_the_command_that_repeats(
    store: Store, tiny_protocol: str
) -> None:
    photos(store.root / "photos", [(40, 40), (56, 28)], 60)
    Path(tiny_protocol).write_text(
        Path(tiny_protocol).read_text().replace("validation = 100\ntest = 7000", "seed = 1")
    )
    request = Request(
        load_protocol(tiny_protocol), models=("pca",), dataset="folder[size=28x28]:photos"
    )
    with contextlib.chdir(store.root):
        made = plan(request, store)
    spec = made.specs[0]
    assert spec.dataset == f"folder[size=28x28]:{store.root}/photos"
    hint = to_hint(spec.dataset, store.root)
    assert hint == "folder[size=28x28]:./photos"
    assert from_hint(hint, Path("/elsewhere")) == "folder[size=28x28]:/elsewhere/photos"
    assert f"'folder[size=28x28]:{store.root}/photos'" in repeat_command(spec)
    assert made.notes == ("60 images were resized to 28x28, 30 of them stretched",)
    moved = (store.root / "photos").rename(store.root / "moved")
    assert located(store, spec, f"folder:{moved}") == f"folder[size=28x28]:{moved}"
    assert load_set(located(store, spec, f"folder:{moved}")).digest == spec.data_digest


def test_a_given_place_is_read_as_recorded_unless_it_says_how() -> None:
    assert read_like("folder:/b", "folder[size=8x8]:/a") == "folder[size=8x8]:/b"
    assert read_like("folder[size=9x9]:/b", "folder[size=8x8]:/a") == "folder[size=9x9]:/b"
    assert read_like("npz:/b", "csv[scale=1,label=last]:/a") == "npz[scale=1]:/b"
    assert read_like("folder:/b", "fashion_mnist_mini") == "folder:/b"


def test_the_command_line_reads_and_says_how(store: Store, tiny_protocol: str) -> None:
    folder = photos(store.root / "photos", [(40, 40), (56, 28)], 60)
    checked = bench("data", "check", f"folder:{folder}", "--image-size", "28x32", "--json")
    (row,) = json.loads(checked.stdout)
    assert (
        row["image_shape"] == [1, 28, 32] and "60 images were resized to 28x32" in row["notes"][0]
    )
    looked = bench("leaderboard", "--dataset", f"folder:{folder}", "--image-size", "28")
    assert f"bench run --dataset 'folder[size=28x28]:{folder}'" in looked.output
    command = ["run", "-p", tiny_protocol, "-m", "pca", "--dry-run"]
    for words in (["--dataset", "mnist_mini", "--image-size", "28"], ["--scale", "1"]):
        refused = bench(*command, *words)
        assert refused.exit_code == 2 and "for your own images" in refused.output, refused.output


def test_the_label_column_and_the_scale_are_given(tmp_path: Path) -> None:
    kinds = np.where(LABELS > 4, "upper", "lower")
    rows = [[*row[1:], kind] for row, kind in zip(rows_of(GREY // 255), kinds, strict=True)]
    path = write_csv(tmp_path / "x.csv", rows)
    with pytest.raises(BadInput, match=r"1 of 255.*--scale 1"):
        load_set(f"csv[label=last]:{path}")
    found = load_set(f"csv[label=last,scale=1]:{path}")
    assert found.class_names == ("lower", "upper")
    assert np.array_equal(found.parts["train"].images[:, 0], GREY // 255 * 255)
