"""`bench speed` beside another suite's trainer, which is an optional extra."""

import pytest
import torch

from bench.models.zoo import build_model
from bench.speed import peers, ratios


def test_pythae_trains_the_same_network(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pythae")
    torch.manual_seed(0)
    model = build_model("fc_ae", (1, 28, 28), 16)
    images = torch.randint(0, 256, (256, 1, 28, 28), dtype=torch.uint8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert peers.pythae_rate(model, images, 64, seconds=0.05) > 0
    changed = [not torch.equal(value, before[name]) for name, value in model.state_dict().items()]
    assert all(changed), "encoder and decoder of the given network are what it trains"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("here", [False, True])
def test_its_rows_are_there_where_it_is_installed(
    here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(*_: object) -> dict[str, str]:
        return {}

    monkeypatch.setattr(ratios, "pythae_is_here", lambda: here)
    for name in ("_training", "forecasts"):
        monkeypatch.setattr(ratios, name, lambda *_: [])
    for name in ("_ssim", "_help", "_stack"):
        monkeypatch.setattr(ratios, name, row)
    monkeypatch.setattr(ratios, "pythae_rate", lambda *_: 100.0)
    monkeypatch.setattr(ratios, "_loop", lambda *_: 220.0)
    rows = [row for row in ratios.measure_all(0.1) if row]
    assert [(r["what"], r["against"], r["ratio"]) for r in rows] == (
        [(f"training {name}", "pythae's trainer", "2.20") for name in ("fc_ae", "cnn_ae")]
        if here
        else []
    )


def test_seeds_as_one_network_are_measured_beside_one_by_one() -> None:
    """Both rates come from real trainings; what the ratio is, a busy machine decides."""
    images = torch.randint(0, 256, (1024, 1, 28, 28), dtype=torch.uint8)
    row = ratios._stack(ratios._spec("fc_ae"), images, 0.3, 1.4)
    assert (row["what"], row["against"]) == ("training fc_ae, 3 seeds", "one by one")
    assert row["wanted"] == ">= 1.4"
    rates = [
        float(row[key].removesuffix(" images/s").replace(",", "")) for key in ("ours", "theirs")
    ]
    assert min(rates) > 0
    assert float(row["ratio"]) == pytest.approx(rates[0] / rates[1], abs=0.01)
