"""Keeps the memory of large tensors between the steps of a run instead of handing it back to the kernel each time.

By default glibc's malloc maps each large block anew and unmaps it when it is freed, and each page of it costs a fault
when it is first touched: a GRU's step at IMDB's lengths took 22,500 faults so, and 17 % more time than without them.
The settings are those of `man mallopt`: M_MMAP_MAX (large blocks come from the heap) and M_TRIM_THRESHOLD (the heap's
end is kept). What a run needs at its peak (0.9 GB with the defaults) stays with the process until it ends.
"""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of the settings in glibc's malloc.h."""

OFF = "TEXTRNN_ALLOCATOR"
"""Environment variable: `TEXTRNN_ALLOCATOR=system` leaves malloc as it is."""


def keep_freed_memory() -> bool:
    """Sets glibc's malloc, for this process, to keep what is freed; returns whether it did.

    Does nothing where the C library is another one, or where the user has set malloc already: by `TEXTRNN_ALLOCATOR=
    system`, by any variable MALLOC_..._, by GLIBC_TUNABLES for malloc, or by loading another allocator with LD_PRELOAD.
    """
    if os.environ.get(OFF) == "system" or _is_set_by_user():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def _is_set_by_user() -> bool:
    return (
        any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
        or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
        or "malloc" in os.environ.get("LD_PRELOAD", "")
    )
