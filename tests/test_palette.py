"""Every variant has a look of its own, for everybody who looks."""

from itertools import combinations

import numpy as np
import pytest
from skimage.color import rgb2lab

from bench.core.palette import LOOKS, look
from bench.models.zoo import MODELS
from bench.tracking.content import colour


def test_no_two_looks_are_alike() -> None:
    assert set(LOOKS) <= set(MODELS), "a look of a variant that is gone"
    assert len({each.colour for each in LOOKS.values()}) == len(LOOKS)
    without_colour = {(each.marker, each.line) for each in LOOKS.values()}
    assert len(without_colour) == len(LOOKS), "told apart by colour alone"


def seen(matrix: list[list[float]]) -> np.ndarray:
    """The colours of all variants in CIELAB, after a matrix on linear RGB."""
    rgb = np.array(
        [[int(each.colour[i : i + 2], 16) for i in (1, 3, 5)] for each in LOOKS.values()]
    )
    coded = rgb / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    changed = np.clip(linear @ np.array(matrix).T, 0, 1)
    return rgb2lab(
        np.where(changed <= 0.0031308, 12.92 * changed, 1.055 * changed ** (1 / 2.4) - 0.055)
    )


def nearest(lab: np.ndarray) -> float:
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(lab, 2))


# Machado, Oliveira and Fernandes (2009), table 1, at severity 1.
PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]


def test_colours_are_apart_and_dark_enough_for_paper() -> None:
    lab = seen([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert lab[:, 0].max() < 78
    assert nearest(lab) > 20


@pytest.mark.parametrize("matrix", [PROTANOPIA, DEUTERANOPIA])
def test_colours_are_apart_for_colour_blind_people(matrix: list[list[float]]) -> None:
    """By less: what they cannot tell by colour they tell by marker and line (above)."""
    assert nearest(seen(matrix)) > 9


def test_a_stranger_gets_a_look_that_no_variant_has() -> None:
    strange = look("somebodys_own_ae")
    assert strange == look("somebodys_own_ae")
    assert strange.colour not in {each.colour for each in LOOKS.values()}
    assert len({look(f"own_{i}") for i in range(20)}) > 10


@pytest.mark.parametrize("model", ["fc_ae", "vq_vae", "somebodys_own_ae"])
def test_charts_of_mlflow_use_the_same_colour(model: str) -> None:
    assert colour(model) == look(model).colour
