"""Functions and classes named in tables and imported when they are first called.

The tables of variants and metrics are read by every command; what their rows name needs torch,
which takes seconds and 600 MB to import.
"""

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lazy:
    """The function or class `name` of `module`; called like it."""

    module: str
    name: str

    def load(self) -> Any:
        """The function or class itself; ImportError or AttributeError where there is none."""
        return getattr(importlib.import_module(self.module), self.name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)
