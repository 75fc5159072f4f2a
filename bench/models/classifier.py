"""Classifiers: the dense network of S0 and a small convolutional one."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.models.base import Classifier, ImageShape
from bench.models.layers import draw_glorot_uniform

WIDTHS = (512, 256, 128)


class MlpClassifier(Classifier):
    """S0's classifier: three hidden layers Linear-BatchNorm-ReLU-Dropout, Linear to the logits.

    Weights Xavier-uniform (Glorot and Bengio 2010), biases zero. 569,226 parameters for 10
    classes of 28x28 images. `dropout` is the share of hidden units set to zero in training.
    """

    any_sides = True

    def __init__(self, image_shape: ImageShape, classes: int, dropout: float = 0.3) -> None:
        super().__init__(image_shape, classes)
        layers: list[nn.Module] = []
        for inputs, outputs in zip((self.pixels, *WIDTHS[:-1]), WIDTHS, strict=True):
            hidden = (nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())
            layers += [*hidden, nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTHS[-1], classes)
        draw_glorot_uniform(self)

    @property
    def feature_size(self) -> int:
        """Width of the last hidden layer."""
        return WIDTHS[-1]

    def embed(self, x: Tensor) -> Tensor:
        """The output of the hidden layers."""
        embedded: Tensor = self.body(x.flatten(1))
        return embedded

    def classify(self, features: Tensor) -> Tensor:
        """The linear head."""
        logits: Tensor = self.head(features)
        return logits


FEATURES = 96
"""Channels of the last convolution, which is the feature size."""


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """3 x 3, batch norm, ReLU; the norm provides the bias."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


class CnnClassifier(Classifier):
    """Five convolutions with batch norm, global average pooling (Lin et al., ICLR 2014), Linear.

    Channels: 16, pool, 32, 32, pool, 64, pool, 96; few at full resolution, where convolutions
    cost most. 89,146 parameters for 10 classes of grey images of any size.

    In training each image is shifted by up to `shift` pixels per axis (pixels from outside are 0)
    and, with `mirror`, flipped left to right with probability 1/2: right for clothes, wrong for
    digits.
    """

    channels_last = True

    def __init__(
        self, image_shape: ImageShape, classes: int, shift: int = 1, mirror: bool = False
    ) -> None:
        super().__init__(image_shape, classes)
        self.shift = shift
        self.mirror = mirror
        self.body = nn.Sequential(
            *_convolution(image_shape[0], 16),
            nn.MaxPool2d(2),
            *_convolution(16, 32),
            *_convolution(32, 32),
            nn.MaxPool2d(2),
            *_convolution(32, 64),
            nn.MaxPool2d(2),
            *_convolution(64, FEATURES),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(FEATURES, classes)

    @property
    def feature_size(self) -> int:
        """Channels of the last convolution."""
        return FEATURES

    def embed(self, x: Tensor) -> Tensor:
        """The output of the convolutions, averaged over positions."""
        embedded: Tensor = self.body(x)
        return embedded

    def classify(self, features: Tensor) -> Tensor:
        """The linear head."""
        logits: Tensor = self.head(features)
        return logits

    def augment(self, x: Tensor) -> Tensor:
        """Shift each image at random and, if `mirror` is set, flip it at random."""
        if self.mirror:
            drawn = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            x = torch.where(drawn, x.flip(3), x)
        return _moved(x, self.shift) if self.shift else x


def _moved(x: Tensor, shift: int) -> Tensor:
    """Images (N, C, H, W), each shifted by -shift to shift pixels down and to the right."""
    count, channels, height, width = x.shape
    padded = functional.pad(x, (shift,) * 4)
    drawn = torch.randint(0, 2 * shift + 1, (2, count, 1), device=x.device)
    rows = (drawn[0] + torch.arange(height, device=x.device)).view(count, 1, height, 1)
    columns = (drawn[1] + torch.arange(width, device=x.device)).view(count, 1, 1, width)
    images = torch.arange(count, device=x.device).view(count, 1, 1, 1)
    planes = torch.arange(channels, device=x.device).view(1, channels, 1, 1)
    return padded[images, planes, rows, columns].contiguous(memory_format=torch.channels_last)
