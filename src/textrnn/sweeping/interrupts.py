"""Ctrl-C and SIGTERM: told to the trials once, which then leave a checkpoint; a second Ctrl-C ends them at once."""

import signal
from collections.abc import Iterable
from types import FrameType
from typing import Any, Protocol, Self

from textrnn import exit_codes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signalled(Protocol):
    """What can be sent a signal."""

    def send(self, number: signal.Signals) -> None:
        """Sends it."""


class Interrupts:
    """Notes the signals while inside."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        """The first signal that came; None before."""
        self._times = 0
        self._passed_on = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """What the shell is told."""
        return exit_codes.INTERRUPTED if self.asked == signal.SIGINT else exit_codes.PREEMPTED

    def pass_on(self, processes: Iterable[Signalled]) -> None:
        """Tells the processes what has come since the last call."""
        if self._passed_on == self._times:
            return
        # SIGTERM for Ctrl-C too: a run that is pre-empted leaves a checkpoint of its last batch.
        number = signal.SIGTERM if self._passed_on == 0 and self._times == 1 else signal.SIGKILL
        if number == signal.SIGTERM:
            print("the trials write their checkpoints and end; once more ends them at once", flush=True)
        self._passed_on = self._times
        for process in processes:
            process.send(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.asked = self.asked or signal.Signals(number)
        self._times += 1
