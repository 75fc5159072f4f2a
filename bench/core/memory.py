"""The memory that a long process has freed, given back to the system."""

import ctypes
import gc
import platform


def return_freed_memory() -> None:
    """Give freed blocks back: the C library keeps them, and what one result after the other leaves
    adds up. Takes milliseconds; other C libraries than glibc have no such call."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
