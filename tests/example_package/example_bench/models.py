"""The model `example_bench.narrow`."""

from typing import ClassVar

from torch import Tensor, nn

from bench.models import Autoencoder, Hyperparameter, IntRange


class Narrow(Autoencoder):
    """One hidden layer on each side, as wide as you like."""

    hyperparameters: ClassVar = {"width": Hyperparameter(32, IntRange(4, 512), IntRange(8, 64))}
    native_latent_dim = 6

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: int) -> None:
        super().__init__(image_shape, latent_dim)
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(self.pixels, width), nn.ReLU(), nn.Linear(width, latent_dim)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, width),
            nn.ReLU(),
            nn.Linear(width, self.pixels),
            nn.Unflatten(1, image_shape),
        )

    def encode(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> codes (N, latent_dim)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, latent_dim) -> images (N, C, H, W)."""
        return self.decoder(z)
