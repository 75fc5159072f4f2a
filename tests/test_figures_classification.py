"""Pictures of a classifier show what the stored arrays hold."""

import dataclasses

import numpy as np
import pytest
from looks import assert_texts_apart, assert_texts_inside, pixels, texts
from numpy.typing import NDArray

from bench.core.protocol import SplitConfig, load_protocol
from bench.core.spec import RunRecord, RunSpec
from bench.data import load_splits
from bench.figures import FIGURES, draw_figures
from bench.metrics.classification import confusion, per_class

Arrays = dict[str, NDArray[np.generic]]
NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker")


def _record(names: tuple[str, ...]) -> RunRecord:
    protocol = load_protocol("classifier_quick")
    spec = RunSpec(
        protocol=protocol.name,
        protocol_fingerprint=protocol.fingerprint,
        task="classification",
        dataset="fashion_mnist_mini",
        dataset_label="fashion_mnist_mini",
        data_digest="0",
        split=protocol.split,
        model="cnn_classifier",
        model_revision=1,
        latent_dim=None,
        hyperparameters={},
        train=protocol.train,
        evaluation=protocol.evaluation,
        metric_revisions={"accuracy": 1},
        selection_metric="accuracy",
        seed=7,
    )
    return RunRecord(
        run_key=spec.run_key,
        evaluation_digest=spec.evaluation_digest,
        spec=spec,
        status="finished",
        started_unix_ms=0,
        finished_unix_ms=1,
        history=(),
        scores={},
        facts={},
        image_shape=(1, 28, 28),
        class_names=names,
        data_source="",
        split_digest="",
        weights_sha256="",
        arrays_sha256="",
        environment={},
    )


def _arrays(classes: int, images: NDArray[np.uint8], right: float = 0.8) -> Arrays:
    """Real images, drawn classes, of which a share was called right."""
    import torch

    rng = np.random.default_rng(0)
    labels = np.arange(400) % classes
    called = np.where(rng.random(400) < right, labels, rng.integers(0, classes, 400))
    counts = confusion(torch.from_numpy(labels), torch.from_numpy(called), classes)
    shares = torch.stack(per_class(counts)[:3], dim=1).float()
    wrong = np.flatnonzero(called != labels)[: min(24, len(images))]
    return {
        "label/test": labels,
        "predicted/test": called,
        "confidence/test": rng.uniform(0.3, 1, 400).astype(np.float32),
        "confusion/test": counts.numpy(),
        "per_class/test": shares.numpy(),
        "misclassified/x": images[: len(wrong)].astype(np.float32) / 255,
        "misclassified/label": labels[wrong],
        "misclassified/predicted": called[wrong],
        "misclassified/confidence": np.linspace(0.99, 0.5, len(wrong), dtype=np.float32),
    }


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return load_splits("fashion_mnist_mini", SplitConfig()).validation.images[:24]


MANY = tuple(f"class with a long name {i}" for i in range(40))


@pytest.mark.parametrize("names", [NAMES, MANY, NAMES[:2]], ids=["some", "many", "two"])
def test_every_picture_is_drawn_and_readable(
    names: tuple[str, ...], images: NDArray[np.uint8]
) -> None:
    figures = draw_figures(_record(names), _arrays(len(names), images))
    assert set(figures) == {"confusion_matrix", "misclassified", "class_report", "reliability"}
    for figure in figures.values():
        assert_texts_inside(figure)
        assert f"{len(names)} classes · seed 7" in " ".join(texts(figure))
        grey = pixels(figure).mean(axis=2)
        assert grey.std() > 5


def test_the_matrix_counts_images(images: NDArray[np.uint8]) -> None:
    arrays = _arrays(8, images)
    counts = arrays["confusion/test"]
    figure = FIGURES["confusion_matrix"].draw(_record(NAMES), arrays)
    (ax,) = figure.axes
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shown, counts / counts.sum(axis=1, keepdims=True))
    numbers = {tuple(map(round, t.get_position())): int(t.get_text()) for t in ax.texts}
    for (row, column), count in np.ndenumerate(counts):
        assert numbers.get((column, row), 0) == count
    assert [t.get_text() for t in ax.get_yticklabels()] == list(NAMES)
    assert f"{np.trace(counts)} of 400" in " ".join(texts(figure))


def test_mistakes_say_what_they_are_and_were_called(images: NDArray[np.uint8]) -> None:
    arrays = _arrays(8, images)
    found = texts(FIGURES["misclassified"].draw(_record(NAMES), arrays))
    first = NAMES[int(arrays["misclassified/label"][0])]
    called = NAMES[int(arrays["misclassified/predicted"][0])]
    assert f"is {first}\ncalled {called}, 99%" in found


def test_bars_start_at_zero_and_the_worst_class_is_on_top(images: NDArray[np.uint8]) -> None:
    arrays = _arrays(8, images)
    f1 = np.sort(np.asarray(arrays["per_class/test"], np.float64)[:, 2])
    (ax,) = FIGURES["class_report"].draw(_record(NAMES), arrays).axes
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(f1.tolist())
    assert ax.get_xlim()[0] == 0
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_the_reliability_diagram_shows_the_bins(images: NDArray[np.uint8]) -> None:
    arrays = _arrays(8, images)
    arrays["confidence/test"] = np.full(400, 0.9, np.float32)
    hit = (arrays["label/test"] == arrays["predicted/test"]).mean()
    figure = FIGURES["reliability"].draw(_record(NAMES), arrays)
    left, right = figure.axes
    points = left.collections[-1].get_offsets()
    assert np.asarray(points).ravel().tolist() == pytest.approx([0.9, hit], abs=1e-6)
    assert f"error {abs(0.9 - hit):.4f}" in left.get_title(loc="left")
    assert sum(bar.get_height() for bar in right.patches) == pytest.approx(1)


def test_a_record_without_mistakes_has_no_picture_of_them(images: NDArray[np.uint8]) -> None:
    arrays = {k: v for k, v in _arrays(8, images).items() if not k.startswith("misclassified")}
    assert "misclassified" not in draw_figures(_record(NAMES), arrays)
    assert not draw_figures(dataclasses.replace(_record(NAMES)), {})


def test_names_of_fourteen_wide_letters_leave_room_for_the_axis_labels() -> None:
    names = ("WWWWWWWWWWWWWW", "Mammoth Museum", "abcdefghijklmn")
    figure = FIGURES["confusion_matrix"].draw(_record(names), _arrays(3, np.zeros((0,))))
    assert_texts_inside(figure)
    (ax,) = figure.axes
    called = ax.xaxis.label.get_window_extent()
    assert called.y1 <= min(tick.get_window_extent().y0 for tick in ax.get_xticklabels())


@pytest.mark.parametrize("count", [24, 2, 1])
def test_mistakes_on_narrow_images_stay_readable(images: NDArray[np.uint8], count: int) -> None:
    names = ("a class with a long name", "WWWWWWWWWWWWWW", *NAMES)
    arrays = _arrays(len(names), images[:count].repeat(2, axis=2)[..., :12])
    figure = FIGURES["misclassified"].draw(_record(names), arrays)
    assert_texts_inside(figure)
    assert_texts_apart(figure)
    title = figure.texts[0].get_text()
    assert title.startswith("The only mistake" if count == 1 else f"The {count} most confident")
