"""The unit of comparisons: logarithms of errors, whatever the metric."""

import math

import numpy as np
import pytest

from bench.metrics import METRICS
from bench.metrics.units import FLOORS, comparison_unit, error_of


@pytest.mark.parametrize(
    ("metric", "value", "unit"),
    [
        ("mse", 0.02, math.log(0.02)),
        ("mae", 0.1, math.log(0.1)),
        ("cross_entropy", 2.5, math.log(2.5)),
        ("ssim", 0.9, math.log(0.1)),
        ("ssim", -0.5, math.log(1.5)),
        ("accuracy", 0.97, math.log(0.03)),
        ("psnr", 24.5, 24.5),
    ],
)
def test_scores_become_logarithms_of_errors(metric: str, value: float, unit: float) -> None:
    assert comparison_unit(metric, value) == pytest.approx(unit)
    np.testing.assert_allclose(comparison_unit(metric, np.array([[value] * 3])), [[unit] * 3])


@pytest.mark.parametrize(
    ("metric", "value", "error"),
    [
        ("mse", 0.02, 0.02),
        ("cross_entropy", 2.5, 2.5),
        ("ssim", 0.9, 0.1),
        ("accuracy", 1.0, 0.0),
        ("psnr", 20.0, 0.01),
    ],
)
def test_scores_become_errors_with_a_ratio(metric: str, value: float, error: float) -> None:
    assert error_of(metric, value) == pytest.approx(error)
    np.testing.assert_allclose(error_of(metric, np.array([value])), [error])


COMPARED = [row.id for row in METRICS.values() if row.compared]
BOUNDED = [name for name in COMPARED if math.isfinite(METRICS[name].best)]


@pytest.mark.parametrize("metric", [name for name in COMPARED if name not in BOUNDED])
def test_without_a_perfect_score_the_unit_is_the_score(metric: str) -> None:
    """A logarithm of the distance to it would be infinite for every score."""
    assert METRICS[metric].transform == "identity"
    assert comparison_unit(metric, 1e6) == 1e6


@pytest.mark.parametrize("metric", BOUNDED)
def test_a_perfect_score_is_a_finite_number(metric: str) -> None:
    row = METRICS[metric]
    found = comparison_unit(metric, row.best)
    assert math.isfinite(found)
    if row.transform != "identity":
        assert found == pytest.approx(math.log(FLOORS[row.transform]))
        # The floor is only for what cannot be told from a perfect score.
        near = 0.9999 if row.higher_is_better else 1e-9
        assert comparison_unit(metric, near) > found


def test_no_score_has_no_unit() -> None:
    assert math.isnan(comparison_unit("mse", math.nan))
    with pytest.raises(KeyError):
        comparison_unit("loss", 0.5)
