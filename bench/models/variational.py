"""Variational autoencoders: the code is a Gaussian, sampled in training; scores use its mean.

Kingma and Welling, "Auto-encoding variational Bayes", ICLR 2014. Loss: sum over pixels of
(x - x_hat)^2 + beta * KL(q(z|x) || N(0, I)) with KL = sum over dimensions of
1/2 (mu^2 + sigma^2 - log sigma^2 - 1), divided by the number of pixels (the suite's scale) and
averaged over the batch. beta = 1 is the negative evidence lower bound (up to a constant) of a
decoder with Gaussian noise of variance 1/2.
"""

import math

import torch
from torch import Tensor, nn

from bench.models.base import Autoencoder, Embedding, ImageShape


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each number, in nats: the shape of both."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


class _GaussianAutoencoder(Autoencoder):
    """Samples the code by the reparametrisation trick and weighs the KL divergence by `beta`.

    A variant must set `trunk`, the two heads and `decoder` in this order: it fixes the draws.
    """

    gaussian_prior = True
    variational = True
    trunk: nn.Module
    mean_head: nn.Module
    log_variance_head: nn.Module
    decoder: nn.Module

    def __init__(self, image_shape: ImageShape, latent_dim: int, beta: float) -> None:
        super().__init__(image_shape, code_size=latent_dim)
        self.beta = beta

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the mean code (N, latent_dim)."""
        mean: Tensor = self.mean_head(self.trunk(x))
        return mean

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, C, H, W) in [0, 1]."""
        image: Tensor = self.decoder(z)
        return image

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> mean and log variance of q(z|x), each (N, latent_dim)."""
        features = self.trunk(x)
        return self.mean_head(features), self.log_variance_head(features)

    def embed(self, x: Tensor) -> Embedding:
        """A code sampled by the reparametrisation trick, and the weighted KL divergence."""
        mean, log_variance = self.posterior(x)
        z = mean + torch.exp(0.5 * log_variance) * self._noise.normal_like(mean)
        total = divergence(mean, log_variance).sum(dim=-1)
        return Embedding(z, self.beta * total.mean(dim=-1) / self.pixels)


class VariationalAutoencoder(_GaussianAutoencoder):
    """784 -> 400 ReLU -> (mu, log variance of 32); 32 -> 400 ReLU -> 784 Sigmoid.

    The origin's own loss (mean squared error + 0.5 * mean KL per dimension at 784 pixels and 32
    dimensions) is beta = 0.5 * 784 / 32 = 12.25, used here at every code size and image shape:
    beta then weights the same bound, while the origin's mean would change with each size.
    """

    any_sides = True

    def __init__(self, image_shape: ImageShape, latent_dim: int, *, beta: float = 12.25) -> None:
        super().__init__(image_shape, latent_dim, beta)
        self.trunk = nn.Sequential(nn.Flatten(-3), nn.Linear(self.pixels, 400), nn.ReLU())
        self.mean_head = nn.Linear(400, latent_dim)
        self.log_variance_head = nn.Linear(400, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 400),
            nn.ReLU(),
            nn.Linear(400, self.pixels),
            nn.Sigmoid(),
            nn.Unflatten(-1, image_shape),
        )


class BetaVae(VariationalAutoencoder):
    """The network of `vae` with another KL weight: beta > 1 trades detail for independent codes.

    Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed and Lerchner, "beta-VAE: learning
    basic visual concepts with a constrained variational framework", ICLR 2017: loss =
    -E[log p(x|z)] + beta * KL, with this module's Gaussian p(x|z). 4 is the paper's weight for its
    two-dimensional shapes; the origin of `vae` ran 12.25 on this scale.
    """

    def __init__(self, image_shape: ImageShape, latent_dim: int, *, beta: float = 4.0) -> None:
        super().__init__(image_shape, latent_dim, beta=beta)


class ConvVae(_GaussianAutoencoder):
    """Convolutional encoder and decoder around a Gaussian code.

    Loss: sum of squared errors + beta * KL(q(z|x) || N(0, I)), mean over images; Kingma and
    Welling, ICLR 2014, at beta 1. The network is that of Higgins et al. (2017, table 1) scaled to
    small images: Conv(C,32,4,s2), Conv(32,64,4,s2), Linear 256, ReLU after each -> mu, log
    variance; Linear 256, Linear, ReLU after each, and the mirrored transposed convolutions,
    Sigmoid.
    """

    channels_last = True

    def __init__(self, image_shape: ImageShape, latent_dim: int, *, beta: float = 1.0) -> None:
        super().__init__(image_shape, latent_dim, beta)
        channels, height, width = image_shape
        feature_map = (64, height // 4, width // 4)
        map_size = math.prod(feature_map)
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(map_size, 256),
            nn.ReLU(),
        )
        self.mean_head = nn.Linear(256, latent_dim)
        self.log_variance_head = nn.Linear(256, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 256),
            nn.ReLU(),
            nn.Linear(256, map_size),
            nn.ReLU(),
            nn.Unflatten(1, feature_map),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )
