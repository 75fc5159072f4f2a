"""Every variant has a look of its own, for everybody who looks."""

from itertools import combinations

import numpy as np
import pytest
from skimage.color import rgb2lab

from bench.models.zoo import MODELS
from bench.palette import LOOKS, look
from bench.tracking.content import colour


def test_every_variant_has_a_row_and_no_two_look_alike() -> None:
    assert set(MODELS) <= set(LOOKS), "give the new variant a look"
    looks = [look(name) for name in MODELS]
    assert len({each.colour for each in looks}) == len(MODELS)
    without_colour = {(each.marker, each.line) for each in looks}
    assert len(without_colour) == len(MODELS), "told apart by colour alone"


def test_colours_are_apart_and_dark_enough_for_paper() -> None:
    rgb = np.array(
        [[int(each.colour[i : i + 2], 16) for i in (1, 3, 5)] for each in LOOKS.values()]
    )
    lab = rgb2lab(rgb / 255)
    assert lab[:, 0].max() < 78
    nearest = min(np.linalg.norm(a - b) for a, b in combinations(lab, 2))
    assert nearest > 20


def test_a_stranger_gets_a_look_that_no_variant_has() -> None:
    strange = look("somebodys_own_ae")
    assert strange == look("somebodys_own_ae")
    assert strange.colour not in {each.colour for each in LOOKS.values()}
    assert len({look(f"own_{i}") for i in range(20)}) > 10


@pytest.mark.parametrize("model", ["fc_ae", "vq_vae", "somebodys_own_ae"])
def test_charts_of_mlflow_use_the_same_colour(model: str) -> None:
    assert colour(model) == look(model).colour
