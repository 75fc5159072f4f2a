"""Deterministic autoencoders with one regulariser each.

All share the network of `plain_ae`, their control, which is also the backbone of `vae` and
`beta_vae`; only `sparse_ae` has the network of `fc_ae`, as in its origin.
Penalty weights are given on the scale (sum over pixels of squared errors) + weight * term,
averaged over the batch; dividing by the number of pixels brings them to the suite's scale.
"""

import torch
from torch import Tensor
from torch.nn import functional

from bench.models.base import Embedding, ImageShape
from bench.models.dense import DenseAutoencoder, PlainAutoencoder
from bench.models.layers import linear_layers, product


class SparseAutoencoder(DenseAutoencoder):
    """The network of `fc_ae`; loss: mean squared error + l1 * mean |z|.

    Means over batch and pixels, and over batch and the d numbers of the code, as in the origin's
    text. The origin's code lacks this term: it ran `l1 = 0`, a plain `fc_ae`.
    """

    def __init__(self, image_shape: ImageShape, latent_dim: int, *, l1: float = 1e-3) -> None:
        super().__init__(image_shape, latent_dim, hidden=(128,), relu_code=True)
        self.l1 = l1

    def embed(self, x: Tensor) -> Embedding:
        """The code and the weighted mean of its absolute values."""
        z = self.encode(x)
        return Embedding(z, self.l1 * z.abs().mean(dim=(-2, -1)))


class DenoisingAutoencoder(PlainAutoencoder):
    """Reconstructs the clean image from a corrupted one; scored on clean images.

    Vincent, Larochelle, Bengio and Manzagol, "Extracting and composing robust features with
    denoising autoencoders", ICML 2008: loss = ||x - g(f(x~))||^2 with x~ ~ q(x~ | x). `corruption`
    is `gaussian` (noise of standard deviation `level` is added, Vincent et al., JMLR 11, 2010) or
    `masking` (each pixel is set to 0 with probability `level`). Masked images are darker than
    the clean ones used for scoring, which raises the squared error there.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: int,
        *,
        corruption: str = "gaussian",
        level: float = 0.1,
    ) -> None:
        super().__init__(image_shape, latent_dim)
        self.corruption = corruption
        self.level = level

    def corrupt(self, x: Tensor) -> Tensor:
        """Masked or noisy images."""
        if self.corruption == "masking":
            return x * (self._noise.uniform_like(x) >= self.level)
        return x + self.level * self._noise.normal_like(x)


class ContractiveAutoencoder(PlainAutoencoder):
    """Penalises how much the code changes with the image.

    Rifai, Vincent, Muller, Glorot and Bengio, "Contractive auto-encoders: explicit invariance
    during feature extraction", ICML 2011: loss = ||x - g(f(x))||^2 + contraction *
    ||J_f(x)||_F^2 with the Jacobian J_f of the encoder. For f(x) = V relu(W x + b) + c it is
    J = V diag(m) W, m = [W x + b > 0], so the norm is exact and cheap:
    ||J||_F^2 = m^T ((V^T V) * (W W^T)) m, elementwise product in the middle.
    The paper ties decoder and encoder weights; here they are free, as in the shared backbone of
    the regularised variants, so a small code with a steep decoder can lower the penalty.
    """

    def __init__(
        self, image_shape: ImageShape, latent_dim: int, *, contraction: float = 0.1
    ) -> None:
        super().__init__(image_shape, latent_dim)
        self.contraction = contraction

    def embed(self, x: Tensor) -> Embedding:
        """The code and the weighted mean squared Frobenius norm of the encoder's Jacobian."""
        first, last = linear_layers(self.encoder)
        before = first(x.flatten(-3))
        z = last(functional.relu(before))
        open_units = (before > 0).to(before)
        v, w = last.weight, first.weight
        gram = product(v.mT, v) * product(w, w.mT)
        norm = (product(open_units, gram) * open_units).sum(dim=-1).mean(dim=-1)
        return Embedding(z, self.contraction * norm / self.pixels)


