"""Discrete codes: each number is the index of a vector in a learned codebook."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models.base import Autoencoder, Embedding, ImageShape

_VECTOR = 16
"""Numbers per vector of the codebook."""


class Codebook(nn.Module):
    """K vectors and the nearest-neighbour quantiser of van den Oord et al. (2017).

    The vectors are running means (appendix A.1 of the paper). With n_i inputs of a batch assigned
    to vector i: N_i <- decay N_i + (1 - decay) n_i, likewise m_i with the sum of those inputs;
    e_i = m_i / N_i, with a little added to the counts so that none is 0. They are buffers,
    unknown to the optimiser. A vector that has had fewer than `_RARE` inputs per batch for a
    while is replaced by an input of the batch (Dhariwal et al., "Jukebox", 2020, section 3.1);
    otherwise most of a codebook is never used.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    _DECAY, _SMOOTHING, _RARE = 0.99, 1e-5, 0.05

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.randn(count, size))
        # Counts of 0: the first batch moves all vectors to its inputs, whatever their scale.
        self.register_buffer("counts", torch.zeros(count))
        self.register_buffer("sums", torch.zeros(count, size))

    def nearest(self, x: Tensor) -> Tensor:
        """Vectors (M, size) -> the index of the nearest in the codebook (M,)."""
        # ||x||^2 is the same for all vectors and left out.
        distances = self.vectors.square().sum(dim=1) - 2 * x @ self.vectors.T
        return distances.argmin(dim=1)

    @torch.no_grad()
    def learn(self, x: Tensor, indices: Tensor) -> None:
        """Move the running means towards inputs (M, size) assigned to `indices` (M,)."""
        chosen = functional.one_hot(indices, len(self.vectors)).to(x)
        self.counts.lerp_(chosen.sum(dim=0), 1 - self._DECAY)
        # A matrix product: the order of scattered additions varies on a GPU.
        self.sums.lerp_(chosen.T @ x, 1 - self._DECAY)
        rare = (self.counts < self._RARE).unsqueeze(1)
        drawn = x[torch.randint(len(x), (len(self.vectors),), device=x.device)]
        self.counts.copy_(torch.where(rare[:, 0], 1.0, self.counts))
        self.sums.copy_(torch.where(rare, drawn, self.sums))
        total = self.counts.sum()
        smoothed = (self.counts + self._SMOOTHING) / (total + len(self.counts) * self._SMOOTHING)
        self.vectors.copy_(self.sums / (smoothed * total).unsqueeze(1))


class _Residual(nn.Module):
    """x + Conv 1 x 1(ReLU(Conv 3 x 3(ReLU(x)))), as in the paper."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same shape."""
        changed: Tensor = x + self.branch(x)
        return changed


class VectorQuantised(Autoencoder):
    """VQ-VAE: the code is one of 512 indices at each of its positions, 9 bits each.

    van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning", NeurIPS
    2017, equation 3: loss = ||x - D(e)||^2 + commitment * ||z_e(x) - sg(e)||^2 on the scale of
    summed errors, divided by the number of pixels; gradients pass the quantiser unchanged
    (straight through) and the codebook learns by running means (see `Codebook`). The network is
    the paper's at a quarter of its width. `encode` gives one index per position, a whole number
    from 0 to 511; `decode` rounds its input to such. Native, there is one position per 4 x 4
    pixels; `latent_dim` counts positions, reached by a linear layer on either side, as in the
    convolutional variants. The paper's prior is not trained: samples draw each position
    independently.
    """

    channels_last = True
    levels = 512

    def __init__(
        self, image_shape: ImageShape, latent_dim: int | None = None, *, commitment: float = 0.25
    ) -> None:
        channels, height, width = image_shape
        feature_map = (_VECTOR, height // 4, width // 4)
        positions = latent_dim or height // 4 * (width // 4)
        super().__init__(image_shape, code_size=positions)
        self.commitment = commitment
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            _Residual(64, 32),
            _Residual(64, 32),
            nn.ReLU(),
            nn.Conv2d(64, _VECTOR, 1),
            *_positions_from_map(feature_map, latent_dim),
        )
        self.codebook = Codebook(self.levels, _VECTOR)
        self.decoder = nn.Sequential(
            *_map_from_positions(feature_map, latent_dim),
            nn.Conv2d(_VECTOR, 64, 3, padding=1),
            _Residual(64, 32),
            _Residual(64, 32),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    @property
    def learned_numbers(self) -> int:
        """Parameters trained by gradients, and the codebook, which learns by running means."""
        return super().learned_numbers + self.codebook.vectors.numel()

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> indices (N, positions) as whole floating-point numbers."""
        vectors: Tensor = self.encoder(x)
        indices = self.codebook.nearest(vectors.flatten(0, 1))
        return indices.view(x.shape[0], self.code_size).to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Indices (N, positions), rounded to 0 to 511 -> (N, C, H, W) in [0, 1]."""
        indices = z.round().clamp(0, self.levels - 1).long()
        return self.decode_embedded(self.codebook.vectors[indices])

    def embed(self, x: Tensor) -> Embedding:
        """The chosen vectors (N, positions, 16), straight through, and the commitment."""
        vectors: Tensor = self.encoder(x)
        flat = vectors.detach().flatten(0, 1)
        indices = self.codebook.nearest(flat)
        # A copy: the codebook is updated before the gradients are computed.
        chosen = self.codebook.vectors[indices].view_as(vectors)
        if self.training:
            self.codebook.learn(flat, indices)
        distance = (vectors - chosen).square().sum(dim=(1, 2)).mean()
        straight_through = vectors + (chosen - vectors).detach()
        return Embedding(straight_through, self.commitment * distance / self.pixels)

    def decode_embedded(self, z: Tensor) -> Tensor:
        """Vectors (N, positions, 16) -> (N, C, H, W) in [0, 1]."""
        image: Tensor = self.decoder(z)
        return image


class _Transposed(nn.Module):
    """(N, a, b) -> (N, b, a)."""

    def forward(self, x: Tensor) -> Tensor:
        """Swap the last two axes."""
        return x.transpose(1, 2)


def _positions_from_map(
    feature_map: tuple[int, int, int], latent_dim: int | None
) -> list[nn.Module]:
    """Map (N, 16, h, w) -> (N, positions, 16): each position, or a linear layer over the map."""
    if latent_dim is None:
        return [nn.Flatten(2), _Transposed()]
    return [
        nn.Flatten(),
        nn.Linear(math.prod(feature_map), latent_dim * _VECTOR),
        nn.Unflatten(1, (latent_dim, _VECTOR)),
    ]


def _map_from_positions(
    feature_map: tuple[int, int, int], latent_dim: int | None
) -> list[nn.Module]:
    """The inverse: (N, positions, 16) -> map (N, 16, h, w)."""
    if latent_dim is None:
        return [_Transposed(), nn.Unflatten(2, feature_map[1:])]
    return [
        nn.Flatten(),
        nn.Linear(latent_dim * _VECTOR, math.prod(feature_map)),
        nn.Unflatten(1, feature_map),
    ]
