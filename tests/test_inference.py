"""Trained models on a person's own images, through the commands: the committed champions."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny import TINY
from typer.testing import CliRunner

import bench as library
from bench.cli import app
from bench.core.errors import BadInput
from bench.core.store import Store, shipped
from bench.data import load_set
from bench.inference import applying, inputs
from bench.inference.reference import Reference, reference_of
from bench.registry.champions import champions
from bench.registry.loading import load

MINI = "fashion_mnist_mini"
COUNT = 7


def bench(*arguments):
    """Run a command in this process; (exit code, stdout, stderr)."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def images():
    return load_set(MINI).parts["test"].images[:COUNT]


@pytest.fixture
def photos(tmp_path, images):
    """A folder of grey PNGs, their names in another order than their making."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{(number * 3) % COUNT}.png")
    return folder


@pytest.fixture
def in_order(images):
    """The same images as the folder's files are sorted."""
    return images[np.argsort([(number * 3) % COUNT for number in range(COUNT)])]


pytestmark = pytest.mark.usefixtures("store")


def test_codes_of_a_folder_keep_the_names_of_its_files(photos, in_order, tmp_path):
    npz, table = tmp_path / "codes.npz", tmp_path / "codes.csv"
    assert bench("encode", photos, "--out", npz)[0] == 0
    assert bench("encode", photos, "--out", table)[0] == 0
    with np.load(npz, allow_pickle=False) as found:
        assert found["names"].tolist() == [f"{number}.png" for number in range(COUNT)]
        codes = found["codes"]
    assert codes == pytest.approx(library.load().encode(in_order), abs=1e-6)
    rows = list(csv.DictReader(table.open()))
    assert [row["name"] for row in rows] == [f"{number}.png" for number in range(COUNT)]
    assert float(rows[2]["z1"]) == pytest.approx(codes[2, 1], rel=1e-6)


def test_the_default_is_the_champion_of_quick_at_the_largest_size():
    cards = champions(shipped().registry)
    sizes = {
        int(card.track_name[1:]): track
        for track, card in cards.items()
        if card.spec.protocol == "quick" and card.spec.dataset_label == MINI
    }
    for name in ("", "quick"):
        assert load(name).card.track == sizes[max(sizes)]
    assert load(f"quick.d{min(sizes)}").card.track == sizes[min(sizes)]
    card = cards[sizes[min(sizes)]]
    assert load(f"{card.spec.model}:{card.spec.latent_dim}").card == card


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vaee:8", "unknown model 'vaee'"),
        ("vae:9", "bench run --model vae --latent-dim 9"),
        ("vae:large", "no latent size"),
        ("cnn_classifier:10", "is a classifier"),
        ("classifier_quick.classes10", "classifier"),
        ("nothing.d8", "unknown track"),
    ],
)
def test_a_model_that_is_not_here_is_one_line(name, said, photos, tmp_path):
    code, out, err = bench("encode", photos, "--from", name, "--out", tmp_path / "a.npz")
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_runs_of_this_workspace_come_first(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("BENCH_TRACKING", "off")
    (tmp_path / "tiny.toml").write_text(TINY)
    arguments = ("run", "--protocol", tmp_path / "tiny.toml", "--model", "pca", "--workers", 1)
    assert bench(*arguments)[0] == 0
    (key,) = (path.name for path in Store(tmp_path).records.iterdir())
    by_name, by_key = load("pca:4"), load(key[:8])
    assert by_name.card is by_key.card is None
    assert by_name.code_size == 4
    assert key in by_name.title
    # Its own test images are the measure of its errors.
    test = reference_of(Store(tmp_path), by_key)
    assert test is not None
    code, _, err = bench("anomaly", photos, "--from", key)
    assert code == 0, err
    assert f"{len(test.errors):,} errors" in err


def test_another_size_is_refused_or_resized(tmp_path, images):
    folder = tmp_path / "large"
    folder.mkdir()
    for number, image in enumerate(images[:2]):
        Image.fromarray(image[0]).resize((30, 40)).convert("RGB").save(folder / f"{number}.png")
    code, _, err = bench("encode", folder, "--out", tmp_path / "a.npz")
    assert code == 2
    assert "40x30" in err
    assert "28x28" in err
    assert "--resize" in err
    assert not (tmp_path / "a.npz").exists()
    code, _, err = bench("encode", folder, "--out", tmp_path / "a.npz", "--resize")
    assert code == 0
    assert "2 images were resized to 28x28" in err
    Image.fromarray(images[2, 0]).resize((20, 20)).convert("RGB").save(folder / "2.png")
    code, _, err = bench("encode", folder, "--out", tmp_path / "b.npz")
    assert code == 2
    assert "--resize" in err
    assert "--image-size" not in err


def test_colours_are_refused_or_turned_into_grey(tmp_path):
    folder = tmp_path / "colours"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    code, _, err = bench("encode", folder, "--out", tmp_path / "a.npz")
    assert code == 2
    assert "RGB" in err
    found = inputs.read_images(str(folder), (1, 28, 28), resize=True)
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=int)
    assert np.abs(found.pixels[0, 0].astype(int) - grey).max() <= 1
    assert any("grey" in note for note in found.notes)
    assert inputs.read_images(str(folder), (3, 28, 28), resize=False).pixels.shape == (1, 3, 28, 28)


