"""The signals by which a machine is taken back: SLURM's time limit, a partition's pre-emption, a cloud's notice."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

NUMBERS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Preempted(Exception):  # noqa: N818 - not an error: the run goes on elsewhere
    """The machine is wanted elsewhere."""


class Signals:
    """What SIGTERM, SIGUSR1 and SIGUSR2 do while a run lasts; a context manager, for the main thread.

    The first one raises `Preempted` at once, as Ctrl-C raises KeyboardInterrupt; within `deferred()` it is only noted,
    for whoever trains to leave at the end of a batch. Whatever comes after it changes nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._deferred = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in NUMBERS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def take(self) -> None:
        """Take the signals again from a library that has registered handlers of its own."""
        for number in NUMBERS:
            signal.signal(number, self._note)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note signals meanwhile."""
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        first, self.received = self.received is None, self.received or signal.Signals(number)
        if first and not self._deferred:
            raise Preempted