class WassersteinAutoencoder(PlainAutoencoder):
    """Pulls the codes of a batch towards N(0, I) by their maximum mean discrepancy.

    Tolstikhin, Bousquet, Gelly and Schoelkopf, "Wasserstein auto-encoders", ICLR 2018, algorithm
    2 (WAE-MMD): loss = ||x - g(f(x))||^2 + mmd * MMD^2(f(x), z~), z~ ~ N(0, I) (see
    `imq_discrepancy`); the paper's weight on MNIST is 10.
    """

    gaussian_prior = True

    def __init__(self, image_shape: ImageShape, latent_dim: int, *, mmd: float = 10.0) -> None:
        super().__init__(image_shape, latent_dim)
        self.mmd = mmd

    def embed(self, x: Tensor) -> Embedding:
        """The code and the weighted discrepancy between its batch and as many prior samples."""
        z = self.encode(x)
        return Embedding(z, self.mmd * imq_discrepancy(z, self._noise.normal_like(z)) / self.pixels)


def imq_discrepancy(z: Tensor, prior: Tensor) -> Tensor:
    """Unbiased estimate of MMD^2 between samples (..., n, d), by an inverse multiquadratic kernel.

    Tolstikhin et al. 2018, algorithm 2 and section 4: the mean of k over pairs of different
    members within each sample, minus twice the mean over all pairs between them; k(a, b) =
    C / (C + ||a - b||^2), C = 2 d (sigma = 1). It may be negative. A sample of one has no pairs.
    """
    count, size = z.shape[-2:]
    scale = 2.0 * size

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        lengths = a.square().sum(dim=-1, keepdim=True) + b.square().sum(dim=-1).unsqueeze(-2)
        squared = lengths - product(2 * a, b.mT)
        return scale / (scale + squared.clamp_min(0))

    different = 1 - torch.eye(count, device=z.device, dtype=z.dtype)
    pairs = max(count * (count - 1), 1)
    within = ((kernel(z, z) + kernel(prior, prior)) * different).sum(dim=(-2, -1)) / pairs
    return within - 2 * kernel(z, prior).mean(dim=(-2, -1))


class RegularisedAutoencoder(PlainAutoencoder):
    """RAE: small codes and a smooth decoder instead of a sampled code.

    Ghosh, Sajjadi, Vergari, Black and Schoelkopf, "From variational to deterministic
    autoencoders", ICLR 2020: loss = ||x - D(z)||^2 + beta * 1/2 ||z||^2 + L_REG,
    where L_REG is `l2` * ||theta_D||^2 over all weights and biases of the decoder (RAE-L2) and
    `gradient_penalty` * ||J_D(z)||_F^2 (RAE-GP); either may be 0. The norm of the decoder's
    Jacobian is estimated without bias by ||J_D u||^2 with one random sign vector u per image
    (Hutchinson 1990). The defaults of `beta` and `l2` are those that the authors ran on MNIST
    (1e-4 and 1e-7 with a mean over pixels), converted to this scale.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: int,
        *,
        beta: float = 0.01,
        l2: float = 1e-4,
        gradient_penalty: float = 0.0,
    ) -> None:
        super().__init__(image_shape, latent_dim)
        self.beta = beta
        self.l2 = l2
        self.gradient_penalty = gradient_penalty

    def embed(self, x: Tensor) -> Embedding:
        """The code and the weighted sum of the active regularisers."""
        z = self.encode(x)
        penalty = self.beta * 0.5 * z.square().sum(dim=-1).mean(dim=-1)
        if self.l2:
            layers = linear_layers(self.decoder)
            weights = (numbers for layer in layers for numbers in (layer.weight, layer.bias))
            squares = (numbers.square().reshape(*z.shape[:-2], -1) for numbers in weights)
            penalty = penalty + self.l2 * sum(numbers.sum(dim=-1) for numbers in squares)
        if self.gradient_penalty:
            penalty = penalty + self.gradient_penalty * self.decoder_steepness(z).mean(dim=-1)
        return Embedding(z, penalty / self.pixels)

    def decoder_steepness(self, z: Tensor) -> Tensor:
        """One-draw estimates of ||J_D(z)||_F^2 for codes (..., N, d): (..., N).

        For D(z) = sigmoid(y), y = V relu(W z + b) + c: J_D u = y' * V (m * W u), with
        m = [W z + b > 0] and y' = D (1 - D).
        """
        first, last = linear_layers(self.decoder)
        signs = self._noise.signs_like(z)
        before = first(z)
        image = torch.sigmoid(last(functional.relu(before)))
        moved = product((before > 0) * product(signs, first.weight.mT), last.weight.mT)
        steepness: Tensor = (image * (1 - image) * moved).square().sum(dim=-1)
        return steepness
