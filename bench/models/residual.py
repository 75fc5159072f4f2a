"""A small modern residual network: strong reconstruction per number of the code."""

import torch
from torch import Tensor, nn

from bench.core.errors import BadInput
from bench.models.base import Autoencoder, ImageShape

PARAMETER_BUDGET = 4_000_000
"""Exclusive upper bound of the parameters at every image shape and latent size."""
_FINE, _COARSE = 64, 128
"""Channels at half and at a quarter of the image's sides."""
_GROUP = 16
"""Channels per group of the normalisation."""


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(channels // _GROUP, channels), nn.SiLU()]


class _ResidualBlock(nn.Module):
    """The block of "Identity mappings in deep residual networks", 3 x 3, with group norm, which
    treats the images of a batch independently, also in training."""

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


def _networks(
    image_shape: ImageShape, latent_dim: int, kept: int
) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder whose linear layers use `kept` channels of the last feature map."""
    channels, height, width = image_shape
    feature_map = (kept, height // 4, width // 4)
    map_size = kept * (height // 4) * (width // 4)
    narrow = kept < _COARSE
    encoder = nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * channels, _FINE, 3, padding=1),
        _ResidualBlock(_FINE),
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * _FINE, _COARSE, 1),
        _ResidualBlock(_COARSE),
        *_normalised(_COARSE),
        *([nn.Conv2d(_COARSE, kept, 1)] if narrow else []),
        nn.Flatten(),
        nn.Linear(map_size, latent_dim),
    )
    decoder = nn.Sequential(
        nn.Linear(latent_dim, map_size),
        nn.Unflatten(1, feature_map),
        *([nn.Conv2d(kept, _COARSE, 1)] if narrow else []),
        _ResidualBlock(_COARSE),
        nn.Conv2d(_COARSE, 4 * _FINE, 1),
        nn.PixelShuffle(2),
        _ResidualBlock(_FINE),
        *_normalised(_FINE),
        nn.Conv2d(_FINE, 4 * channels, 3, padding=1),
        nn.PixelShuffle(2),
        nn.Sigmoid(),
    )
    return encoder, decoder


def _kept_channels(image_shape: ImageShape, latent_dim: int) -> int:
    """128, halved until the network fits the budget; BadInput if not even one channel fits."""
    kept = _COARSE
    while kept:
        # Count on the meta device: it allocates nothing and draws no random numbers.
        with torch.device("meta"):
            networks = _networks(image_shape, latent_dim, kept)
        parameters = (p.numel() for network in networks for p in network.parameters())
        if sum(parameters) < PARAMETER_BUDGET:
            return kept
        kept //= 2
    size = "x".join(map(str, image_shape))
    raise BadInput(
        f"model res_ae: images of {size} at latent size {latent_dim} need more than its "
        f"{PARAMETER_BUDGET:,} parameters; choose a smaller latent size or smaller images"
    )


class ResidualAutoencoder(Autoencoder):
    """Residual blocks at half and at a quarter of the sides, around a linear code.

    Encoder: 2 x 2 pixels to channels, Conv 64; block; 2 x 2 positions to channels, Conv 128;
    block; group norm, SiLU, flatten, Linear d. The decoder is its mirror, up-sampled by sub-pixel
    convolutions (Shi et al., CVPR 2016: a convolution to 4 times the channels, rearranged to 2 x
    2 positions), Sigmoid. Nothing runs at full resolution, where convolutions cost most.

    A block is x + Conv(SiLU(GroupNorm(Conv(SiLU(GroupNorm(x)))))): pre-activated as in He et al.
    (ECCV 2016), group norm of Wu and He (ECCV 2018). The loss is the mean squared error. 2.4
    million parameters on 1 x 28 x 28 at 128.

    The two linear layers grow with the image and with d. Only where they would bring the network
    to `PARAMETER_BUDGET` or beyond, a 1 x 1 convolution before the flattening halves the 128
    channels as often as needed, and one after the unflattening restores them.
    Raises BadInput if not even one channel fits.
    """

    channels_last = True

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, code_size=latent_dim)
        kept = _kept_channels(image_shape, latent_dim)
        self.encoder, self.decoder = _networks(image_shape, latent_dim, kept)

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, latent_dim)."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, C, H, W) in [0, 1]."""
        image: Tensor = self.decoder(z)
        return image
