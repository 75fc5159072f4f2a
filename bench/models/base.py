"""Base classes of all variants: `ImageModel`, with the tasks `Autoencoder` and `Classifier`.

An autoencoder has an encoder, a decoder and optionally a penalty; a classifier has features and
a head. The base classes own `forward` and `loss`, so that all variants are trained and scored
alike. Input images are in [0, 1]; a variant whose decoder ends in Tanh works on [-1, 1] by
declaring its `value_range`; `reconstruct` always returns images in [0, 1].

Scale of an autoencoder's loss: `reconstruction` is the mean over batch and pixels of the squared
error on the variant's own value range; `penalty` is added unscaled. A
variational model states its KL weight as beta on the scale (sum over pixels of squared errors) +
beta * KL, which is the penalty beta * KL / pixels here. A classifier's loss is the mean over the
batch of the cross-entropy in nats.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.core.errors import CheckFailed
from bench.models.layers import Noise, squared_error

MOST_LEVELS = 2**24
"""Of a number of a discrete code: codes are float32, which holds all whole numbers up to here."""
ImageShape = tuple[int, int, int]
"""Channels (1 or 3), height, width."""
SIDE_MULTIPLE, LEAST_SIDE = 4, 12
"""Sides that every network takes: they can be halved twice, and a convolution of 3 x 3 without
padding fits in afterwards."""


class AEOutput(NamedTuple):
    """`x_hat` (N, C, H, W) on the variant's value range, decoded from the embedded `z`."""

    x_hat: Tensor
    z: Tensor
    penalty: Tensor | None


class Embedding(NamedTuple):
    """The code as decoded in training, and the penalty added to the loss.

    `z` is the code itself, except for a discrete code, which has no gradient: other numbers
    represent it here (see `decode_embedded`).
    """

    z: Tensor
    penalty: Tensor | None


class LossTerms(NamedTuple):
    """Scalars: `total` = `reconstruction` + `penalty` (scale: see the module docstring)."""

    total: Tensor
    reconstruction: Tensor
    penalty: Tensor | None

    def parts(self) -> dict[str, Tensor]:
        """The parts of the loss shown beside its total."""
        penalty = {} if self.penalty is None else {"penalty": self.penalty}
        return {"reconstruction": self.reconstruction, **penalty}


class ClassificationLoss(NamedTuple):
    """Scalars: `total`, the mean cross-entropy, and `accuracy`, the share of hits in the batch."""

    total: Tensor
    accuracy: Tensor

    def parts(self) -> dict[str, Tensor]:
        """The parts of the loss shown beside its total."""
        return {"accuracy": self.accuracy}


Answers = dict[Literal["images", "reconstructions", "labels", "logits"], Tensor]
"""What metrics may read of a batch, by the names of `bench.metrics.Seen`."""


