"""This process and its system: memory allocator, threads, cores, quick imports, time limits, work done ahead."""

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import ModuleType
from typing import TypeVar

from textrnn.base.files import writable_cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of the settings in glibc's malloc.h."""

OFF = "TEXTRNN_ALLOCATOR"
"""Environment variable: `TEXTRNN_ALLOCATOR=system` leaves malloc as it is."""


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep freed memory in this process; return whether it does.

    By default glibc's malloc maps each large block and unmaps it when it is freed, so each page of it costs a page
    fault on first use: a GRU's step at IMDB's lengths took 22,500 faults and 17 % more time. The settings are those of
    `man mallopt`: M_MMAP_MAX (large blocks come from the heap) and M_TRIM_THRESHOLD (the heap's end is kept). The
    process keeps its peak memory until it ends: with the defaults 0.9 to 1.2 GB, depending on the seed, as now and then
    a large block finds no gap that is large enough.

    Does nothing with another C library, or if the user has configured malloc: by `TEXTRNN_ALLOCATOR=
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


SPIN_COUNT = "GOMP_SPINCOUNT"
"""Environment variable: how far an idle OpenMP thread counts before it sleeps."""


def let_idle_threads_sleep() -> None:
    """Make torch's threads sleep soon after their work, in this process and its children, unless the user has set this.

    In GCC's OpenMP, which torch uses on Linux, an idle thread counts to 300,000 before it sleeps: for some
    milliseconds it holds a core. The compiled recurrence has its own threads and needs that core right after torch's
    products: on two cores a training step at IMDB's lengths took 1.3 times as long for an RNN, 1.1 times for a GRU. At
    10,000, threads stay awake from one product to the next. The variables are described in libgomp's manual.

    OpenMP reads it once, when torch is imported; after that nothing changes.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(SPIN_COUNT, "10000")


def available_cores() -> int:
    """Return the number of cores that the process may run on (Linux, a SLURM job), else that of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


SIGNAL = "scipy.signal"


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Exempt what is imported inside (torch, Lightning and their imports) from Python's garbage collector.

    The collector scans all objects repeatedly during imports and once more at exit, although these half a million live
    until then: 0.7 s and 1.1 s of the 6 s that a run of a few steps took. 7 MB of garbage from the imports is never
    freed.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        _keep_objects()
        if was_enabled:
            gc.enable()


@functools.cache
def _keep_objects() -> None:
    """Exempt all objects from the collector, now and once more at the process's end."""
    gc.freeze()
    atexit.register(gc.freeze)


def import_torchmetrics() -> None:
    """Import torchmetrics, as Lightning does too, without scipy.signal; later imports of that get the real module.

    torchmetrics 1.x imports scipy.signal (0.6 s) only to restore a name for another package, wherever scipy is
    installed; the sweep engine needs scipy.
    """
    if SIGNAL in sys.modules:
        return
    # It imports matplotlib, which would warn of a home that can't be written.
    os.environ["MPLCONFIGDIR"] = os.environ.get("MPLCONFIGDIR") or writable_cache("matplotlib")
    sys.modules[SIGNAL] = stand_in = _Signal(SIGNAL)
    try:
        import torchmetrics  # noqa: F401 - for those who import it next
    finally:
        stand_in.leave()


class _Signal(ModuleType):
    """Stand-in for scipy.signal, which is imported when one of its attributes is accessed."""

    hamming = None

    def leave(self) -> None:
        """Make way for the real module."""
        if sys.modules.get(SIGNAL) is self:
            del sys.modules[SIGNAL]

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # looked up in any module, by `inspect` for example
            raise AttributeError(name)
        self.leave()
        return getattr(importlib.import_module(SIGNAL), name)


Answer = TypeVar("Answer")


def in_time(work: Callable[[], Answer], seconds: float) -> Answer:
    """Return what `work` returns or raise what it raises.

    `work` runs in a daemon thread, which can't keep this process from ending.

    Raises:
        TimeoutError: it has not returned within `seconds`; its thread keeps running.
    """
    answers: list[Answer] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    return answers[0]


Item = TypeVar("Item")
Result = TypeVar("Result")


def in_advance(
    function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int, threads: int = 1
) -> Generator[Result]:
    """`map(function, items)`, computed up to `ahead` items in advance.

    Items are taken in the caller's thread. An error in `function` is raised in place of its result. The threads end
    with the iteration, also if it is closed or dropped early.

    Args:
        function: Called in other threads.
        items: What it is called with, in order.
        ahead: Results that may be in progress or waiting besides the requested one.
        threads: Calls that run at once, if `ahead` is as large.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        results: deque[Future[Result]] = deque()
        for item in items:
            results.append(pool.submit(function, item))
            if len(results) > ahead:
                yield results.popleft().result()
        while results:
            yield results.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
