"""What encoding and decoding cost, on the machine that measures: times, memory, bytes of weights.

Times differ between machines and between runs: they are shown, never compared or verified.
"""

import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from bench.core.protocol import EvaluationConfig
from bench.metrics.seen import Network, Seen

LARGE = 256
_WARM_UP, _TIMES = 2, {1: 20, LARGE: 5}


def speed(what: str, batch: int, seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Images per second of "encoding" or "decoding" with so many images at a time: from the median
    of 20 passes of a single image, of 5 passes of 256, after 2 others."""
    model = seen.model
    images = _images(seen, model, batch)
    codes = model.encode_images(images)
    if what == "encoding":
        return _speed(lambda: model.encode_images(images), images)
    return _speed(lambda: model.decode_images(codes), images)


def peak_memory(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Bytes of the tensors that are there at once, at most, while 256 images are encoded and
    decoded: images, weights, codes and all between them.

    Counted by tensor, so the same on every machine; what a library takes inside an operation is not
    in it.
    """
    model = seen.model
    images = _images(seen, model, LARGE)
    with LiveBytes() as live:
        found = model.decode_images(model.encode_images(images))
    assert len(found) == len(images)
    held = _bytes(images) + sum(map(_bytes, model.state_dict().values()))
    return torch.tensor(float(live.peak + held), dtype=torch.float64)


def weight_bytes(seen: Seen, _config: EvaluationConfig) -> Tensor:
    """Bytes of all weights and statistics of the network, as they are stored."""
    total = sum(map(_bytes, seen.model.state_dict().values()))
    return torch.tensor(float(total), dtype=torch.float64)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that operations make while it is entered: `now`, and the `peak`.

    A storage counts once, from the operation that makes it until the last tensor lets it go.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here: without this torch's compiler is imported, 110 MB."""
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation; count the storages of its results that are new."""
        given = {
            each.untyped_storage()._cdata
            for each in tree_flatten((args, kwargs))[0]
            if isinstance(each, Tensor)
        }
        results = func(*args, **(kwargs or {}))
        for each in tree_flatten(results)[0]:
            if not isinstance(each, Tensor):
                continue
            storage = each.untyped_storage()
            if storage._cdata not in given | self._known:
                self._known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return results

    def _freed(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self.now -= size


def _images(seen: Seen, model: Network, batch: int) -> Tensor:
    """So many images on the model's device, in its memory layout; a small part is repeated."""
    places = torch.arange(batch) % len(seen.images)
    weights = next(iter(model.state_dict().values()))
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    return seen.images[places].to(weights.device).contiguous(memory_format=layout)


def _speed(work: Callable[[], Tensor], images: Tensor) -> Tensor:
    seconds = []
    for turn in range(_WARM_UP + _TIMES[len(images)]):
        begun = time.perf_counter()
        work()
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        if turn >= _WARM_UP:
            seconds.append(time.perf_counter() - begun)
    return len(images) / torch.tensor(seconds, dtype=torch.float64).median()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
