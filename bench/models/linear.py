"""The baselines of every table: the mean image and PCA."""

import torch
from torch import Tensor

from bench.models.base import ClosedFormAutoencoder, ImageShape

_CHUNK = 4096


class MeanImage(ClosedFormAutoencoder):
    """Predicts the mean training image for every input, which it ignores."""

    mean: Tensor

    def __init__(self, image_shape: ImageShape, latent_dim: int | None = None) -> None:
        super().__init__(image_shape, code_size=0)
        self.register_buffer("mean", torch.zeros(self.pixels))

    def fit(self, images: Tensor) -> None:
        """Average the images in float64."""
        self.mean.copy_(_mean(images))

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 0): there is no code."""
        return x.new_zeros(x.shape[0], 0)

    def decode(self, z: Tensor) -> Tensor:
        """(N, 0) -> the mean image N times."""
        return self.mean.view(1, *self.image_shape).expand(z.shape[0], *self.image_shape)


class Pca(ClosedFormAutoencoder):
    """Principal component analysis (Pearson 1901), the best linear autoencoder at `latent_dim`.

    Baldi and Hornik (1989) show that no linear encoder and decoder reach a lower squared error.
    z = W (x - mean), x_hat = W^T z + mean, with the `latent_dim` leading eigenvectors of the
    training covariance as rows of W; each row's largest entry is positive, so that signs are
    reproducible. At sizes beyond the rank of the data, the remaining rows are zero.
    """

    mean: Tensor
    components: Tensor

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, code_size=latent_dim)
        self.register_buffer("mean", torch.zeros(self.pixels))
        self.register_buffer("components", torch.zeros(latent_dim, self.pixels))

    def fit(self, images: Tensor) -> None:
        """Solve the smaller of the two symmetric eigenproblems in float64."""
        mean = _mean(images)
        leading = _leading_directions(images, mean, self.code_size)
        largest = leading.gather(1, leading.abs().argmax(dim=1, keepdim=True))
        self.mean.copy_(mean)
        self.components.zero_()
        self.components[: len(leading)] = (leading * largest.sign()).to(self.components)

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, latent_dim)."""
        return (x.flatten(1) - self.mean) @ self.components.T

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, C, H, W), not clipped."""
        return (z @ self.components + self.mean).view(z.shape[0], *self.image_shape)


def _mean(images: Tensor) -> Tensor:
    total = sum(chunk.flatten(1).double().sum(dim=0) for chunk in images.split(_CHUNK))
    assert isinstance(total, Tensor)
    return total / (255.0 * len(images))


def _leading_directions(images: Tensor, mean: Tensor, count: int) -> Tensor:
    """Unit eigenvectors of the covariance by decreasing eigenvalue: (at most count, pixels)."""

    def centred(chunk: Tensor) -> Tensor:
        return chunk.flatten(1).double() / 255.0 - mean

    pixels = len(mean)
    if pixels <= len(images):
        covariance = torch.zeros(pixels, pixels, dtype=torch.float64, device=images.device)
        for chunk in images.split(_CHUNK):
            rows = centred(chunk)
            covariance.addmm_(rows.T, rows)
        vectors: Tensor = torch.linalg.eigh(covariance).eigenvectors
        return vectors.flip(1).T[:count]
    rows = centred(images)
    values: Tensor
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    # Centring lowers the rank by one; directions without variance are rounding noise.
    keep = min(count, int((values > values.max() * 1e-12).sum()))
    directions: Tensor = vectors.flip(1).T[:keep] @ rows
    unit: Tensor = directions / torch.linalg.vector_norm(directions, dim=1, keepdim=True)
    return unit
