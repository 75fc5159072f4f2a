"""`bench data`: from a person's files, from a (local) server, and verified in the cache."""

import contextlib
import errno
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torchvision
from typer.testing import CliRunner

from bench.cli import data as cli
from bench.core.errors import BadInput, CheckFailed
from bench.core.plugins import Table
from bench.core.protocol import SplitConfig
from bench.data import DATASETS, LabelledImages, describe_dataset, load_set, load_splits
from bench.data.fetch import fetch
from bench.data.idx import encode_part
from bench.data.survey import check_datasets, list_datasets
from bench.data.table import Dataset

MINI = load_set("fashion_mnist_mini")
SIZES = {"train": 600, "test": 300}
PARTS = {
    part: LabelledImages(images[:size], labels[:size])
    for part, size in SIZES.items()
    for images, labels in [MINI.parts[part]]
}
FILES = {
    name: data
    for part, content in PARTS.items()
    for name, data in encode_part(part, content).items()
}
ROW = Dataset(
    id="few_clothes",
    title="some images of fashion_mnist_mini, as a set to fetch",
    class_names=MINI.class_names,
    image_shape=(1, 28, 28),
    counts=MappingProxyType(SIZES),
    licence="MIT",
    source="https://example.org/clothes",
    sha256=MappingProxyType({n: hashlib.sha256(data).hexdigest() for n, data in FILES.items()}),
    torchvision="FashionMNIST",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and a table with one more row."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "cache"))
    rows = Table({**DATASETS.shipped, ROW.id: ROW}, "bench.datasets", Dataset)
    for module in ("table", "loading", "known", "fetch", "survey"):
        monkeypatch.setattr(f"bench.data.{module}.DATASETS", rows)
    return tmp_path / "cache"


def write_files(folder: Path, pack: bool = True, **changed: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in FILES.items():
        content = changed.get(name.split("-idx")[0].replace("-", "_"), data)
        (folder / f"{name}{'.gz' * pack}").write_bytes(
            gzip.compress(content, 1) if pack else content
        )
    return folder


def as_idx(root: Path) -> Path:
    return write_files(root, pack=False)


def as_packed_idx(root: Path) -> Path:
    return write_files(root)


def as_torchvision(root: Path) -> Path:
    write_files(root / "FashionMNIST" / "raw", pack=False)
    return root


def with_dots(root: Path) -> Path:
    for path in list(write_files(root).iterdir()):
        path.rename(root / path.name.replace("-idx", ".idx"))
    return root


def as_csv_pair(root: Path) -> Path:
    header = ",".join(["label", *(f"pixel{i}" for i in range(784))])
    for part in ("train", "test"):
        images, labels = PARTS[part]
        table = np.column_stack([labels, images.reshape(len(images), -1)])
        np.savetxt(root / f"fashion-mnist_{part}.csv", table, "%d", ",", header=header, comments="")
    return root


def as_keras(root: Path) -> Path:
    train, test = PARTS["train"], PARTS["test"]
    arrays = {"x_train": train.images[:, 0], "x_test": test.images[:, 0]}
    np.savez(root / "mnist.npz", **arrays, y_train=train.labels, y_test=test.labels)
    return root / "mnist.npz"


@pytest.mark.parametrize(
    "write", [as_idx, as_packed_idx, as_torchvision, with_dots, as_csv_pair, as_keras]
)
def test_from_files_of_every_kind(write, tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "given"
    root.mkdir()
    place = fetch(ROW.id, write(root))
    assert place == cache / ROW.id and [p.name for p in cache.iterdir()] == [ROW.id]
    assert {p.name: p.read_bytes() for p in place.iterdir()} == FILES
    splits = load_splits(ROW.id, SplitConfig())
    assert np.array_equal(splits.test.images, PARTS["test"].images)
    assert fetch(ROW.id, write(root)) == place, "a second time replaces it"
    assert [p.name for p in cache.iterdir()] == [ROW.id]


def other(kind: str) -> bytes:
    """A file of the right form with one value changed."""
    data = bytearray(FILES[f"t10k-{kind}-idx{3 if kind == 'images' else 1}-ubyte"])
    data[200] = (data[200] + 1) % 10
    return bytes(data)


REFUSED = {
    "nothing": (lambda root: root, ["holds no files of few_clothes", "IDX"]),
    "nowhere": (lambda root: root / "nowhere", ["no such file or folder"]),
    "a pixel changed": (
        lambda root: write_files(root, t10k_images=other("images")),
        ["t10k-images-idx3-ubyte.gz", "not the official test images", "SHA-256"],
    ),
    "a label changed": (
        lambda root: write_files(root, t10k_labels=other("labels")),
        ["t10k-labels-idx1-ubyte.gz", "not the official test labels"],
    ),
    "swapped parts": (
        lambda root: write_files(root, train_images=FILES["t10k-images-idx3-ubyte"]),
        ["train-images", "600 labels", "300 images"],
    ),
    "one CSV": (
        lambda root: (as_csv_pair(root) / "fashion-mnist_test.csv").rename(root / "x.csv").parent,
        ["'test' in its name"],
    ),
    "another set": (
        lambda root: next(iter(write_files(root).glob("*t10k-labels*"))).unlink() or root,
        ["incomplete", "t10k-labels-idx1-ubyte"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_files_leave_the_cache_as_it_was(case: str, tmp_path: Path, cache: Path) -> None:
    make, words = REFUSED[case]
    root = tmp_path / "given"
    root.mkdir()
    fetch(ROW.id, write_files(tmp_path / "good"))
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    with pytest.raises(BadInput) as caught:
        fetch(ROW.id, make(root))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()} == before
    assert [p.name for p in cache.iterdir()] == [ROW.id]


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a local HTTP server that torchvision takes for its mirror."""
    folder = write_files(tmp_path / "served")
    sums = [
        (f"{name}.gz", hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest())
        for name in FILES
    ]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        kind = torchvision.datasets.FashionMNIST
        monkeypatch.setattr(kind, "mirrors", [f"http://127.0.0.1:{http.server_port}/"])
        monkeypatch.setattr(kind, "resources", sums)
        yield folder
        http.shutdown()


def test_download(server: Path, cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert fetch(ROW.id) == cache / ROW.id
    assert [p.name for p in cache.iterdir()] == [ROW.id]
    assert describe_dataset(ROW.id).counts == ROW.counts
    assert capfd.readouterr().out == "", "progress belongs on stderr"


def missing(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()


def truncated(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1000])


def a_login_page(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte.gz").write_text("<html>Please log in</html>")


@pytest.mark.parametrize("harm", [missing, truncated, a_login_page])
def test_a_failed_download_is_one_line_and_leaves_nothing(harm, server: Path, cache: Path) -> None:
    harm(server)
    with pytest.raises(BadInput) as caught:
        fetch(ROW.id)
    text = str(caught.value)
    assert text.startswith("cannot download few_clothes: ") and "--from DIR" in text
    assert "\n" not in text and list(cache.iterdir()) == []


def test_a_download_with_right_sums_and_wrong_content_is_refused(
    server: Path, cache: Path, monkeypatch
) -> None:
    name = "t10k-images-idx3-ubyte.gz"
    (server / name).write_bytes(gzip.compress(other("images")))
    sums = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in server.iterdir()]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", sums)
    with pytest.raises(BadInput, match="not the official test images"):
        fetch(ROW.id)
    assert list(cache.iterdir()) == []


def test_nobody_answers(monkeypatch, cache: Path) -> None:
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(BadInput, match=r"cannot download few_clothes.*refused.*check the network"):
        fetch(ROW.id)
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_one_line_and_keeps_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_files(tmp_path / "good")
    fetch(ROW.id, source)
    before = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for call, arguments, needed in (
        ("os.fsync", (ROW.id, source), rf"{28 * 28 * 600 + 16:,} bytes needed, "),
        ("torchvision.datasets.FashionMNIST", (ROW.id,), ""),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(call, full)
            with pytest.raises(BadInput) as caught:
                fetch(*arguments)
        said = str(caught.value)
        assert said.startswith(f"cannot write the data cache at {cache}"), said
        assert f": No space left on device; {needed}" in said
        assert said.endswith(f" free; free space on {cache}, or set BENCH_DATA")
    assert before == {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_a_cache_that_is_a_file(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="cannot write the data cache"):
        fetch(ROW.id, write_files(tmp_path / "good"))
    assert (tmp_path / "file").read_text() == "x"


def test_what_is_bundled_or_unknown_cannot_be_fetched() -> None:
    with pytest.raises(BadInput, match="comes with the package"):
        fetch("mnist_mini")
    with pytest.raises(BadInput, match="did you mean few_clothes"):
        fetch("few_clohtes")


def test_a_torchvision_root_serves_as_cache(cache: Path) -> None:
    as_torchvision(cache)
    found = {row["id"]: row for row in list_datasets()}
    assert found[ROW.id]["where"] == f"found at {cache / 'FashionMNIST' / 'raw'}"
    assert found[ROW.id]["here"] and found["mnist_mini"]["where"] == "bundled"
    assert found["kmnist"]["where"] == "not here: bench data fetch kmnist"
    write_files(cache)  # loose files in the cache folder could be those of any set
    assert not {row["id"]: row for row in list_datasets()}["kmnist"]["here"]


def test_check_names_every_set_that_has_changed(tmp_path: Path, cache: Path) -> None:
    fetch(ROW.id, write_files(tmp_path / "good"))
    assert {row["label"] for row in check_datasets([ROW.id, "mnist_mini"])} == {
        ROW.id,
        "mnist_mini",
    }
    place = cache / ROW.id / "t10k-labels-idx1-ubyte"
    place.write_bytes(other("labels"))
    with pytest.raises(CheckFailed, match=r"t10k-labels-idx1-ubyte: not the official test labels"):
        check_datasets([])
    place.unlink()
    with pytest.raises(CheckFailed, match="incomplete; missing"):
        check_datasets([ROW.id])
    with pytest.raises(BadInput, match="kmnist is not here"):
        check_datasets(["kmnist"])


def test_check_describes_a_persons_own_images(tmp_path: Path) -> None:
    row = check_datasets([f"npz:{as_keras(tmp_path)}"])[0]
    assert row["label"] == f"npz.mnist-{row['digest'][:6]}" and row["counts"] == SIZES
    with pytest.raises(BadInput, match=r"x\.csv: no such file"):
        check_datasets([f"csv:{tmp_path}/x.csv"])


def test_commands_print_results_on_stdout_and_progress_on_stderr(tmp_path: Path) -> None:
    run = partial(CliRunner().invoke, cli.app, catch_exceptions=False)
    fetched = run(["fetch", ROW.id, "--from", str(write_files(tmp_path / "good"))])
    assert fetched.exit_code == 0 and fetched.stdout == "" and "complete" in fetched.stderr
    rows = json.loads(run(["list", "--json"]).stdout)
    assert {row["id"]: row["here"] for row in rows}[ROW.id] is True
    checked = json.loads(run(["check", "--json", ROW.id]).stdout)
    assert checked[0]["digest"] == describe_dataset(ROW.id).digest
    assert ROW.id in run(["list"]).stdout and "SHA-256" in run(["check", ROW.id]).stdout
    with contextlib.suppress(BadInput):
        run(["check", "kmnist"])
        pytest.fail("a set that is not here cannot be checked")
