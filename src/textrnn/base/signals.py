"""Signals that end a run early: pre-emption (SLURM's time limit, a cloud's notice, a closed terminal) and Ctrl-C."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT)
"""All of them; SIGINT is Ctrl-C, the others pre-empt."""
FROM_A_TERMINAL = (signal.SIGHUP, signal.SIGINT)
PREEMPTING = tuple(number for number in NUMBERS if number != signal.SIGINT)

NOTICE = b"\nthe run saves a checkpoint after this batch and ends; a second Ctrl-C ends it at once\n"


class Preempted(Exception):  # noqa: N818 - not an error: the run is resumed elsewhere
    """The run is pre-empted: the machine is needed elsewhere, or the terminal is closed."""


def is_ignored(number: signal.Signals) -> bool:
    """Return whether this process was started with a terminal's signal ignored: by `nohup`, or a script's `&`."""
    return number in FROM_A_TERMINAL and signal.getsignal(number) is signal.SIG_IGN


class Signals:
    """Handlers of `NUMBERS` until the end of this process; to be made in its main thread.

    The first signal raises at once: `Preempted`, or at Ctrl-C KeyboardInterrupt. After `defer()` it is only recorded,
    for training to end after a batch. Later signals are ignored, but a second Ctrl-C always raises KeyboardInterrupt.

    A process that was started within `kept_from_children()` never leaves alone, as the other ranks would wait for it:
    its signals are only recorded, from its start on. One that was started with `PREEMPTING` blocked records them until
    `raise_now()`.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The first signal that was received, if any."""
        self._interrupted = self._speaks = False
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
        self._never_alone, self._deferred = blocked.issuperset(NUMBERS), not blocked.isdisjoint(NUMBERS)
        for number in NUMBERS:
            if not is_ignored(number):
                signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)

    def defer(self, *, speaks: bool = False) -> None:
        """Only record signals from now on; if it `speaks`, Ctrl-C prints what a second one does."""
        self._deferred, self._speaks = True, speaks

    def raise_now(self) -> None:
        """Raise at once from now on.

        Raises:
            Preempted: if a signal was received while signals were deferred.
            KeyboardInterrupt: if that was Ctrl-C.
        """
        self._deferred, self._speaks = self._never_alone, False
        if self.received is not None and not self._never_alone:
            raise self._reason

    @property
    def _reason(self) -> BaseException:
        return KeyboardInterrupt() if self.received == signal.SIGINT else Preempted()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        first, self.received = self.received is None, self.received or signal.Signals(number)
        if number == signal.SIGINT:
            again, self._interrupted = self._interrupted, True
            if again:
                raise KeyboardInterrupt
            if self._speaks:  # by a system call: the signal may have come in the middle of a print
                with contextlib.suppress(OSError):
                    os.write(2, NOTICE)
        if first and not self._deferred:
            raise self._reason


@contextlib.contextmanager
def kept_from_children(numbers: Iterable[signal.Signals] = NUMBERS) -> Iterator[None]:
    """Block the signals in processes that are started meanwhile, until they make their own `Signals`.

    Otherwise a signal would end such a process while Python starts: the other ranks would wait for it, and W&B would
    count an agent's trial as crashed, which no agent gets again.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
