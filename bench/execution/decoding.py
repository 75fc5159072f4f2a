"""Decoding in a process apart, which knows the weights and the codes and has seen no image.

A score must depend on the code alone. So whoever scores an autoencoder encodes the images, and
another Python interpreter builds the network again, loads its weights and decodes: an image that
the encoder left in the model, in a variable or in memory is not there. It is a fresh interpreter
and no copy of this process, whose memory holds the images. It is started when the first model is
scored, kept for the next ones (importing torch takes 2 s), and ends with the process that started
it, because its end of the pipe closes.

Messages are bytes: JSON of plain values, safetensors, and the numbers of codes and images.
"""

import atexit
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor

from bench.core.errors import BenchError, CheckFailed
from bench.core.spec import RunSpec
from bench.evaluation.codes import Decode, from_bytes, to_bytes
from bench.evaluation.sealed import sealed
from bench.execution.local import cause_of_end, deaf_to
from bench.execution.processor import prepare_torch
from bench.models.base import Autoencoder
from bench.models.zoo import constructed, variant
from bench.records.files import Arrays

_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from bench.execution.decoding import serve
serve(int(sys.argv[1]))
"""
_DONE, _FAILED = b"\0", b"\1"
_SECONDS_TO_END = 5.0


class DecoderLost(BenchError):
    """The process that decodes ended; the run can be repeated."""


def decoder_of(model: Autoencoder, spec: RunSpec, weights: Arrays) -> Decode:
    """A function that decodes codes as `model.decode_images` does, in the process apart.

    `weights`: those of `model`, as they are recorded. They are sent now, so that nothing that
    changes in the model later reaches the decoder. The function raises CheckFailed if the decoder
    fails or does what `sealed` forbids, DecoderLost if its process ends. One model at a time: the
    function of an earlier one must not be called any more.
    """
    process = _process()
    network = _described(model, spec)
    process.ask({"do": "take", **network, "device": spec.device}, save(dict(weights)))
    device = torch.device(spec.device)
    discrete = model.levels is not None

    def decode(codes: Tensor) -> Tensor:
        about = {"do": "decode", "count": len(codes), "discrete": discrete}
        images = process.ask(about, to_bytes(codes, discrete))
        numbers = np.frombuffer(images, "<f4").reshape(len(codes), *model.image_shape)
        return torch.from_numpy(numbers.copy()).to(device)

    return decode


def _described(model: Autoencoder, spec: RunSpec) -> dict[str, Any]:
    """What builds the network again: its class, and the arguments of the class.

    The class is the one that runs here already; no name of a file or record is imported.
    """
    network = type(model)
    if "<locals>" in network.__qualname__:
        raise CheckFailed(
            f"{network.__qualname__} is defined within a function; define it in a module, so that "
            "another process can build it to decode"
        )
    size = variant(spec.model).native_latent_dim if spec.latent_dim is None else spec.latent_dim
    file = getattr(sys.modules.get(network.__module__), "__file__", None)
    return {
        "class": {"module": network.__module__, "name": network.__qualname__, "file": file},
        "image_shape": model.image_shape,
        "size": size,
        "hyperparameters": dict(spec.hyperparameters),
        "seed": spec.seed,
        "threads": spec.threads,
    }


@dataclass
class _Process:
    """The other interpreter, and this end of the pipe to it."""

    pipe: Connection
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    owner: int = field(default_factory=os.getpid)

    @classmethod
    def start(cls) -> "_Process":
        ours, theirs = Pipe()
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        given = [str(theirs.fileno()), json.dumps(sys.path)]
        with deaf_to(signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen(
                [sys.executable, "-c", _START, *given],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        theirs.close()
        return cls(ours, process, errors)

    @property
    def usable(self) -> bool:
        """Whether it lives, and is not that of a process that this one was forked from."""
        return self.owner == os.getpid() and self.process.poll() is None and not self.pipe.closed

    def ask(self, about: Mapping[str, Any], content: bytes) -> bytes:
        """Send a request and wait for the answer; raises as the function of `decoder_of`."""
        try:
            self.pipe.send_bytes(json.dumps(about).encode())
            self.pipe.send_bytes(content)
            answer = self.pipe.recv_bytes()
        except (EOFError, OSError):
            raise DecoderLost(self._last_words()) from None
        except BaseException:  # Ctrl-C: the answer would be taken for that of the next request
            self.end()
            raise
        if answer[:1] == _FAILED:
            raise CheckFailed(answer[1:].decode())
        return answer[1:]

    def end(self) -> None:
        """Close the pipe, which ends it, and wait for that."""
        self.pipe.close()
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def _last_words(self) -> str:
        self.pipe.close()
        cause = cause_of_end(self.process.wait())
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        return f"the process that decodes its codes ended ({cause}){said}"


_started: list[_Process] = []


def _process() -> _Process:
    """The process of this one; started if there is none, or if it ended."""
    if not (_started and _started[0].usable):
        end_decoder()
        _started[:] = [_Process.start()]
    return _started[0]


@atexit.register
def end_decoder() -> None:
    """End the process of this one, if there is one; the next model starts another."""
    for process in _started:
        if process.owner == os.getpid() and not process.pipe.closed:
            process.end()
    _started.clear()


def serve(descriptor: int) -> None:
    """The main loop of the other interpreter, until the pipe is closed."""
    pipe = Connection(descriptor)
    decoder = _Decoder()
    with contextlib.suppress(EOFError, OSError):
        while True:
            about = json.loads(pipe.recv_bytes())
            content = pipe.recv_bytes()
            try:
                answer = _DONE + decoder.answer(about, content)
            except BenchError as error:
                answer = _FAILED + str(error).encode()
            except Exception as error:
                summary = " ".join(f"{type(error).__name__}: {error}".split())
                answer = (
                    _FAILED + f"its decoder fails where only the code is known: {summary}".encode()
                )
            pipe.send_bytes(answer)


class _Decoder:
    """The network in the other interpreter."""

    def __init__(self) -> None:
        self._model: Autoencoder | None = None
        self._device = torch.device("cpu")

    def answer(self, about: Mapping[str, Any], content: bytes) -> bytes:
        """Take a model, or decode codes with the one that was taken."""
        if about["do"] == "decode":
            with sealed("its decoder", "code"):
                return self._decode(about, content)
        prepare_torch(about["threads"])
        with sealed("its module", "libraries"):
            network = _class_of(**about["class"])
        with sealed("its decoder", "code"):
            self._take(network, about, load(content))
        return b""

    def _take(self, network: Any, about: Mapping[str, Any], weights: Arrays) -> None:
        self._model = None  # memory for one network
        torch.manual_seed(about["seed"])
        channels, height, width = about["image_shape"]
        shape = (channels, height, width)
        model = constructed(network, shape, about["size"], about["hyperparameters"])
        assert isinstance(model, Autoencoder)
        layout = torch.channels_last if model.channels_last else torch.contiguous_format
        model.to(memory_format=layout)
        model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        self._device = torch.device(about["device"])
        self._model = model.to(self._device).eval()

    def _decode(self, about: Mapping[str, Any], content: bytes) -> bytes:
        assert self._model is not None
        count, size = about["count"], self._model.code_size
        codes = from_bytes(content, count, size, about["discrete"]).to(self._device)
        images = self._model.decode_images(codes).float().contiguous().cpu()
        if tuple(images.shape) != (count, *self._model.image_shape):
            found = " x ".join(map(str, images.shape))
            raise CheckFailed(f"its decoder gives {found} for {count} codes")
        return images.numpy().astype("<f4", copy=False).tobytes()


def _class_of(module: str, name: str, file: str | None) -> Any:
    """The class `name` of a module; of `file`, where importing the module finds another one."""
    found: Any = _module(module, file)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _module(name: str, file: str | None) -> types.ModuleType:
    if name == "__main__":
        name = "__mp_main__"  # as for multiprocessing: the script's last part does not run again
    if name in sys.modules:
        return sys.modules[name]
    if file is None or _origin(name) == Path(file).resolve():
        return importlib.import_module(name)
    with _folder_first(file):
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


def _origin(name: str) -> Path | None:
    """The file that importing a module would read."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        return Path(spec.origin).resolve() if spec and spec.origin else None
    return None


@contextlib.contextmanager
def _folder_first(file: str) -> Iterator[None]:
    """A file finds its neighbours as a script does."""
    sys.path.insert(0, str(Path(file).parent))
    try:
        yield
    finally:
        sys.path.remove(str(Path(file).parent))
