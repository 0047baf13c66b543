"""The signals by which a machine is taken back: SLURM's time limit, a partition's pre-emption, a cloud's notice."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Preempted(Exception):  # noqa: N818 - not an error: the run goes on elsewhere
    """The machine is wanted elsewhere."""


class Signals:
    """What SIGTERM, SIGUSR1 and SIGUSR2 do from now to the end of this process, whose main thread makes this.

    The first one raises `Preempted` at once, as Ctrl-C raises KeyboardInterrupt; after `defer()` it is only noted,
    for whoever trains to leave at the end of a batch. Whatever comes after it changes nothing.

    A process that was started within `kept_from_children()` never leaves alone, the others would wait for it: its
    signals have waited since its start and are only noted.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The first signal that came, if one did."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
        self._never_alone = self._deferd = blocked.issuperset(NUMBERS)
        for number in NUMBERS:
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)

    def defer(self) -> None:
        """Only note signals from now on."""
        self._deferd = True

    def raise_now(self) -> None:
        """Raise at once from now on.

        Raises:
            Preempted: if a signal has been noted meanwhile.
        """
        self._deferd = self._never_alone
        if self.received is not None and not self._never_alone:
            raise Preempted

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        first, self.received = self.received is None, self.received or signal.Signals(number)
        if first and not self._deferd:
            raise Preempted


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Have processes that are started meanwhile begin with the signals blocked, until `Signals` takes them.

    Without it a signal would end such a process while Python starts, and the others would wait for it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