class ImageModel(nn.Module, ABC):
    """A network for images of `image_shape`, with what training and scoring need of any task.

    Unless its class takes `any_sides`, its constructor gets sides that are multiples of
    SIDE_MULTIPLE and at least LEAST_SIDE. Other images are then padded here and outputs cropped
    (see `take_images`): losses, scores and sizes are those of the original pixels.
    """

    any_sides: ClassVar[bool] = False
    channels_last: ClassVar[bool] = False
    watched: ClassVar[tuple[str, ...]] = ()
    """Metrics computed on validation during training, besides the selection metric."""

    def __init__(self, image_shape: ImageShape) -> None:
        super().__init__()
        self.image_shape = image_shape
        self._margins = (0, 0, 0, 0)
        self._noise = Noise()

    @final
    def take_images(self, image_shape: ImageShape) -> None:
        """Take images of `image_shape`, at most as large as the network's, from now on.

        The network sees them in the middle of its own shape, their outermost pixels repeated.
        """
        rows = self.image_shape[1] - image_shape[1]
        columns = self.image_shape[2] - image_shape[2]
        self._margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        self.image_shape = image_shape

    @final
    def padded(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in the network's shape, on the same range of values."""
        return functional.pad(x, self._margins, mode="replicate") if any(self._margins) else x

    @final
    def cropped(self, x: Tensor) -> Tensor:
        """Images in the network's shape -> (N, C, H, W)."""
        if not any(self._margins):
            return x
        left, _, above, _ = self._margins
        _, height, width = self.image_shape
        return x[:, :, above : above + height, left : left + width]

    @property
    def pixels(self) -> int:
        """Numbers in one image."""
        channels, height, width = self.image_shape
        return channels * height * width

    @property
    def learned_numbers(self) -> int:
        """How many numbers are learned in training."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    @abstractmethod
    def sizes(self) -> dict[str, float]:
        """Sizes that a record stores as facts."""

    @abstractmethod
    def loss(self, x: Tensor, labels: Tensor) -> LossTerms | ClassificationLoss:
        """Loss of a batch of images (N, C, H, W) in [0, 1] with classes `labels` (N,), int64."""

    @abstractmethod
    def answers(self, x: Tensor, labels: Tensor) -> Answers:
        """What metrics score for images (N, C, H, W) in [0, 1] of classes `labels` (N,); no
        gradients."""

    def snapshot(self, x: Tensor) -> Tensor | None:
        """Output for images (N, C, H, W) in [0, 1] that is stored to show training progress."""
        return None


class Autoencoder(ImageModel):
    """An image autoencoder with a code of `code_size` numbers for images of `image_shape`."""

    watched: ClassVar[tuple[str, ...]] = ("mse", "psnr")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    gaussian_prior: ClassVar[bool] = False
    """Whether codes are trained towards N(0, I), so that samples are drawn from it."""
    variational: ClassVar[bool] = False
    """Whether the code is a Gaussian, with a KL divergence from its prior N(0, I)."""
    levels: ClassVar[int | None] = None
    """Each number of a discrete code is one of 0 ... levels - 1, at most MOST_LEVELS of them; None:
    codes of real numbers."""

    def __init__(self, image_shape: ImageShape, code_size: int) -> None:
        super().__init__(image_shape)
        self.code_size = code_size

    @property
    def code_bits(self) -> int | None:
        """Bits of a whole discrete code, whole bits per number; None for real numbers."""
        return None if self.levels is None else self.code_size * (self.levels - 1).bit_length()

    @property
    def sizes(self) -> dict[str, float]:
        """Numbers in the code, and the ratio of numbers in an image to numbers in its code.

        For a discrete code the ratio is of bits. A code without numbers has no ratio.
        """
        sizes = {"code_size": float(self.code_size)}
        if self.code_bits:
            sizes |= {
                "code_bits": float(self.code_bits),
                "compression_ratio": 8 * self.pixels / self.code_bits,
            }
        elif self.code_size:
            sizes["compression_ratio"] = self.pixels / self.code_size
        return sizes

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) on `value_range`, in the network's shape -> their deterministic
        codes (N, code_size)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, code_size) -> images (N, C, H, W) on `value_range`, in the network's shape."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What `encode` gives, and the log variance (N, code_size) of a Gaussian code q(z|x) around
        it; None if the code is no distribution."""
        return self.encode(x), None

    def embed(self, x: Tensor) -> Embedding:
        """Code and penalty in training; overridden if the code is sampled or penalised."""
        return Embedding(self.encode(x), None)

    def decode_embedded(self, z: Tensor) -> Tensor:
        """`embed(x).z` -> images (N, C, H, W); differs from `decode` for discrete codes only."""
        return self.decode(z)

    def corrupt(self, x: Tensor) -> Tensor:
        """What the encoder sees in training instead of `x`; the target remains `x`."""
        return x

    @final  # type: ignore[misc]  # torch declares forward as an attribute
    def forward(self, x: Tensor) -> AEOutput:
        """Reconstruct images given on `value_range`, using the code as in training."""
        z, penalty = self.embed(self.padded(self.corrupt(x) if self.training else x))
        return AEOutput(self.cropped(self.decode_embedded(z)), z, penalty)

    @final
    def loss(self, x: Tensor, labels: Tensor | None = None) -> LossTerms:
        """Loss of a batch of images (N, C, H, W) in [0, 1]; ignores the classes.

        A stack takes a batch for each of its S members (S, N, C, H, W); its terms are (S,).
        """
        x = self.to_range(x)
        before = x._version
        output = self(x)
        if x._version != before:
            raise CheckFailed(
                "it changes the images that it is given, and would be compared with the changed "
                "ones: let it work on a copy (x = x - 0.5, not x.sub_(0.5))"
            )
        reconstruction = squared_error(output.x_hat, x)
        if output.penalty is None:
            return LossTerms(reconstruction, reconstruction, None)
        return LossTerms(reconstruction + output.penalty, reconstruction, output.penalty)

    @final
    def to_range(self, x: Tensor) -> Tensor:
        """[0, 1] -> the variant's value range."""
        low, high = self.value_range
        return x if (low, high) == (0.0, 1.0) else x * (high - low) + low

    @final
    def from_range(self, x: Tensor) -> Tensor:
        """The variant's value range -> [0, 1], clipped."""
        low, high = self.value_range
        return ((x - low) / (high - low)).clamp(0.0, 1.0)

    @final
    @torch.no_grad()
    def encode_images(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> deterministic codes (N, code_size)."""
        return self.encode(self.padded(self.to_range(x)))

    @final
    @torch.no_grad()
    def posterior_images(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Images (N, C, H, W) in [0, 1] -> what `encode_images` gives, and the log variances (N,
        code_size) of a variational code; None for other codes."""
        return self.posterior(self.padded(self.to_range(x)))

    @final
    @torch.no_grad()
    def decode_images(self, z: Tensor) -> Tensor:
        """Codes (N, code_size) -> images (N, C, H, W) in [0, 1], clipped."""
        return self.from_range(self.cropped(self.decode(z)))

    @final
    def reconstruct(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> reconstructions in [0, 1], deterministic code."""
        return self.decode_images(self.encode_images(x))

    @final
    def answers(self, x: Tensor, labels: Tensor) -> Answers:
        """The images, their classes and their reconstructions from the deterministic code."""
        # A copy: a network that works in place is not to be compared with what it made of them.
        return {"images": x, "labels": labels, "reconstructions": self.reconstruct(x.clone())}

    @final
    def snapshot(self, x: Tensor) -> Tensor:
        """Reconstructions, which show how they sharpen during training."""
        return self.reconstruct(x)


class Classifier(ImageModel):
    """An image classifier: features (the layer before the last), and a head that gives logits.

    Images are normalised by the mean and standard deviation of Fashion-MNIST's pixels, as in the
    origin, for every data set: this only sets the scale of the first layer.
    """

    watched: ClassVar[tuple[str, ...]] = ("accuracy", "cross_entropy")
    mean: ClassVar[float] = 0.2860
    std: ClassVar[float] = 0.3530

    def __init__(self, image_shape: ImageShape, classes: int) -> None:
        super().__init__(image_shape)
        self.classes = classes

    @property
    @abstractmethod
    def feature_size(self) -> int:
        """How many numbers `features` gives per image."""

    @property
    def sizes(self) -> dict[str, float]:
        """The number of classes, and the size of the features."""
        return {"classes": float(self.classes), "feature_size": float(self.feature_size)}

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) -> features (N, feature_size)."""

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Features (N, feature_size) -> logits (N, classes)."""

    def augment(self, x: Tensor) -> Tensor:
        """What the network sees in training instead of `x`, both in [0, 1]."""
        return x

    @final
    def features(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> features (N, feature_size)."""
        return self.embed(self.padded((x - self.mean) / self.std))

    @final  # type: ignore[misc]  # torch declares forward as an attribute
    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> logits (N, classes)."""
        return self.classify(self.features(self.augment(x) if self.training else x))

    @final
    def loss(self, x: Tensor, labels: Tensor) -> ClassificationLoss:
        """Mean cross-entropy in nats of images in [0, 1] with classes `labels` (N,), int64."""
        logits: Tensor = self(x)
        hits = (logits.detach().argmax(dim=1) == labels).float().mean()
        return ClassificationLoss(functional.cross_entropy(logits, labels), hits)

    @final
    @torch.no_grad()
    def answers(self, x: Tensor, labels: Tensor) -> Answers:
        """The images, their classes and the logits (N, classes)."""
        return {"images": x, "labels": labels, "logits": self(x)}


class ClosedFormAutoencoder(Autoencoder):
    """A variant solved in closed form, without training: equal images give equal weights."""

    any_sides = True

    @property
    def learned_numbers(self) -> int:
        """How many numbers `fit` solves for: buffers, which get no gradient."""
        return sum(buffer.numel() for buffer in self.buffers())

    @abstractmethod
    def fit(self, images: Tensor) -> None:
        """Solve for the weights on training images (N, C, H, W), uint8."""
