"""Variational autoencoders: the code is a Gaussian, sampled in training, its mean in scoring."""

import torch
from torch import Tensor, nn

from bench.models.base import Autoencoder, Embedding, ImageShape


class VariationalAutoencoder(Autoencoder):
    """784 -> 400 ReLU -> (mu, log variance of 32); 32 -> 400 ReLU -> 784 Sigmoid.

    Kingma and Welling (2014). Loss: sum over pixels of (x - x_hat)^2 + beta * KL(q(z|x) || N(0, I))
    with KL = sum over dimensions of 1/2 (mu^2 + sigma^2 - log sigma^2 - 1), divided by the number
    of pixels to stand on the suite's scale, averaged over the batch. The origin's own loss (mean
    squared error + 0.5 * mean KL per dimension at 784 pixels and 32 dimensions) is beta = 12.25.
    """

    gaussian_prior = True

    def __init__(self, image_shape: ImageShape, latent_dim: int, *, beta: float = 12.25) -> None:
        super().__init__(image_shape, code_size=latent_dim)
        self.beta = beta
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(self.pixels, 400), nn.ReLU())
        self.mean_head = nn.Linear(400, latent_dim)
        self.log_variance_head = nn.Linear(400, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 400),
            nn.ReLU(),
            nn.Linear(400, self.pixels),
            nn.Sigmoid(),
            nn.Unflatten(1, image_shape),
        )

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the mean code (N, latent_dim)."""
        mean: Tensor = self.mean_head(self.trunk(x))
        return mean

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, C, H, W) in [0, 1]."""
        image: Tensor = self.decoder(z)
        return image

    def embed(self, x: Tensor) -> Embedding:
        """A code sampled by the reparametrisation trick, and the weighted KL divergence."""
        features = self.trunk(x)
        mean, log_variance = self.mean_head(features), self.log_variance_head(features)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1)
        return Embedding(z, self.beta * divergence.mean() / self.pixels)
