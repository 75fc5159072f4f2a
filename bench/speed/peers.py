"""The training loop of another suite on the same network, where that suite is installed."""

import contextlib
import importlib.util
import io
import logging
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from bench.models.base import Autoencoder


def pythae_is_here() -> bool:
    """Whether pythae can be imported: it is the optional extra `pythae`."""
    return importlib.util.find_spec("pythae") is not None


def pythae_rate(model: Autoencoder, images: Tensor, batch: int, seconds: float) -> float:
    """Images per second of pythae's `BaseTrainer`, in epochs of images (N, C, H, W), uint8.

    Its `AE` gets the encoder and decoder of `model`, so that only the loops differ; both use Adam
    on one thread of the CPU. Chadebec, Vincent and Allassonniere, "Pythae: unifying generative
    autoencoders in Python", NeurIPS 2022.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, AEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    encoder, decoder = _halves(model)
    network = AE(
        AEConfig(input_dim=model.image_shape, latent_dim=model.code_size), encoder, decoder
    )
    data = BaseDataset(images.float() / 255, images.new_zeros(len(images)))
    with (
        _silence(),
        tempfile.TemporaryDirectory(prefix="bench-speed-") as folder,
    ):
        config = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=batch, learning_rate=1e-3, no_cuda=True
        )
        trainer = BaseTrainer(network, data, training_config=config)
        trainer.prepare_training()
        seen, epoch, begun = 0, 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            epoch += 1
            trainer.train_step(epoch)
            seen += len(images)
        return seen / (time.perf_counter() - begun)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without its log and its progress bar, which would mix with our table."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _halves(model: Autoencoder) -> tuple[Any, Any]:
    """The model's encoder and decoder as pythae's classes of them."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    # Their bases are not typed.
    class _Encoder(BaseEncoder):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model: nn.Module = model

        def forward(self, x: Tensor) -> Any:
            return ModelOutput(embedding=model.encode(x))

    class _Decoder(BaseDecoder):  # type: ignore[misc, unused-ignore]
        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=model.decode(z))

    return _Encoder(), _Decoder()
