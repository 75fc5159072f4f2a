"""Fully connected autoencoders."""

from collections.abc import Sequence

from torch import Tensor, nn

from bench.models.base import Autoencoder, ImageShape
from bench.models.layers import dense_stack, output_activation


class DenseAutoencoder(Autoencoder):
    """pixels -> hidden... -> code -> ...hidden -> pixels, ReLU between.

    The output is a Sigmoid, or a Tanh if the `value_range` is [-1, 1]. `relu_code` also puts a
    ReLU on the code, as in `fc_ae`.
    """

    any_sides = True

    def __init__(
        self, image_shape: ImageShape, latent_dim: int, *, hidden: Sequence[int], relu_code: bool
    ) -> None:
        super().__init__(image_shape, code_size=latent_dim)
        sizes = [self.pixels, *hidden, latent_dim]
        code_activation: list[nn.Module] = [nn.ReLU()] if relu_code else []
        self.encoder = nn.Sequential(nn.Flatten(-3), *dense_stack(sizes), *code_activation)
        self.decoder = nn.Sequential(
            *dense_stack(sizes[::-1]),
            output_activation(self.value_range),
            nn.Unflatten(-1, image_shape),
        )

    def encode(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, latent_dim)."""
        code: Tensor = self.encoder(x)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dim) -> (N, C, H, W) in [0, 1]."""
        image: Tensor = self.decoder(z)
        return image


class FcAutoencoder(DenseAutoencoder):
    """784 -> 128 -> 64 -> 128 -> 784, ReLU everywhere, also on the code."""

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, latent_dim, hidden=(128,), relu_code=True)


class PlainAutoencoder(DenseAutoencoder):
    """784 -> 400 ReLU -> d -> 400 ReLU -> 784 Sigmoid, linear code; loss: mean squared error.

    The control of the regularised and variational variants, which have the same encoder and
    decoder: without noise, penalty or sampling.
    """

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, latent_dim, hidden=(400,), relu_code=False)


class DeepAutoencoder(DenseAutoencoder):
    """784 -> 512 -> 256 -> 128 -> 64 -> 128 -> 256 -> 512 -> 784, linear code."""

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, latent_dim, hidden=(512, 256, 128), relu_code=False)


class MlpAutoencoder(DenseAutoencoder):
    """784 -> 256 -> 128 -> d -> 128 -> 256 -> 784, linear code.

    Assumed: the origin describes a fully connected network with nonlinear activations and codes
    of 16 and 48, but neither its layers nor its code are public.
    """

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, latent_dim, hidden=(256, 128), relu_code=False)


class TaperedAutoencoder(DenseAutoencoder):
    """784 -> 128 -> 64 -> 32 -> 16 -> 12 -> 3 and its mirror, linear code, Tanh on [-1, 1].

    At other sizes hidden layers no wider than the code are left out, so that the code is the
    narrowest layer.
    """

    value_range = (-1.0, 1.0)

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        hidden = [width for width in (128, 64, 32, 16, 12) if width > latent_dim]
        super().__init__(image_shape, latent_dim, hidden=hidden, relu_code=False)
