"""Imports torch, Lightning and what they bring, half a million objects, without what takes time for nothing.

Python's garbage collector looks through all objects again and again while they are made, and once more before the
process ends, although these stay until then: 0.7 and 1.1 of the 6 seconds that a run of a few steps took.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

SIGNAL = "scipy.signal"


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Imports inside are not looked through for garbage; what a process's first ones leave never is.

    7 MB of that is garbage, and stays.
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
    """Has the collector pass over all objects there are and, at the process's end, over all that are there then."""
    gc.freeze()
    atexit.register(gc.freeze)


def import_torchmetrics() -> None:
    """Imports it, as Lightning does too, without scipy.signal; whoever imports that later gets the real one.

    torchmetrics 1.x imports scipy.signal, in 0.6 seconds, only to give it a name that another package once missed. It
    does so where there is scipy, and the sweep engine needs scipy.
    """
    if SIGNAL in sys.modules:
        return
    sys.modules[SIGNAL] = stand_in = _Signal(SIGNAL)
    try:
        import torchmetrics  # noqa: F401 - for those who import it next
    finally:
        stand_in.leave()


class _Signal(ModuleType):
    """Stands for scipy.signal, which is imported after all if something of it is asked for."""

    hamming = None

    def leave(self) -> None:
        """Make room for the real one."""
        if sys.modules.get(SIGNAL) is self:
            del sys.modules[SIGNAL]

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what any module may be asked, by `inspect` for example
            raise AttributeError(name)
        self.leave()
        return getattr(importlib.import_module(SIGNAL), name)
