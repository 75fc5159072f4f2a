"""Checkpoints of interrupted trainings: one safetensors file, nothing pickled.

Holds the weights, the best weights so far, the optimiser's state, the random state (it draws the
noise of variational codes and dropout) and, as JSON in the file's metadata, the history and
a digest of all of it: a flipped bit would otherwise become another result.
"""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from bench.core.paths import regular
from bench.core.spec import EpochValues
from bench.core.store import write_atomically
from bench.core.strict import adapter

_METADATA = {"scalars", "history"}
_EARLIER = "groups"
"""The recipe of the optimiser, which files of earlier versions repeat."""
_SEAL = "digest"
_HISTORY = adapter(tuple[EpochValues, ...])


@dataclass(frozen=True)
class Checkpoint:
    """A training at the end of an epoch; `optimizer` is the `state_dict` of `FusedAdam`."""

    weights: Mapping[str, Tensor]
    best_weights: dict[str, Tensor]
    optimizer: Mapping[int, Mapping[str, Tensor]]
    snapshots: dict[int, Tensor]
    history: tuple[EpochValues, ...]
    scalars: Mapping[str, float]
    random: Mapping[str, Tensor]
    """States of the generators that draw noise, by device: `cpu`, `cuda`."""


def global_random() -> dict[str, Tensor]:
    """The states of torch's global generators."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_global_random(states: Mapping[str, Tensor]) -> None:
    """Put torch's global generators where `global_random` found them."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically."""
    tensors = {
        **{f"weights/{key}": value for key, value in checkpoint.weights.items()},
        **{f"best/{key}": value for key, value in checkpoint.best_weights.items()},
        **{f"snapshots/{key}": value for key, value in checkpoint.snapshots.items()},
        **{f"random/{key}": value for key, value in checkpoint.random.items()},
    }
    for index, slots in checkpoint.optimizer.items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in slots.items()}
    scalars = {k: v for k, v in checkpoint.scalars.items() if math.isfinite(v)}
    metadata = {
        "scalars": json.dumps(scalars),
        "history": _HISTORY.dump_json(checkpoint.history).decode(),
    }
    packed = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    metadata[_SEAL] = _digest(packed, metadata)
    write_atomically(path, save_safetensors(packed, metadata))


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of the content, whatever its order in the file."""
    sha = hashlib.sha256()
    for key in sorted(metadata):
        sha.update(f"{key}={metadata[key]};".encode())
    for key in sorted(tensors):
        value = tensors[key]
        sha.update(f"{key} {value.dtype} {tuple(value.shape)};".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None if there is no usable one.

    A damaged file is removed with a warning: training restarts, which costs time but no result.
    Files of earlier versions have no digest. CheckFailed for what is no file.
    """
    regular(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError) as error:
        _remove(path, str(error))
        return None
    seal = metadata.pop(_SEAL, "")
    if metadata.keys() - {_EARLIER} != _METADATA or (seal and seal != _digest(tensors, metadata)):
        _remove(path, "its content does not match its digest")
        return None
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimizer").items():
        index, slot = name.split("/", 1)
        state.setdefault(int(index), {})[slot] = value
    scalars = json.loads(metadata["scalars"])
    return Checkpoint(
        weights=_under(tensors, "weights"),
        best_weights=_under(tensors, "best"),
        optimizer=state,
        snapshots={int(key): value for key, value in _under(tensors, "snapshots").items()},
        history=_HISTORY.validate_json(metadata["history"]),
        scalars={"best_score": math.nan, **scalars},
        random=_under(tensors, "random"),
    )


def _remove(path: Path, why: str) -> None:
    logging.getLogger(__name__).warning("%s is damaged (%s); starting again", path, why)
    path.unlink(missing_ok=True)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose key starts with `prefix/`, without it."""
    start = f"{prefix}/"
    return {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
