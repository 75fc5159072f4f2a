"""What single variants promise beyond the contract: formulas, paddings, layouts, codes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from bench.core.errors import BadInput
from bench.models.conv_dense import same_doubling, same_halving
from bench.models.residual import PARAMETER_BUDGET
from bench.models.zoo import build_model


def _parameters(name: str, shape: tuple[int, int, int], **given: object) -> int:
    latent_dim = given.pop("latent_dim", None)
    assert latent_dim is None or isinstance(latent_dim, int)
    return sum(p.numel() for p in build_model(name, shape, latent_dim, given).parameters())


def test_the_baseline_has_one_or_two_convolutions() -> None:
    one = _parameters("conv_baseline_ae", (1, 28, 28), encoder_convs=1)
    two = _parameters("conv_baseline_ae", (1, 28, 28), encoder_convs=2)
    assert two - one == 32 * 32 * 9 + 32
    with pytest.raises(BadInput, match="encoder_convs must be 1 or 2, got 3"):
        build_model("conv_baseline_ae", (1, 28, 28), 8, {"encoder_convs": 3})


def test_halving_pads_below_and_to_the_right_as_keras_does() -> None:
    """Output pixel i of a "same" stride-2 convolution of an even side sees rows 2i, 2i+1, 2i+2."""
    torch.manual_seed(0)
    layers = nn.Sequential(*same_halving(2, 5)).double()
    x = torch.randn(3, 2, 8, 12, dtype=torch.float64)
    weight, bias = (value.detach() for value in layers[1].parameters())
    found = layers(x)
    assert found.shape == (3, 5, 4, 6)
    for i, j in [(0, 0), (1, 4), (3, 5)]:
        window = torch.zeros(3, 2, 3, 3, dtype=torch.float64)
        seen = x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        window[:, :, : seen.shape[2], : seen.shape[3]] = seen
        expected = torch.einsum("nchw,ochw->no", window, weight) + bias
        torch.testing.assert_close(found[:, :, i, j], expected)


def test_doubling_is_the_gradient_of_halving() -> None:
    torch.manual_seed(0)
    up = nn.Sequential(*same_doubling(5, 2)).double()
    weight, bias = (value.detach() for value in up[0].parameters())
    z = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    x = torch.zeros(3, 2, 8, 12, dtype=torch.float64, requires_grad=True)
    halved = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), weight, stride=2)
    (gradient,) = torch.autograd.grad(halved, x, z)
    torch.testing.assert_close(up(z), gradient + bias.view(1, 2, 1, 1))


@pytest.mark.parametrize("name", ["conv_baseline_ae", "conv_modified_ae"])
def test_the_keras_networks_start_from_glorot_uniform_weights(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, (1, 28, 28))
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(layers) > 4
    for layer in layers:
        taps = layer.weight[0, 0].numel() if layer.weight.ndim == 4 else 1
        bound = (6 / (taps * sum(layer.weight.shape[:2]))) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize(("latent_dim", "widths"), [(3, 5), (12, 4), (13, 4), (64, 1), (200, 0)])
def test_the_code_of_the_tapered_network_is_its_narrowest_place(
    latent_dim: int, widths: int
) -> None:
    model = build_model("tapered_ae", (1, 28, 28), latent_dim)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert len(layers) == 2 * (widths + 1)
    assert all(layer.out_features > latent_dim for layer in layers[:widths])


@pytest.mark.parametrize("name", ["tapered_ae", "conv_bn_ae"])
def test_a_tanh_variant_learns_on_minus_one_to_one(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, (1, 12, 12), 4).eval()
    x = torch.rand(5, 1, 12, 12)
    terms = model.loss(x)
    by_hand = functional.mse_loss(model.decode(model.encode(2 * x - 1)), 2 * x - 1)
    torch.testing.assert_close(terms.total, by_hand)
    # The same error on [0, 1] is a quarter of it (nothing is clipped: Tanh stays inside).
    torch.testing.assert_close(functional.mse_loss(model.reconstruct(x), x), by_hand / 4)


def test_the_native_recurrent_network_is_two_lstms_and_nothing_else() -> None:
    assert _parameters("rnn_ae", (1, 28, 28)) == 4 * 128 * (28 + 128 + 2) + 4 * 28 * (128 + 28 + 2)
    assert build_model("rnn_ae", (1, 28, 28)).code_size == 28 * 128
    assert build_model("rnn_ae", (3, 12, 20)).code_size == 12 * 128


def test_the_recurrent_network_reads_rows_from_the_top() -> None:
    """A change in row k leaves the hidden states, and the output rows, above it alone."""
    torch.manual_seed(0)
    model = build_model("rnn_ae", (3, 12, 20)).eval()
    x = torch.rand(2, 3, 12, 20)
    changed = x.clone()
    changed[:, 1, 7, 4] += 0.5
    with torch.no_grad():
        difference = (model.decode(model.encode(x)) - model.decode(model.encode(changed))).abs()
    by_row = difference.amax(dim=(0, 1, 3))
    assert (by_row[:7] == 0).all()
    assert (by_row[7:] > 0).all()


@pytest.mark.parametrize("latent_dim", [1, 32, 64, 128, 256, 1024])
@pytest.mark.parametrize(
    "shape", [(1, 12, 12), (1, 28, 28), (3, 32, 32), (1, 64, 64), (3, 96, 96), (1, 20, 128)]
)
def test_the_residual_network_stays_within_its_budget(
    shape: tuple[int, int, int], latent_dim: int
) -> None:
    model = build_model("res_ae", shape, latent_dim)
    assert model.learned_numbers < PARAMETER_BUDGET == 4_000_000
    # It is used as far as halves of the channels allow: twice as many would not fit, or are all.
    linear = 2 * latent_dim * _map_size(model)
    full = 128 * (shape[1] // 4) * (shape[2] // 4)
    assert _map_size(model) == full or model.learned_numbers + linear >= PARAMETER_BUDGET
    x = torch.rand(2, *shape)
    assert model.encode_images(x).shape == (2, latent_dim)
    assert model.reconstruct(x).shape == x.shape


def _map_size(model: nn.Module) -> int:
    (size,) = {max(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)}
    return int(size)


@pytest.mark.parametrize(("latent_dim", "parameters"), [(64, 1_619_716), (128, 2_422_596)])
def test_the_residual_network_of_committed_results_is_the_plain_one(
    latent_dim: int, parameters: int
) -> None:
    """Those under the budget have no narrow place, and finding out draws no random number."""
    torch.manual_seed(0)
    model = build_model("res_ae", (1, 28, 28), latent_dim)
    assert model.learned_numbers == parameters
    torch.manual_seed(0)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert torch.equal(nn.Conv2d(4, 64, 3, padding=1).weight, first.weight)


def test_every_parameter_of_a_narrowed_residual_network_learns() -> None:
    torch.manual_seed(0)
    model = build_model("res_ae", (3, 32, 32), 256).train()
    model.loss(torch.rand(2, 3, 32, 32)).total.backward()
    assert [key for key in model.state_dict() if key.endswith("8.weight")] == ["encoder.8.weight"]
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key


def test_images_too_large_for_the_residual_network_are_refused() -> None:
    with pytest.raises(BadInput, match="res_ae: images of 3x224x224 at latent size 1024 need more"):
        build_model("res_ae", (3, 224, 224), 1024)


def test_group_norm_keeps_the_images_of_a_training_batch_apart() -> None:
    torch.manual_seed(0)
    model = build_model("res_ae", (1, 12, 12), 4).train()
    x = torch.rand(3, 1, 12, 12)
    torch.testing.assert_close(model(x).x_hat[:1], model(x[:1]).x_hat, rtol=1e-4, atol=1e-5)
