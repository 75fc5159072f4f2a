"""Functions and classes that are named in tables and imported on first use.

Every command reads the tables of variants and metrics; the named functions need torch,
which takes seconds and 600 MB to import.
"""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lazy:
    """The function or class `name` of `module`; call it like the original."""

    module: str
    name: str

    def load(self) -> Any:
        """The function or class itself; ImportError or AttributeError if there is none."""
        return getattr(importlib.import_module(self.module), self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)
