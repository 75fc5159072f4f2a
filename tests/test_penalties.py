"""Every regulariser against a second implementation of its formula."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.core.errors import BadInput
from bench.models.base import Autoencoder
from bench.models.regularised import RegularisedAutoencoder, imq_discrepancy
from bench.models.zoo import build_model

SHAPE = (1, 12, 16)
PIXELS = 12 * 16


def _model(name: str, latent_dim: int = 5, **hyperparameters: object) -> Autoencoder:
    torch.manual_seed(0)
    return build_model(name, SHAPE, latent_dim, hyperparameters).double().train()


def _images(count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)


def _penalty(model: Autoencoder, x: Tensor) -> Tensor:
    penalty = model.loss(x).penalty
    assert penalty is not None
    return penalty


def _linear_layers(network: object) -> list[nn.Linear]:
    assert isinstance(network, nn.Module)
    return [m for m in network.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize(
    "name", ["plain_ae", "denoising_ae", "contractive_ae", "wae_mmd", "rae", "vae", "beta_vae"]
)
def test_the_regularised_variants_share_one_backbone(name: str) -> None:
    model = build_model(name, (1, 28, 28), 32)
    widths = [(layer.in_features, layer.out_features) for layer in _linear_layers(model)]
    variational = name.endswith("vae")
    assert widths == [(784, 400), (400, 32), *([(400, 32)] * variational), (32, 400), (400, 784)]


def test_without_its_penalty_the_sparse_network_is_fc_ae() -> None:
    sparse = _model("sparse_ae", l1=0.0)
    plain = _model("fc_ae")
    plain.load_state_dict(sparse.state_dict())
    x = _images()
    torch.testing.assert_close(sparse.loss(x).total, plain.loss(x).total, rtol=0, atol=0)


def test_the_sparse_penalty_is_the_mean_absolute_code() -> None:
    model, x = _model("sparse_ae", l1=0.3), _images()
    codes = [float(value) for row in model.encode(x).detach() for value in row]
    assert _penalty(model, x).item() == pytest.approx(0.3 * sum(map(abs, codes)) / len(codes))


def test_masking_sets_pixels_to_zero_and_leaves_the_others() -> None:
    model, x = _model("denoising_ae", corruption="masking", level=0.3), _images(200) + 0.1
    corrupted = model.corrupt(x)
    masked = corrupted == 0
    assert masked.double().mean().item() == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(corrupted[~masked], x[~masked])


def test_gaussian_corruption_adds_noise_of_its_level() -> None:
    model, x = _model("denoising_ae", corruption="gaussian", level=0.2), _images(200)
    noise = model.corrupt(x) - x
    assert noise.std().item() == pytest.approx(0.2, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)


def test_the_denoising_loss_compares_with_the_clean_image_and_scores_see_no_noise() -> None:
    model, x = _model("denoising_ae", corruption="masking", level=0.5), _images()
    torch.manual_seed(7)
    loss = model.loss(x).total
    torch.manual_seed(7)
    by_hand = functional.mse_loss(model.decode(model.encode(model.corrupt(x))), x)
    torch.testing.assert_close(loss, by_hand)
    model.eval()
    clean = functional.mse_loss(model.decode(model.encode(x)), x)
    torch.testing.assert_close(model.loss(x).total, clean)
    assert loss != clean


def test_impossible_corruptions_are_refused() -> None:
    with pytest.raises(BadInput, match="corruption must be 'gaussian' or 'masking', got 'salt'"):
        _model("denoising_ae", corruption="salt")
    with pytest.raises(BadInput, match=r"level must be a number from 0 to 0\.99, got 1\.0"):
        _model("denoising_ae", corruption="masking", level=1.0)


def test_the_contraction_is_the_norm_of_the_jacobian_that_autograd_finds() -> None:
    model, x = _model("contractive_ae", contraction=0.7), _images()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda image: model.encode(image[None])[0]))(x)
    norms = jacobian.square().flatten(1).sum(dim=1)
    assert (norms > 0).all()
    torch.testing.assert_close(_penalty(model, x), 0.7 * norms.mean() / PIXELS)


def _imq_by_loops(z: Tensor, prior: Tensor) -> float:
    n, d = z.shape

    def kernel(a: Tensor, b: Tensor) -> float:
        return 2 * d / (2 * d + float(((a - b) ** 2).sum()))

    total = 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                total += (kernel(z[i], z[j]) + kernel(prior[i], prior[j])) / (n * (n - 1))
            total -= 2 * kernel(z[i], prior[j]) / n**2
    return total


def test_the_discrepancy_is_that_of_the_naive_loops() -> None:
    generator = torch.Generator().manual_seed(2)
    z = 1 + 2 * torch.randn(7, 3, generator=generator, dtype=torch.float64)
    prior = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    assert imq_discrepancy(z, prior).item() == pytest.approx(_imq_by_loops(z, prior), rel=1e-9)
    assert torch.isfinite(imq_discrepancy(z[:1], prior[:1]))


def test_the_discrepancy_of_equal_distributions_is_zero_on_average() -> None:
    """The estimate is unbiased: over many small batches it averages to 0, not to 1/n."""
    generator = torch.Generator().manual_seed(3)
    draws = torch.randn(500, 2, 16, 4, generator=generator)
    same = torch.stack([imq_discrepancy(a, b) for a, b in draws])
    shifted = torch.stack([imq_discrepancy(a + 1, b) for a, b in draws])
    assert abs(same.mean()) < 4 * same.std() / 500**0.5
    assert shifted.mean() > 20 * same.std() / 500**0.5


def test_the_wasserstein_penalty_is_weighted_on_the_scale_of_summed_errors() -> None:
    model, x = _model("wae_mmd", mmd=3.0), _images()
    torch.manual_seed(5)
    penalty = _penalty(model, x)
    torch.manual_seed(5)
    z = model.encode(x).detach()
    prior = torch.randn_like(z)
    assert penalty.item() == pytest.approx(3 * _imq_by_loops(z, prior) / PIXELS, rel=1e-6)


def test_the_rae_penalty_is_its_formula() -> None:
    model, x = _model("rae", beta=0.5, l2=0.02), _images()
    z = model.encode(x)
    weights = [p for key, p in model.named_parameters() if key.startswith("decoder")]
    assert len(weights) == 4
    expected = 0.5 * (z**2).sum() / (2 * len(x)) + 0.02 * sum((p**2).sum() for p in weights)
    torch.testing.assert_close(_penalty(model, x), expected / PIXELS)


def test_the_gradient_penalty_is_the_decoders_jacobian_on_average() -> None:
    model = _model("rae", gradient_penalty=0.4, beta=0.0, l2=0.0)
    assert isinstance(model, RegularisedAutoencoder)
    x = _images(3)
    z = model.encode(x).detach()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda code: model.decode(code[None])[0]))(z)
    exact = jacobian.square().flatten(1).sum(dim=1)
    draws = model.decoder_steepness(z.repeat_interleave(4000, dim=0)).view(3, 4000)
    error = 5 * draws.std(dim=1) / 4000**0.5
    assert ((draws.mean(dim=1) - exact).abs() < error).all()
    torch.manual_seed(4)
    penalty = _penalty(model, x)
    torch.manual_seed(4)
    torch.testing.assert_close(penalty, 0.4 * model.decoder_steepness(z).mean() / PIXELS)
    penalty.backward()
    assert all(p.grad is not None for p in model.decoder.parameters() if p.ndim == 2)


@pytest.mark.parametrize("name", ["beta_vae", "conv_vae"])
def test_the_kl_divergence_is_that_of_torchs_distributions(name: str) -> None:
    model, x = _model(name, beta=2.5), _images()
    posterior = model.posterior
    assert callable(posterior)
    mean, log_variance = posterior(x)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence(q, prior).sum(dim=1).mean()
    torch.testing.assert_close(_penalty(model, x), 2.5 * divergence / PIXELS)
    torch.testing.assert_close(model.encode(x), mean)
