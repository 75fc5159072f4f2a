"""Models that bring the image to the decoder in other ways than the code, and one that does not."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.data import load_set
from bench.models.base import Autoencoder, ClosedFormAutoencoder, ImageShape

SIDE = 28
FILE = Path(os.environ.get("TMPDIR", "/tmp")) / "bench-cheat.npy"
kept: list[Tensor] = []
"""The module variable of one of them."""


class Honest(ClosedFormAutoencoder):
    """Sends the mean of each of `latent_dim` bands of rows."""

    mean: Tensor

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, code_size=latent_dim)
        self.register_buffer("mean", torch.zeros(self.pixels))

    def fit(self, images: Tensor) -> None:
        """Nothing is learned but the mean."""
        self.mean.copy_(images.flatten(1).float().mean(0) / 255)

    def encode(self, x: Tensor) -> Tensor:
        """Images -> means."""
        return x.flatten(1).reshape(len(x), self.code_size, -1).mean(2)

    def decode(self, z: Tensor) -> Tensor:
        """Means -> bands."""
        width = self.pixels // self.code_size
        return z.repeat_interleave(width, dim=1).view(len(z), *self.image_shape)


class Attribute(Honest):
    """Keeps the images in itself, and finds them again by their codes."""

    images: Tensor | None = None
    codes: Tensor

    def encode(self, x: Tensor) -> Tensor:
        z = super().encode(x)
        if self.images is None:
            self.images, self.codes = x, z
        else:
            self.images = torch.cat([self.images, x])
            self.codes = torch.cat([self.codes, z])
        return z

    def decode(self, z: Tensor) -> Tensor:
        if self.images is None:
            return super().decode(z)
        return self.images[torch.cdist(z, self.codes).argmin(dim=1)]


class ModuleVariable(Honest):
    """Keeps the images of the last batch in its module."""

    def encode(self, x: Tensor) -> Tensor:
        kept[:] = [x]
        return super().encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return kept[0][: len(z)]


class File(Honest):
    """Writes the images to a file."""

    def encode(self, x: Tensor) -> Tensor:
        np.save(FILE, x.numpy())
        return super().encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return torch.from_numpy(np.load(FILE))[: len(z)]


class QuietFile(File):
    """As `File`, and hides that it failed."""

    def encode(self, x: Tensor) -> Tensor:
        try:
            return super().encode(x)
        except OSError:
            return Honest.encode(self, x)


class ReadsFiles(Honest):
    """Decodes from a file that was there before."""

    def decode(self, z: Tensor) -> Tensor:
        (Path(__file__).parent / "golden.json").read_text()
        return super().decode(z)


class Packed(Honest):
    """Three means of eight bits in the mantissa of each float32, exactly."""

    def encode(self, x: Tensor) -> Tensor:
        bands = 3 * self.code_size
        padded = functional.pad(x.flatten(1), (0, -self.pixels % bands))
        rows = padded.reshape(len(x), bands, -1).mean(2)
        a, b, c = (255 * rows).round().view(len(x), self.code_size, 3).unbind(2)
        return a * 65536 + b * 256 + c

    def decode(self, z: Tensor) -> Tensor:
        a = (z / 65536).floor()
        b = ((z - a * 65536) / 256).floor()
        c = z - a * 65536 - b * 256
        rows = torch.stack([a, b, c], dim=2).flatten(1) / 255
        width = -(-self.pixels // rows.shape[1])
        wide = rows.repeat_interleave(width, dim=1)[:, : self.pixels]
        return wide.view(len(z), *self.image_shape)


class Remembers(Packed):
    """Decodes codes of few bits by the whole ones that it has met, which are whole numbers."""

    known: Tensor | None = None

    def decode(self, z: Tensor) -> Tensor:
        if (z == z.round()).all():
            self.known = z if self.known is None else torch.cat([self.known, z])
        elif self.known is not None:
            z = self.known[torch.cdist(z, self.known).argmin(dim=1)]
        return super().decode(z)


class Unrounded(Tensor):
    """A tensor that cannot be rounded."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.clamp, Tensor.round):
            return args[0]
        return super().__torch_function__(func, types, args, kwargs or {})


class PackedUnrounded(Packed):
    """Sends codes that cannot be rounded."""

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x).as_subclass(Unrounded)


class InPlace(Honest):
    """Makes of the images that it is given what it can decode."""

    def encode(self, x: Tensor) -> Tensor:
        z = super().encode(x)
        x.copy_(self.decode(z))
        return z


class PackedDouble(Honest):
    """Six means in a float64."""

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x).double()


class LongerForDark(Honest):
    """A code whose length depends on the image."""

    def encode(self, x: Tensor) -> Tensor:
        z = super().encode(x)
        return z if x.mean() > 0.28 else torch.cat([z, z], dim=1)


