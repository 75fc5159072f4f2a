"""The Python API: the README's example, a user's own loop, and what goes wrong in words."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.benchmark.running import Stopping
from bench.core.errors import BadInput, Stopped
from bench.core.protocol import SplitConfig, load_protocol
from bench.core.store import Store
from bench.data import load_splits
from bench.execution import Event, Finished
from bench.records.files import iter_records
from bench.registry.loading import LoadedModel, load_champion

ROOT = Path(__file__).parent.parent
TRACK = "fashion_mnist_mini.quick.d32"


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed registry, which nothing here writes to."""
    monkeypatch.setenv("BENCH_HOME", str(ROOT))


@pytest.fixture
def champion(committed: None) -> LoadedModel:
    return bench.load(TRACK)


def test_the_names_are_those_of_the_documentation() -> None:
    assert set(dir(bench)) == {*bench.__all__, "__version__"}
    for name in bench.__all__:
        assert f"\n| {name} " in str(bench.__doc__)
        assert getattr(bench, name).__doc__
    rooms = {path.name for path in (ROOT / "bench").iterdir() if path.is_dir()}
    assert not rooms & set(bench.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = bench.nothing


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, bench; print({'torch', 'pandas', 'mlflow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_example_of_the_readme_works(committed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    assert "bench.load(" in example and "bench.table(" in example
    images = load_splits("fashion_mnist_mini", SplitConfig()).test.images[:16]
    names: dict[str, object] = {"images": images}
    exec(compile(example, "README.md", "exec"), names)
    codes, frame = names["codes"], names["frame"]
    assert isinstance(codes, np.ndarray) and codes.shape == (16, 32)
    assert frame["rank_low"].min() == 1  # type: ignore[index]


def test_a_champion_encodes_decodes_and_samples(champion: LoadedModel) -> None:
    images = load_splits("fashion_mnist_mini", SplitConfig()).test.images[:600]
    codes = champion.encode(images)
    assert codes.shape == (600, champion.code_size) and codes.dtype == np.float32
    again = champion.decode(codes)
    assert again.shape == (600, 1, 28, 28) and 0 <= again.min() <= again.max() <= 1
    np.testing.assert_array_equal(again, champion.reconstruct(images))
    np.testing.assert_array_equal(codes, champion.encode(images[:, 0]))
    np.testing.assert_array_equal(codes, champion.encode(images / np.float32(255)))
    np.testing.assert_allclose(codes[:1], champion.encode(images[:1]), atol=1e-5)
    model = load_champion(ROOT / "registry" / champion.card.folder)
    assert model.code_size == champion.code_size
    error = ((again - images / 255) ** 2).mean()
    assert error < 0.02, "the champion reconstructs real images"
    samples = champion.sample(5, seed=1)
    assert samples.shape == (5, 1, 28, 28) and 0 <= samples.min() <= samples.max() <= 1
    np.testing.assert_array_equal(samples, champion.sample(5, seed=1))
    assert not np.array_equal(samples, champion.sample(5, seed=2))
    assert samples.std(axis=0).mean() > 0.05, "samples differ from each other"


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 1, 32, 32)), "N x 1 x 28 x 28 or N x 28 x 28, got 2 x 1 x 32 x 32"),
        (np.zeros((28, 28)), "got 28 x 28"),
        (np.zeros((0, 1, 28, 28)), "got 0 x 1 x 28 x 28"),
        (np.full((2, 28, 28), 255.0), "got 255 to 255; divide 8-bit pixels by 255"),
        (np.full((2, 28, 28), np.nan), "floats in"),
        (np.zeros((2, 28, 28), np.int64), "got int64"),
    ],
)
def test_images_that_do_not_fit_are_named(
    champion: LoadedModel, images: np.ndarray, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        champion.encode(images)


def test_codes_that_do_not_fit_are_named(champion: LoadedModel) -> None:
    with pytest.raises(BadInput, match="expected codes of N x 32, got 3 x 8"):
        champion.decode(np.zeros((3, 8)))
    with pytest.raises(BadInput, match="finite"):
        champion.decode(np.full((1, 32), np.inf))
    with pytest.raises(BadInput, match="0 samples"):
        champion.sample(0)


def test_the_end_of_a_name_is_enough_if_it_is_the_end_of_one(committed: None) -> None:
    assert bench.load("quick.d32").card.track == TRACK
    assert bench.load("fashion_mnist_mini/quick.d32").card.track == TRACK
    assert bench.load("d32").card.track == TRACK
    with pytest.raises(BadInput, match=r"'classes10' is the end of several tracks: .*; name one"):
        bench.load("classes10")
    with pytest.raises(BadInput, match=r"unknown track 'quick\.d33'.*quick\.d32"):
        bench.load("quick.d33")
    with pytest.raises(BadInput, match="is a classifier"):
        bench.load("classifier_quick.classes10")


def test_results_and_table_are_frames(committed: None) -> None:
    frame = bench.results()
    assert len(frame) >= 156 and frame["test_mse"].dtype == float and frame["seed"].dtype == int
    table = bench.table("quick", "fashion_mnist_mini")
    assert len(table) == 30 and set(table["protocol"]) == {"quick"}
    first = frame[(frame.protocol == "quick") & (frame.model == "pca") & (frame.latent_dim == "8")]
    row = table[(table["model"] == "pca") & (table["latent_dim"] == "8")].iloc[0]
    assert row["test_mse"] == pytest.approx(float(first["test_mse"].iloc[0]))
    with pytest.raises(BadInput, match="quik"):
        bench.table("quik")


def test_a_loop_of_ones_own(tiny_protocol: str, store: Store) -> None:
    model = bench.build("fc_ae", latent_dim=4)
    epochs: list[float] = []
    trained = bench.train(
        model,
        protocol=tiny_protocol,
        on_epoch=lambda values: epochs.append(values.values["val/mse"]) or False,
    )
    assert trained.model is model and not model.training
    assert len(epochs) == len(trained.history) == 3
    assert trained.scores["val"]["mse"] == pytest.approx(min(epochs), rel=1e-5)
    assert trained.scores["test"].keys() >= {"mse", "ssim"}
    solved = bench.train(bench.build("pca", latent_dim=4), protocol=tiny_protocol)
    assert solved.history == () and solved.scores["test"]["mse"] == pytest.approx(0.0366, rel=0.01)
    assert not list(iter_records(store.records)), "nothing is recorded"
    with pytest.raises(BadInput, match="takes images of 3x32x32"):
        bench.train(bench.build("fc_ae", (3, 32, 32), 4), protocol=tiny_protocol)
    with pytest.raises(BadInput, match="beta"):
        bench.build("fc_ae", beta=1.0)


def test_a_run_and_a_search_from_python(tiny_protocol: str, store: Store) -> None:
    events: list[Event | Stopping] = []
    done = bench.run(
        tiny_protocol, workers=1, on_event=events.append, models=("pca", "fc_ae"), seeds=(0, 1)
    )
    # mean_image runs along.
    assert done.trained == len(done.records) == 4 and not done.failures and not done.missed
    assert sum(isinstance(event, Finished) for event in events) == 4
    assert done.link.startswith("http")
    again = bench.run(load_protocol(tiny_protocol), models=("pca", "fc_ae"), seeds=(0, 1))
    assert again.trained == 0 and again.records.keys() == done.records.keys()
    assert len(bench.results()) == 4
    (outcome,) = bench.tune("fc_ae", tiny_protocol, trials=2, workers=1, latent_dims=(4,))
    assert outcome.counts.finished == 2 and outcome.winner is not None
    assert outcome.confirmation is not None and not outcome.failures
    assert {record.spec.model for record in outcome.records.values()} == {"fc_ae"}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"models": ("fc_a",)}, "fc_ae"),
        ({"latent_dims": (0,)}, "latent_dims: 0 is impossible; expected 1 to 65536"),
        ({"seeds": (-1,)}, "seeds: -1"),
        ({"threads": 0}, "threads: 0"),
        ({"dataset": "fashion_mnst"}, "fashion_mnist"),
        ({"device": "tpu"}, "tpu"),
    ],
)
def test_what_cannot_be_run_is_named(
    wanted: dict[str, object], words: str, tiny_protocol: str, store: Store
) -> None:
    with pytest.raises(BadInput, match=words):
        bench.run(tiny_protocol, **wanted)  # type: ignore[arg-type]


def test_ctrl_c_is_stopped_and_the_same_call_resumes(tiny_protocol: str, store: Store) -> None:
    heard: list[Event | Stopping] = []

    def interrupt(event: Event | Stopping) -> None:
        heard.append(event)
        if isinstance(event, Finished):
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match="resumes from here"):
        bench.run(tiny_protocol, workers=1, on_event=interrupt, models=("pca", "mean_image"))
    assert isinstance(heard[-1], Stopping)
    rest = bench.run(tiny_protocol, workers=1, models=("pca", "mean_image"))
    assert len(rest.records) == 2
