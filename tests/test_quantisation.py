"""Codes with few bits per number, against numpy and scikit-learn, and what rows say of the loss."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from invented import record_of, specs_of
from sklearn.preprocessing import KBinsDiscretizer

from bench.core.protocol import EvaluationConfig, load_protocol
from bench.core.store import Store
from bench.evaluation.quantisation import quantised, ranges_of
from bench.leaderboard.ledger import row_of, score_columns
from bench.leaderboard.ranking import NOT_COMPARED, rank_table
from bench.leaderboard.render import full_table
from bench.leaderboard.significance import Significance
from bench.leaderboard.spread import loss_at_8_bits
from bench.metrics import METRICS, per_image, seen_of, short_title
from bench.metrics.quantised import coarse_id
from bench.metrics.seen import SENT


def _codes(count: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, generator=drawn) * torch.tensor([1e-3, 1.0, 7.0, 1e4, 0.3]) + 2


@pytest.mark.parametrize("count", [1, 2, 999, 7000])
def test_ranges_are_the_quantiles_of_numpy(count: int) -> None:
    codes = _codes(count)
    found = ranges_of(codes)
    expected = np.quantile(codes.double().numpy(), [0.001, 0.999], axis=0)
    np.testing.assert_allclose(found.low, expected[0], rtol=1e-6)
    np.testing.assert_allclose(found.high, expected[1], rtol=1e-6)


def test_ranges_of_many_columns_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ranges_of(_codes(300))
    monkeypatch.setattr("bench.evaluation.quantisation._VALUES_AT_ONCE", 600)
    parts = ranges_of(_codes(300))
    assert torch.equal(whole.low, parts.low) and torch.equal(whole.high, parts.high)


@pytest.mark.parametrize("bits", SENT.values())
def test_values_are_the_nearest_of_a_grid_from_end_to_end(bits: int) -> None:
    codes, own = _codes(2000), _codes(500, seed=1)
    ranges = ranges_of(codes)
    sent = quantised(own, ranges, bits).double().numpy()
    for place in range(5):
        low, high = ranges.low[place].item(), ranges.high[place].item()
        grid = np.linspace(low, high, 2**bits)
        nearest = grid[np.abs(own[:, place].double().numpy()[:, None] - grid).argmin(axis=1)]
        np.testing.assert_allclose(sent[:, place], nearest, rtol=1e-6)
        assert len(np.unique(sent[:, place])) <= 2**bits
        assert sent[:, place].min() >= np.float32(low) and sent[:, place].max() <= np.float32(high)
    # scikit-learn cuts a range into bins of equal width, whose centres are such a grid.
    step = (ranges.high - ranges.low).double().numpy() / (2**bits - 1)
    ends = np.stack([ranges.low.double() - step / 2, ranges.high.double() + step / 2])
    bins = KBinsDiscretizer(2**bits, encode="ordinal", strategy="uniform", subsample=None).fit(ends)
    inside = np.clip(own.double().numpy(), ranges.low.double(), ranges.high.double())
    centres = bins.inverse_transform(bins.transform(inside))
    np.testing.assert_allclose(sent, centres, rtol=1e-5, atol=1e-9)


def test_a_constant_is_sent_as_its_value_and_what_lies_outside_is_clipped() -> None:
    codes = torch.tensor([[0.1, 3.0]] * 500 + [[0.1, -3.0]] * 500)
    sent = quantised(torch.tensor([[0.7, 99.0], [0.1, -99.0]]), ranges_of(codes), 8)
    assert torch.equal(sent, torch.tensor([[0.1, 3.0], [0.1, -3.0]]))


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.needs & set(SENT)])
def test_a_coarse_metric_is_the_plain_one_of_other_reconstructions(name: str) -> None:
    plain, _, bits = name.rpartition("_")
    drawn = torch.Generator().manual_seed(3)
    x, x_hat = torch.rand(2, 20, 1, 16, 16, generator=drawn)
    config = EvaluationConfig(metrics=(name,))
    need = f"reconstructions_{bits}"
    found = per_image([name], seen_of({"images": x, need: x_hat}), config)[name]  # type: ignore[dict-item]
    alone = per_image([plain], seen_of({"images": x, "reconstructions": x_hat}), config)[plain]
    assert torch.equal(found, alone)
    row = METRICS[name]
    assert not row.selects and METRICS[plain].selects
    assert short_title(name).startswith(f"{short_title(plain).split(' (')[0]} at ")
    same = {"higher_is_better", "transform", "bounds", "unit", "decimals", "per_image", "task"}
    assert all(getattr(row, field) == getattr(METRICS[plain], field) for field in same)


@pytest.mark.parametrize(
    ("metric", "plain", "coarse", "loss"),
    [
        ("mse", 0.010, 0.011, 0.1),
        ("mse", 0.0, 0.0, 0.0),
        ("mse", 0.0, 0.01, math.inf),
        ("ssim", 0.9, 0.85, 0.5),
        ("psnr", 20.0, 10.0, 9.0),
        ("mae", 0.1, 0.09, -0.1),
    ],
)
def test_the_loss_is_the_rise_of_the_error(
    metric: str, plain: float, coarse: float, loss: float
) -> None:
    scores = {f"val_{metric}": plain, f"val_{coarse_id(metric)}": coarse}
    assert loss_at_8_bits(scores, metric) == pytest.approx(loss)


def test_without_scores_there_is_no_loss() -> None:
    for error in (0.1, 0.0):  # without an error: PCA on images that are all equal
        assert math.isnan(loss_at_8_bits({"val_mse": error}, "mse"))
    assert math.isnan(loss_at_8_bits({"val_mse_8bit": 0.1}, "mse"))
    assert math.isnan(loss_at_8_bits({}, "none"))


@pytest.mark.parametrize(
    ("coarse", "badge", "ranked"),
    [
        (0.0999, False, True),
        (0.1049, False, True),
        (0.1051, True, True),
        (0.1249, True, True),
        (0.1251, True, False),
    ],
)
def test_a_row_says_what_8_bits_cost_and_has_no_rank_above_25_percent(
    store: Store, tiny_protocol: str, coarse: float, badge: bool, ranked: bool
) -> None:
    (spec,) = specs_of(store, load_protocol(tiny_protocol), "pca", (0,))
    # On test it would be refused: only validation decides.
    scores = {"val": {"mse": 0.1, "mse_8bit": coarse}, "test": {"mse": 0.1, "mse_8bit": 0.9}}
    rows = [row_of(record_of(spec, scores, facts={"dead_codes": 0.0}))]
    (cell,) = rank_table(rows, Significance(), {"mse": False}, score_columns(rows))
    assert (
        f"needs more than 8 bits per number: +{1000 * (coarse - 0.1):.0f} %" in cell.badges
    ) == badge
    assert cell.loss_at_8_bits == pytest.approx(10 * (coarse - 0.1))
    why = "its code needs more than 8 bits per number"
    assert cell.why_unranked == (NOT_COMPARED if ranked else why)
    assert cell.code_bits == 8 * 32
    assert "bits" in [column.title for column in full_table([cell]).columns]


def test_tables_from_before_these_scores_have_no_such_column(
    store: Store, tiny_protocol: str
) -> None:
    (spec,) = specs_of(store, load_protocol(tiny_protocol), "pca", (0,))
    rows = [row_of(record_of(spec, {"val": {"mse": 0.1}, "test": {"mse": 0.1}}))]
    old = [dataclasses.replace(rows[0], facts={"train_images": 10.0, "output_std": 0.2})]
    (cell,) = rank_table(old, Significance(), {"mse": False}, score_columns(old))
    assert "bits" not in [column.title for column in full_table([cell]).columns]
    assert cell.code_bits == 8 * 32
