"""Convolutions around a dense code, after a study written in Keras.

Where Keras and torch differ, these networks follow Keras: weights are Glorot-uniform with zero
biases, and a stride-2 convolution with "same" padding pads below and to the right only (torch's
`padding=1` samples the other half of the pixels). The transposed convolution is the gradient of
that, cropped below and to the right. Feature maps are flattened in torch's order, which only
permutes the weights of the dense layers.
"""

import math

from torch import Tensor, nn

from bench.models.base import Autoencoder, ImageShape
from bench.models.layers import draw_glorot_uniform


def same_halving(n_in: int, n_out: int) -> list[nn.Module]:
    """Convolution 3 x 3, stride 2, "same" as in Keras: even sides are halved."""
    return [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(n_in, n_out, 3, stride=2)]


def same_doubling(n_in: int, n_out: int) -> list[nn.Module]:
    """Transposed convolution 3 x 3, stride 2, "same" as in Keras: sides are doubled."""
    return [nn.ConvTranspose2d(n_in, n_out, 3, stride=2), nn.ZeroPad2d((0, -1, 0, -1))]


class _ConvDenseAutoencoder(Autoencoder):
    """feature map -> flatten -> Dense d, ReLU (the code) -> Dense map, ReLU -> unflatten."""

    channels_last = True

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: int,
        *,
        feature_map: tuple[int, int, int],
        to_map: list[nn.Module],
        from_map: list[nn.Module],
    ) -> None:
        super().__init__(image_shape, code_size=latent_dim)
        map_size = math.prod(feature_map)
        self.encoder = nn.Sequential(
            *to_map, nn.Flatten(), nn.Linear(map_size, latent_dim), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, map_size), nn.ReLU(), nn.Unflatten(1, feature_map), *from_map
        )
        draw_glorot_uniform(self)

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, latent_dim), not negative."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, C, H, W) in [0, 1]."""
        image: Tensor = self.decoder(z)
        return image


class ConvBaselineAutoencoder(_ConvDenseAutoencoder):
    """Conv32, MaxPool2, Dense 128; Dense, nearest up-sampling 2, Conv32, Conv1 with Sigmoid.

    `encoder_convs`: the origin's code has one Conv32 before the pooling, its text mentions two.
    """

    def __init__(self, image_shape: ImageShape, latent_dim: int, *, encoder_convs: int = 1) -> None:
        channels, height, width = image_shape
        to_map: list[nn.Module] = [nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU()]
        if encoder_convs == 2:
            to_map += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
        super().__init__(
            image_shape,
            latent_dim,
            feature_map=(32, height // 2, width // 2),
            to_map=[*to_map, nn.MaxPool2d(2)],
            from_map=[
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(32, 32, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, channels, 3, padding=1),
                nn.Sigmoid(),
            ],
        )


class ConvModifiedAutoencoder(_ConvDenseAutoencoder):
    """Conv32, Conv64 s2, Conv128 s2, Dense 128; Dense, ConvT128 s2, ConvT64 s2, ConvT1, Sigmoid."""

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        channels, height, width = image_shape
        super().__init__(
            image_shape,
            latent_dim,
            feature_map=(128, height // 4, width // 4),
            to_map=[
                nn.Conv2d(channels, 32, 3, padding=1),
                nn.ReLU(),
                *same_halving(32, 64),
                nn.ReLU(),
                *same_halving(64, 128),
                nn.ReLU(),
            ],
            from_map=[
                *same_doubling(128, 128),
                nn.ReLU(),
                *same_doubling(128, 64),
                nn.ReLU(),
                nn.ConvTranspose2d(64, channels, 3, padding=1),
                nn.Sigmoid(),
            ],
        )
