"""Training curves and scores by class: the axes show the numbers of the record."""

import dataclasses

import numpy as np
import pytest
from figure_material import CLASSES, arrays_of, crops, record_of
from looks import assert_texts_inside, texts
from matplotlib.axes import Axes
from numpy.typing import NDArray
from skimage import data

from bench.core.spec import RunRecord
from bench.figures import FIGURES
from bench.figures.style import Arrays
from bench.models.zoo import MODELS


@pytest.fixture(scope="module")
def grey() -> NDArray[np.float32]:
    return crops(data.camera()[:, :, None], 28, 24)


@pytest.fixture(scope="module")
def arrays(grey: NDArray[np.float32]) -> Arrays:
    return arrays_of(grey, 6)


def with_history(record: RunRecord, model: str, **extra: float) -> RunRecord:
    """The record of another variant whose training shows more values, the same in every epoch."""
    added = {key.replace("_", "/", 1): value for key, value in extra.items()}
    history = tuple(
        dataclasses.replace(each, values={**each.values, **added}) for each in record.history
    )
    spec = dataclasses.replace(record.spec, model=model)
    value_range = MODELS[model].value_range if model in MODELS else (-1.0, 1.0)
    return dataclasses.replace(record, spec=spec, history=history, value_range=value_range)


def lines(ax: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): list(line.get_ydata()) for line in ax.get_lines()}


@pytest.mark.parametrize(("model", "area"), [("fc_ae", 1), ("tapered_ae", 4)])
def test_training_and_validation_share_their_axes(
    grey: NDArray[np.float32], arrays: Arrays, model: str, area: int
) -> None:
    """A Tanh variant trains on [-1, 1], where squared errors are four times as large."""
    record = with_history(record_of(grey, 6), model, train_reconstruction=0.2, train_penalty=0.1)
    left, right = FIGURES["loss_curves"].draw(record, arrays).axes
    validation = [each.values["val/mse"] for each in record.history]
    assert lines(right)["training"] == pytest.approx([0.2 / area] * 4)
    assert lines(right)["validation"] == pytest.approx(validation)
    shown = lines(left)
    assert shown["training loss"] == pytest.approx([0.5**e for e in range(1, 5)])
    assert shown["training penalty term"] == pytest.approx([0.1] * 4)
    assert shown["validation reconstruction term"] == pytest.approx([area * v for v in validation])


def test_values_of_the_history_come_before_derived_ones(
    grey: NDArray[np.float32], arrays: Arrays
) -> None:
    record = with_history(
        record_of(grey, 6), "fc_ae", train_reconstruction=0.2, train_mse=0.3, val_loss=0.4
    )
    left, right = FIGURES["loss_curves"].draw(record, arrays).axes
    assert lines(right)["training"] == [0.3] * 4
    assert lines(left)["validation loss"] == [0.4] * 4


def test_a_variant_that_is_gone_is_drawn_with_the_range_of_its_record(
    grey: NDArray[np.float32], arrays: Arrays
) -> None:
    record = with_history(record_of(grey, 6), "of_an_older_version", train_reconstruction=0.2)
    left, right = FIGURES["loss_curves"].draw(record, arrays).axes
    assert lines(right)["training"] == pytest.approx([0.2 / 4] * 4)
    assert "training loss" in lines(left)


@pytest.mark.parametrize("selection", ["mse", "ssim"])
def test_classes_stand_in_order_with_their_means(
    grey: NDArray[np.float32], arrays: Arrays, selection: str
) -> None:
    record = record_of(grey, 6, selection)
    figure = FIGURES["class_scores"].draw(record, arrays)
    (ax,) = figure.axes
    scores, labels = arrays[f"test/{selection}"], arrays["label/test"]
    means = {name: scores[labels == i].mean() for i, name in enumerate(CLASSES)}
    best_first = sorted(means, key=lambda name: means[name], reverse=selection == "ssim")
    shown = [tick.get_text() for tick in ax.get_yticklabels()]
    decimals = 5 if selection == "mse" else 4
    assert [text.rsplit(maxsplit=1)[1] for text in shown] == [
        f"{means[name]:.{decimals}f}" for name in best_first
    ]
    boxes = [patch.get_path().vertices[:, 0] for patch in ax.patches]
    first = scores[labels == CLASSES.index(best_first[0])]
    low, high = np.quantile(first, [0.25, 0.75])
    assert boxes[0].min() == pytest.approx(low) and boxes[0].max() == pytest.approx(high)
    assert ax.yaxis_inverted()
    assert_texts_inside(figure)


def test_of_many_classes_the_worst_are_shown(grey: NDArray[np.float32], arrays: Arrays) -> None:
    many = {**arrays, "label/test": np.arange(len(grey)) % 50}
    named = dataclasses.replace(record_of(grey, 6), class_names=tuple(f"c{i}" for i in range(50)))
    figure = FIGURES["class_scores"].draw(named, many)
    assert len(figure.axes[0].get_yticklabels()) == 30
    assert "worst 30 of 50" in " ".join(texts(figure))
    worst = max(range(50), key=lambda i: arrays["test/mse"][many["label/test"] == i].mean())
    assert figure.axes[0].get_yticklabels()[-1].get_text().startswith(f"c{worst} ")
    assert_texts_inside(figure)


def test_what_a_run_lacks_is_named(grey: NDArray[np.float32], arrays: Arrays) -> None:
    record = record_of(grey, 6)
    older = {key: value for key, value in arrays.items() if key != "label/test"}
    assert FIGURES["class_scores"].lacks(record, older) == "no label/test in the record"
    assert FIGURES["class_scores"].lacks(record, arrays) == ""
    untrained = dataclasses.replace(record, history=())
    assert FIGURES["loss_curves"].lacks(untrained, arrays) == "0 epochs of training"
    classifier = dataclasses.replace(
        record, spec=dataclasses.replace(record.spec, task="classification")
    )
    assert not FIGURES["extremes"].can_draw(classifier, arrays)
