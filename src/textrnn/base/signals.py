"""Signals of pre-emption: SLURM's time limit, pre-emption by a partition or a cloud, a closed terminal."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class Preempted(Exception):  # noqa: N818 - not an error: the run is resumed elsewhere
    """The run is pre-empted: the machine is needed elsewhere."""


class Signals:
    """Handlers of the signals `NUMBERS` until the end of this process; to be made in its main thread.

    The first signal raises `Preempted` at once, as Ctrl-C raises KeyboardInterrupt; after `defer()` it is only
    recorded, for training to end after a batch. Later signals are ignored.

    A process that was started within `kept_from_children()` never leaves alone, as the other ranks would wait for it:
    its signals are only recorded, from its start on.

    SIGHUP, which nohup has ignored, stays ignored. It says that the terminal is gone, to which nothing is written then.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The first signal that was received, if any."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
        self._never_alone = self._deferred = blocked.issuperset(NUMBERS)
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        for number in NUMBERS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)

    def defer(self) -> None:
        """Only record signals from now on."""
        self._deferred = True

    def raise_now(self) -> None:
        """Raise `Preempted` at once from now on.

        Raises:
            Preempted: if a signal was received while signals were deferred.
        """
        self._deferred = self._never_alone
        if self.received is not None and not self._never_alone:
            raise Preempted

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGHUP:
            for descriptor in self._terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        first, self.received = self.received is None, self.received or signal.Signals(number)
        if first and not self._deferred:
            raise Preempted


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Block the signals in processes that are started meanwhile, until they make their own `Signals`.

    Otherwise a signal would end such a process while Python starts, and the other ranks would wait for it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
