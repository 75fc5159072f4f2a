"""A small modern residual network: the strongest reconstruction per number of its code."""

import math

from torch import Tensor, nn

from bench.models.base import Autoencoder, ImageShape

_FINE, _COARSE = 64, 128
"""Channels at half and at a quarter of the image's sides."""
_GROUP = 16
"""Channels in a group of the normalisation."""


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(channels // _GROUP, channels), nn.SiLU()]


class _ResidualBlock(nn.Module):
    """x + Conv(SiLU(GroupNorm(Conv(SiLU(GroupNorm(x)))))), 3 x 3, pre-activated.

    He et al., "Identity mappings in deep residual networks", ECCV 2016, with the group norm of
    Wu and He (ECCV 2018), which treats the images of a batch apart, in training too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_normalised(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
            *_normalised(channels),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        changed: Tensor = x + self.branch(x)
        return changed


class ResidualAutoencoder(Autoencoder):
    """Residual blocks at half and at a quarter of the sides, around a linear code.

    Encoder: 2 x 2 pixels to channels, Conv 64; block; 2 x 2 places to channels, Conv 128; block;
    group norm, SiLU, flatten, Linear d. The decoder is its mirror, up-sampled by sub-pixel
    convolutions (Shi et al., CVPR 2016: a convolution to 4 times the channels, rearranged to 2 x
    2 places), Sigmoid. Nothing is computed at full resolution, where convolutions are dearest.
    See `_ResidualBlock` for the blocks' sources. 2.4 million parameters on 1 x 28 x 28 at 128.
    """

    channels_last = True

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, code_size=latent_dim)
        channels, height, width = image_shape
        feature_map = (_COARSE, height // 4, width // 4)
        map_size = math.prod(feature_map)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * channels, _FINE, 3, padding=1),
            _ResidualBlock(_FINE),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * _FINE, _COARSE, 1),
            _ResidualBlock(_COARSE),
            *_normalised(_COARSE),
            nn.Flatten(),
            nn.Linear(map_size, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, map_size),
            nn.Unflatten(1, feature_map),
            _ResidualBlock(_COARSE),
            nn.Conv2d(_COARSE, 4 * _FINE, 1),
            nn.PixelShuffle(2),
            _ResidualBlock(_FINE),
            *_normalised(_FINE),
            nn.Conv2d(_FINE, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, latent_dim)."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, C, H, W) in [0, 1]."""
        image: Tensor = self.decoder(z)
        return image
