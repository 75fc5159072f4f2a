"""Convolutional autoencoders."""

import math

from torch import Tensor, nn

from bench.models.base import Autoencoder, ImageShape
from bench.models.layers import dense_bottleneck, output_activation


class CnnAutoencoder(Autoencoder):
    """Two convolutions with max-pooling, mirrored by two transposed convolutions.

    Native, the code is the whole map of 32 x H/4 x W/4 numbers, over-complete on 28 x 28. With a
    `latent_dim` there is a linear bottleneck between the map and its mirror: flatten,
    Linear(map, d), Linear(d, map), ReLU, unflatten.
    """

    channels_last = True

    def __init__(self, image_shape: ImageShape, latent_dim: int | None = None) -> None:
        channels, height, width = image_shape
        feature_map = (32, height // 4, width // 4)
        map_size = math.prod(feature_map)
        super().__init__(image_shape, code_size=latent_dim or map_size)
        to_code, from_code = dense_bottleneck(map_size, latent_dim)
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


class ConvBatchNormAutoencoder(Autoencoder):
    """Three convolutions and their mirror with batch normalisation, Tanh on [-1, 1].

    Conv(C,16,3,s2,p1), Conv(16,32,3,s2,p1), Conv(32,64,3), each followed by BN and, except the
    last, ReLU. Native, the code is the map of 64 x (H/4 - 2) x (W/4 - 2) numbers, over-complete
    on 28 x 28; with a `latent_dim` a linear bottleneck as in `cnn_ae` follows.
    """

    channels_last = True
    value_range = (-1.0, 1.0)

    def __init__(self, image_shape: ImageShape, latent_dim: int | None = None) -> None:
        channels, height, width = image_shape
        feature_map = (64, height // 4 - 2, width // 4 - 2)
        map_size = math.prod(feature_map)
        super().__init__(image_shape, code_size=latent_dim or map_size)
        to_code, from_code = dense_bottleneck(map_size, latent_dim)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.BatchNorm2d(64),
            nn.Flatten(),
            *to_code,
        )
        self.decoder = nn.Sequential(
            *from_code,
            nn.Unflatten(1, feature_map),
            nn.ConvTranspose2d(64, 32, 3),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, channels, 3, stride=2, padding=1, output_padding=1),
            output_activation(self.value_range),
        )

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, code_size)."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """(N, code_size) -> (N, C, H, W) in [-1, 1]."""
        image: Tensor = self.decoder(z)
        return image
