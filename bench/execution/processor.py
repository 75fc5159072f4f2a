"""Settings of torch in a process that trains, scores or decodes."""

import ctypes
import functools
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_INT = 2**31 - 1


def prepare_torch(threads: int) -> None:
    """Set the threads of this process and flush denormal numbers to 0.

    Adam's moments of a dead unit decay into denormals, which processors handle many times
    slower; next to Adam's eps of 1e-8 they change no weight.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    _keep_freed_memory()


@functools.cache
def _keep_freed_memory() -> None:
    """Make the C library reuse large blocks instead of returning them to the system.

    Feature maps of a batch are blocks of 10 MB, allocated and freed in every step. By default
    each is mapped again and cleared page by page, a quarter of the time of `conv_baseline_ae`.
    Results do not change. Only glibc has this setting (mallopt(3)).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for setting in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        library.mallopt(setting, _LARGEST_INT)