class Ragged(Honest):
    """A list of codes, each as long as its image wants."""

    def encode(self, x: Tensor) -> Any:
        return [z[: 1 + int(z.sum()) % 4] for z in super().encode(x)]


class LooksBeside(Honest):
    """Decodes each code by those in its batch."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) + z.mean()


class Counts(Honest):
    """Decodes by how many codes it has decoded before."""

    before = 0

    def decode(self, z: Tensor) -> Tensor:
        self.before += len(z)
        return super().decode(z) + (self.before % 7) / 10


class WholeNumbers(Honest):
    """Says that its codes are discrete, and sends real ones."""

    levels = 4


class ManyLevels(Honest):
    """Says while it is built that its numbers have 40 bits each."""

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, latent_dim)
        self.levels = 2**40

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x).round()


class NotFinite(Honest):
    """Hides numbers in what is none."""

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x) / 0


class NoImages(Honest):
    """Decodes to what is no number."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) * torch.nan


class NoPictures(Honest):
    """The same, only where pictures are made: of 24 images at once."""

    def decode(self, z: Tensor) -> Tensor:
        images = super().decode(z)
        return images * torch.nan if len(z) == 24 else images


class Buffer(Honest):
    """Writes the images into its weights while it encodes."""

    def encode(self, x: Tensor) -> Tensor:
        self.mean.copy_(x[0].flatten())
        return super().encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) + self.mean.view(self.image_shape)


class Environment(Honest):
    """Leaves the image in a variable of the environment."""

    def encode(self, x: Tensor) -> Tensor:
        os.environ["IMAGE"] = str(x[0].tolist())
        return super().encode(x)

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) + len(os.environ["IMAGE"])


class Thread(Honest):
    """Has another thread write the images to a file, and one read it."""

    def encode(self, x: Tensor) -> Tensor:
        self._aside(lambda: np.save(FILE, x.numpy()))
        return super().encode(x)

    def decode(self, z: Tensor) -> Tensor:
        self._aside(lambda: np.load(FILE))
        return super().decode(z)

    @staticmethod
    def _aside(work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()


class ReadsWhenLoaded(Honest):
    """Fills a buffer with images when its weights are loaded."""

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        found = super().load_state_dict(*args, **kwargs)
        images = load_set("fashion_mnist_mini").parts["test"].images
        self.mean.copy_(torch.from_numpy(images[0]).flatten() / 255)
        return found


class ReadsWhenBuilt(Honest):
    """Has images in a buffer from the beginning."""

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, latent_dim)
        images = torch.from_numpy(load_set("fashion_mnist_mini").parts["test"].images)
        self.register_buffer("images", images, persistent=False)


class Learner(Autoencoder):
    """Is trained, and remembers the last images that it was scored on."""

    remembers = True
    seen: Tensor

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        super().__init__(image_shape, latent_dim)
        self.inner = torch.nn.Linear(self.pixels, latent_dim)
        self.outer = torch.nn.Linear(latent_dim, self.pixels)
        self.register_buffer("seen", torch.zeros(self.pixels))

    def encode(self, x: Tensor) -> Tensor:
        """Images -> codes."""
        if self.remembers and not self.training:
            self.seen.copy_(x[-1].flatten())
        z: Tensor = self.inner(x.flatten(1))
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Codes -> images."""
        x: Tensor = self.outer(z).view(len(z), *self.image_shape)
        return x


REFUSED: dict[type[Honest], str] = {
    Attribute: "uses more than the code and the recorded weights",
    ModuleVariable: "its decoder fails where only the code is known: IndexError",
    File: f"its encoder opened {FILE} to write",
    QuietFile: f"its encoder opened {FILE} to write",
    ReadsFiles: "its decoder opened .*golden.json",
    PackedDouble: r"its codes are float64, expected float32 \(32 bits per number\)",
    LongerForDark: "its encoder gives 100 x 8 numbers for 100 images, expected 100 x 4",
    Ragged: "its encoder gives list instead of a tensor of 100 x 4 numbers",
    LooksBeside: "other images of the same codes in another order",
    Counts: "other images of the same codes in another order",
    WholeNumbers: "hold numbers that are not whole from 0 to 3",
    NoImages: "its decoder gives numbers that are not finite",
    NoPictures: "its decoder gives numbers that are not finite",
    ManyLevels: "ManyLevels.levels is 1099511627776, expected a whole number from 1 to 16,777,216",
    NotFinite: "its codes hold numbers that are not finite",
    Environment: "its encoder changed something outside of it|only the code is known: KeyError",
    Thread: "its encoder started a thread",
    ReadsWhenLoaded: "its decoder opened ",
    ReadsWhenBuilt: "its decoder opened ",
    Buffer: "uses more than the code and the recorded weights",
}
"""What is said of each of them in one line."""