def test_npz_csv_and_folder_give_the_same_codes(tmp_path, images):
    np.savez(tmp_path / "a.npz", images=images)
    lines = ["label," + ",".join(f"pixel{i}" for i in range(784))]
    lines += [f"{n % 2}," + ",".join(map(str, image.ravel())) for n, image in enumerate(images)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    codes = []
    for name in ("a.npz", "a.csv", f"npz:{tmp_path / 'a.npz'}"):
        given = name if ":" in name else tmp_path / name
        assert bench("encode", given, "--out", tmp_path / "codes.npz")[0] == 0
        with np.load(tmp_path / "codes.npz") as found:
            codes.append(found["codes"])
            assert found["names"].tolist() == [str(number) for number in range(COUNT)]
    assert np.array_equal(codes[0], codes[1])
    assert np.array_equal(codes[0], codes[2])


def test_reconstructions_and_their_errors(photos, in_order, tmp_path):
    for name in ("r.npz", "r.csv", "r.png"):
        code, _, err = bench("reconstruct", photos, "--out", tmp_path / name)
        assert code == 0, err
    with np.load(tmp_path / "r.npz", allow_pickle=False) as found:
        again, errors = found["reconstructions"], found["errors"]
    x = in_order / np.float32(255)
    assert errors == pytest.approx(((again - x) ** 2).reshape(COUNT, -1).mean(axis=1), rel=1e-5)
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    pixels = [int(rows[1][f"pixel{i}"]) for i in range(784)]
    assert pixels == np.rint(again[1].ravel() * 255).astype(int).tolist()
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.width > 500


def test_scores_of_the_models_own_test_images_are_uniform_percentiles(tmp_path):
    """The score is the committed one of each image, and its percentile its place among them."""
    np.savez(tmp_path / "test.npz", images=load_set(MINI).parts["test"].images)
    out = tmp_path / "scores.npz"
    code, shown, err = bench("anomaly", tmp_path / "test.npz", "--out", out)
    assert code == 0, err
    assert "1,000 errors" in err
    with np.load(out, allow_pickle=False) as found:
        scores, places = found["scores"], found["percentiles"]
    known = reference_of(shipped(), load())
    assert known is not None
    assert scores == pytest.approx(known.errors, rel=2e-3)
    assert places.mean() == pytest.approx(50, abs=0.5)
    assert np.corrcoef(np.argsort(np.argsort(scores)), places)[0, 1] > 0.999
    first = shown.splitlines()[4]
    assert str(scores.argmax()) in first


def test_unlike_images_are_the_highest(photos, tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "noise.png")
    assert bench("anomaly", photos, "--out", tmp_path / "a.csv")[0] == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    worst = max(rows, key=lambda row: float(row["score"]))
    assert (worst["name"], float(worst["percentile"])) == ("noise.png", 100.0)


def test_the_picture_shows_the_highest_errors_first(in_order, monkeypatch):
    drawn = []
    monkeypatch.setattr(applying, "_sheet", lambda *given: drawn.append(given) or b"")
    found = inputs.Images(in_order, tuple(map(str, range(COUNT))), ())
    result = applying.anomaly(load(), found, None, lambda *_: None)
    assert np.isnan(result.arrays["percentiles"]).all()
    result.picture()
    names = [int(name) for name, _ in drawn[0][-1]]
    assert names == np.argsort(-result.arrays["scores"]).tolist()


def test_equal_errors_count_half():
    reference = Reference(np.array([0.1, 0.2, 0.2, 0.3], np.float32), "four images")
    places = reference.place(np.array([0.0, 0.2, 0.25, 1.0], np.float32))
    assert places.tolist() == [0.0, 50.0, 75.0, 100.0]


def test_interpolation_begins_and_ends_at_reconstructions(photos, in_order, tmp_path):
    out = tmp_path / "i.npz"
    code, _, err = bench("interpolate", photos, "--out", out, "--steps", 5)
    assert code == 0
    assert "6.png has no partner" in err
    with np.load(out, allow_pickle=False) as found:
        path, names = found["images"], found["names"]
    assert path.shape == (3, 5, 1, 28, 28)
    assert names.tolist() == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png", "5.png"]]
    model = load()
    again = model.reconstruct(in_order)
    assert path[:, 0] == pytest.approx(again[0:6:2], abs=1e-5)
    assert path[:, -1] == pytest.approx(again[1:6:2], abs=1e-5)
    codes = model.encode(in_order)
    middle = model.decode((codes[0:1] + codes[1:2]) / 2)
    assert path[0, 2] == pytest.approx(middle[0], abs=1e-5)
    assert bench("interpolate", photos, "--out", tmp_path / "i.png")[0] == 0


def test_samples_say_their_sampler_and_repeat(tmp_path):
    outs = [tmp_path / name for name in ("a.npz", "b.npz", "c.npz")]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        code, _, err = bench("sample", "--out", out, "-n", 5, "--seed", seed)
        assert code == 0
        assert "Gaussian fitted" in err
    drawn = [np.load(out)["images"] for out in outs]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert drawn[0].shape == (5, 1, 28, 28)
    assert 0 <= drawn[0].min() < drawn[0].max() <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("encode", "{photos}", "--out", "{tmp}/a.png"), ".npz or .csv"),
        (("reconstruct", "{photos}", "--out", "{tmp}/no/a.npz"), "a folder that exists"),
        (("encode", "{tmp}/none", "--out", "{tmp}/a.npz"), "no such file or folder"),
        (("encode", "{photos}/0.png", "--out", "{tmp}/a.npz"), "a single image goes into a folder"),
        (("reconstruct", "{photos}", "--out", "{photos}/0.png"), "in the folder of the images"),
        (("anomaly", "{photos}", "--out", "{photos}/new.png"), "in the folder of the images"),
        (("export",), "--onnx"),
        (("export", "--onnx", "--out", "{tmp}/file"), "no folder"),
        (("interpolate", "{tmp}/one", "--out", "{tmp}/a.npz"), "two images or more"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, said, photos, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(photos / "0.png", one)
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    code, out, err = bench(*(word.format(photos=photos, tmp=tmp_path) for word in arguments))
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_of_images_is_not_replaced_by_what_is_made_of_it(images, tmp_path):
    given = tmp_path / "mine.npz"
    np.savez(given, x=images)
    before = given.read_bytes()
    code, _, err = bench("encode", given, "--out", tmp_path / "." / "mine.npz")
    assert code == 2 and "is the file of the images" in err
    assert given.read_bytes() == before
    code, _, err = bench("encode", given, "--out", tmp_path / "codes.npz")
    assert code == 0 and "used x" not in err  # the only array: nothing was chosen


def test_ctrl_c_leaves_the_earlier_file(photos, tmp_path, monkeypatch):
    out = tmp_path / "a.npz"
    out.write_bytes(b"earlier")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(applying, "_by_batches", stop)
    code, _, err = bench("encode", photos, "--out", out)
    assert code == 130
    assert "nothing was written" in err
    assert out.read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".a")] == []


