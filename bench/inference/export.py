"""Encoder and decoder of a trained autoencoder as ONNX files, for programs without bench or torch.

Opset and exporter are torch's (`torch.onnx.export`, built on `torch.export`); ONNX Runtime then
runs both files against the network, with several batch sizes.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.errors import BadInput, CheckFailed
from bench.core.store import write_atomically, writing_to
from bench.models.base import Autoencoder
from bench.registry.loading import LoadedModel

TOLERANCE = 1e-5
"""The largest distance between torch and ONNX Runtime; for codes beyond 1, of the largest one."""
_BATCHES = (1, 3, 16)


@dataclass(frozen=True)
class Exported:
    """Two files, and the largest distance from torch that was seen, for codes and for images."""

    encoder: Path
    decoder: Path
    code_error: float
    image_error: float


class _Encoder(nn.Module):
    """Images (N, C, H, W) in [0, 1] -> codes."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Codes (N, code_size)."""
        return self.model.encode_images(images)


class _Decoder(nn.Module):
    """Codes -> images (N, C, H, W) in [0, 1]."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        """Images in [0, 1], clipped."""
        return self.model.decode_images(codes)


def export_onnx(model: LoadedModel, folder: Path) -> Exported:
    """Write `<variant>-d<size>-encoder.onnx` and `-decoder.onnx` into a folder, which is
    made if it is not there.

    The encoder takes `images` (N, C, H, W), float32 in [0, 1], and gives `codes` (N, code_size);
    the decoder the other way round, with images in [0, 1]. N is free. Raises BadInput without the
    packages of the extra `onnx`, for a model without a code and for one that torch cannot export,
    CheckFailed if ONNX Runtime gives other values than torch; then nothing is written.
    """
    _require_packages()
    if not model.code_size:
        raise BadInput(f"{model.title} has no code, so there is nothing to encode or decode")
    network = model.network
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(max(_BATCHES), *model.image_shape, generator=generator)
    codes = network.encode_images(images)
    about = json.dumps({"model": model.title, "image_shape": model.image_shape})
    encoder = _exported(_Encoder(network), images, "images", "codes", about)
    decoder = _exported(_Decoder(network), codes, "codes", "images", about)
    code_error = _distance(encoder, _Encoder(network), images, "images")
    image_error = _distance(decoder, _Decoder(network), codes, "codes")
    if max(code_error, image_error) > TOLERANCE:
        raise CheckFailed(
            f"the ONNX files of {model.title} give other values than torch (codes differ by "
            f"{code_error:.2g}, images by {image_error:.2g}, allowed is {TOLERANCE:g}); nothing "
            "was written; another version of onnxruntime may help"
        )
    stem = f"{model.spec.model}-d{model.code_size}"
    paths = folder / f"{stem}-encoder.onnx", folder / f"{stem}-decoder.onnx"
    with writing_to("the ONNX files", folder, "--out"):
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, (encoder, decoder), strict=True):
            write_atomically(path, content)
    return Exported(*paths, code_error, image_error)


def _require_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError:
            raise BadInput(
                f"bench export needs the package {name}; install it with: pip install "
                "'autoencoder-bench[onnx]' (in a clone: pip install -e '.[onnx]')"
            ) from None


def _exported(network: nn.Module, example: Tensor, given: str, answer: str, about: str) -> bytes:
    """The bytes of an ONNX file with a free batch size."""
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                network.eval(),
                (example,),
                input_names=[given],
                output_names=[answer],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # torch's exporter has many kinds of failure
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"torch cannot export this variant to ONNX ({reason})") from None
    proto = program.model_proto
    proto.doc_string = about
    stream = io.BytesIO()
    stream.write(proto.SerializeToString())
    return stream.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks of its own workings on stdout and in warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _distance(content: bytes, network: nn.Module, values: Tensor, given: str) -> float:
    """The largest distance between ONNX Runtime and torch over several batch sizes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = 0.0
    for count in _BATCHES:
        with torch.no_grad():
            wanted = network(values[:count]).numpy()
        (found,) = session.run(None, {given: values[:count].numpy()})
        scale = max(1.0, float(np.abs(wanted).max()))
        largest = max(largest, float(np.abs(found - wanted).max()) / scale)
    return largest
