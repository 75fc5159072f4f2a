from pathlib import Path

from bench.data.content import ImageSet
from bench.errors import BadInput


def load_npz(path: Path, name: str) -> ImageSet:
    raise BadInput(f"{path}: {name}")
