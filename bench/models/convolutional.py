"""Convolutional autoencoders."""

from torch import Tensor, nn

from bench.models.base import Autoencoder, ImageShape


class CnnAutoencoder(Autoencoder):
    """Two convolutions with max-pooling, mirrored by two transposed convolutions.

    Native, the code is the whole map of 32 x H/4 x W/4 numbers, over-complete on 28 x 28. With a
    `latent_dim` a linear bottleneck stands between the map and its mirror: flatten,
    Linear(map, d), Linear(d, map), ReLU, unflatten.
    """

    channels_last = True

    def __init__(self, image_shape: ImageShape, latent_dim: int | None = None) -> None:
        channels, height, width = image_shape
        feature_map = (32, height // 4, width // 4)
        map_size = feature_map[0] * feature_map[1] * feature_map[2]
        super().__init__(image_shape, code_size=latent_dim or map_size)
        to_code: list[nn.Module] = []
        from_code: list[nn.Module] = []
        if latent_dim is not None:
            to_code = [nn.Linear(map_size, latent_dim)]
            from_code = [nn.Linear(latent_dim, map_size), nn.ReLU()]
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            *to_code,
        )
        self.decoder = nn.Sequential(
            *from_code,
            nn.Unflatten(1, feature_map),
            nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, channels, 3, stride=2, padding=1, output_padding=1),
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, code_size)."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """(N, code_size) -> (N, C, H, W) in [0, 1]."""
        image: Tensor = self.decoder(z)
        return image