def test_batches_change_nothing(in_order, monkeypatch):
    names = tuple(map(str, range(COUNT)))
    found = inputs.Images(in_order, names, ())
    told = []
    whole = applying.encode(load(), found, lambda *_: None)
    monkeypatch.setattr(applying, "AT_ONCE", 3)
    parts = applying.encode(load(), found, lambda *done: told.append(done))
    assert parts.arrays["codes"] == pytest.approx(whole.arrays["codes"], abs=1e-4)
    assert told == [(3, COUNT), (6, COUNT), (COUNT, COUNT)]


def test_onnx_files_give_what_torch_gives(images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "not" / "there"
    code, _, err = bench("export", "--onnx", "--out", folder)
    assert code == 0, err
    model = load()
    stem = f"{model.spec.model}-d{model.code_size}"
    encoder, decoder = (folder / f"{stem}-{part}.onnx" for part in ("encoder", "decoder"))
    codes, again = model.encode(images), model.reconstruct(images)
    for path, given, values, wanted in (
        (encoder, "images", images / np.float32(255), codes),
        (decoder, "codes", codes, again),
    ):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for count in (1, COUNT):
            (found,) = session.run(None, {given: values[:count]})
            assert np.abs(found - wanted[:count]).max() <= 1e-5
    about = json.loads(onnx.load(encoder).doc_string)
    assert about["image_shape"] == [1, 28, 28]


@pytest.mark.parametrize("variant", ["pca", "vq_vae"])
def test_variants_that_count_their_batch_are_exported_with_a_free_batch(variant, tmp_path):
    pytest.importorskip("onnxruntime")
    from bench.inference.export import export_onnx
    from bench.registry.loading import LoadedModel

    network = library.build(variant, latent_dim=None if variant == "vq_vae" else 8).eval()
    spec = load().spec
    found = export_onnx(LoadedModel(network, spec, variant), tmp_path)
    assert max(found.code_error, found.image_error) <= 1e-5


def test_without_the_extra_export_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    code, _, err = bench("export", "--onnx", "--out", tmp_path)
    assert code == 2
    assert "autoencoder-bench[onnx]" in err


def test_a_wrong_file_is_never_written(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    from bench.inference import export

    monkeypatch.setattr(export, "_distance", lambda *_: 1e-4)
    monkeypatch.setattr(export, "_exported", lambda *_: b"")
    code, _, err = bench("export", "--onnx", "--out", tmp_path)
    assert code == 3
    assert "nothing was written" in err
    assert not list(tmp_path.glob("*.onnx"))


def test_the_library_names_what_it_refuses():
    with pytest.raises(BadInput, match="from 2 steps"):
        x = np.zeros((1, 28, 28), np.uint8)
        load().interpolate(x, x, 1)
