"""The processes of trials: their commands, signals, and what their end means."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, Self

from textrnn.base import exits as exits
from textrnn.base.errors import InputError
from textrnn.base.files import FileLock
from textrnn.config.overrides import CONF_DIR
from textrnn.sweeping.checks import arguments
from textrnn.sweeping.sweep_file import PROGRAM, Sweep
from textrnn.tracking.summary import Status


@dataclass(kw_only=True, slots=True)
class Ended:
    """What is known of a process that is over."""

    exit_code: int | None
    """None for a process that another one started."""
    asked: bool = False
    """Whether all trials had been asked to end."""


def outcome(ended: Ended, *, said: str | None, early_stop: Path, last_words: str) -> tuple[Status, str | None]:
    """The trial's status and, for one that was stopped or failed, the reason.

    `said` is the status in the run's `summary.json`. A run that went on after an interruption may still have the old
    one, so that it only counts where the exit code doesn't contradict it.
    """
    code = ended.exit_code
    if code in (exits.DONE, None) and said == Status.FINISHED:
        return Status.FINISHED, None
    gently = code in (exits.DONE, exits.PREEMPTED, -signal.SIGTERM, None)
    if gently and early_stop.is_file():
        return Status.STOPPED, early_stop.read_text(encoding="utf-8").strip()
    if code == exits.DONE:
        reason = f"its summary says {said}" if said else "it left no summary.json"
        return Status.FAILED, f"it ended with exit code 0, but {reason}"
    if ended.asked or code == exits.INTERRUPTED:
        return Status.INTERRUPTED, None
    if code == exits.PREEMPTED or (code is None and said != Status.FAILED):
        return Status.PREEMPTED, None
    return Status.FAILED, last_words if code is None else f"exit code {code}: {last_words}"


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
        return exits.INTERRUPTED if self.asked == signal.SIGINT else exits.PREEMPTED

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


MESSAGE = re.compile(r"error: |[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b")
"""How a line begins that says why a process failed."""
AGAIN = b"\n--- the trial starts again ---\n"
"""What stands in a trial's log between two attempts."""
SIGNED = 'echo $$ > "$0"; exec "$@"'
"""A shell command that writes its pid to the file $0 and goes on, as the same process, as the command $@."""
SIGNED_WITHIN = 5.0
"""Seconds in which it has done so."""


class TrialProcess:
    """A trial's process, as long as its lock is held; the lock's file has its pid."""

    def __init__(self, pid: int | None, lock: Path, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self._lock = FileLock(lock)
        self._child = child

    @classmethod
    def start(cls, command: list[str], environment: Mapping[str, str], *, log: Path, lock: Path) -> "TrialProcess":
        """Starts a command; what it prints is appended to `log`.

        `lock` is inherited by the process alone, so that it is held until the process ends even if we are killed; and
        it is the process that writes its pid there, so that whoever finds it can end it, wherever we are killed.

        Raises:
            InputError: when one that was started with the same lock still runs.
        """
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f"{lock}: a process of an earlier sweep.py still runs; wait for its end.") from error
            os.ftruncate(descriptor, 0)  # an earlier process's pid may be somebody else's by now
            with log.open("ab") as output:
                child = subprocess.Popen(
                    ["/bin/sh", "-c", SIGNED, str(lock), *command],
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(descriptor,),
                    process_group=0,  # Ctrl-C comes to us alone; we pass it on once
                )
        finally:
            os.close(descriptor)
        return cls(child.pid, lock, child)

    @classmethod
    def find(cls, lock: Path) -> "TrialProcess | None":
        """The process that an earlier `sweep.py` left running; None where it has ended."""
        deadline = time.monotonic() + SIGNED_WITHIN
        while FileLock(lock).is_held():
            pid = lock.read_text(encoding="ascii").strip()
            if pid or time.monotonic() > deadline:
                return cls(int(pid) if pid else None, lock)
            time.sleep(0.05)
        return None

    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._child.poll() is not None if self._child is not None else not self._lock.is_held()

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None for one that another process started."""
        return None if self._child is None else self._child.returncode

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process; to all that it started too if it is SIGKILL."""
        if self.has_ended() or self.pid is None:
            return
        try:
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return  # it ended between the question and the signal


def trial_command(sweep: Sweep, parameters: Mapping[str, Any], *extra: str) -> list[str]:
    """The command of a trial, as W&B's agent would make it, with this Python as its interpreter.

    Raises:
        InputError: for a macro that has no meaning here, or a program that is not there.
    """
    from wandb.sdk.launch.sweeps.utils import create_sweep_command

    program = find_program(sweep)
    macros = {"${env}": "/usr/bin/env", "${interpreter}": sys.executable, PROGRAM: program}
    prefix = []
    for part in create_sweep_command(list(sweep.prefix)):
        if part.startswith("${") and part not in macros:
            raise InputError(f"{sweep.path}: command: {part} has no meaning before {PROGRAM}; leave it out.")
        prefix.append(macros.get(part, part))
    return [*prefix, *sweep.fixed, *arguments(parameters), *extra]


def find_program(sweep: Sweep) -> str:
    """The file's `program`, from here or from the checkout that this package runs from.

    Raises:
        InputError: where it is in neither.
    """
    name = str(sweep.config["program"])
    for folder in (Path(), CONF_DIR.parent):
        if (folder / name).is_file():
            return str(folder / name)
    raise InputError(f"{sweep.path}: program: there is no {name} here; run sweep.py from the repository's root.")


def begin_again(log: Path) -> None:
    """Notes in the log of a trial that has run before that what follows is of another attempt."""
    if log.exists() and log.stat().st_size > 0:
        with log.open("ab") as file:
            file.write(AGAIN)


def last_words(log: Path) -> str:
    """The line of a log that says why its process failed, the last one."""
    return telling_line((log.read_bytes() if log.exists() else b"").rpartition(AGAIN)[2])


def telling_line(printed: bytes) -> str:
    """The line that says why what printed this failed: the last that names an error, else the last."""
    lines = [line.strip() for line in printed.decode("utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if MESSAGE.match(line)]
    return (telling or lines or ["it printed nothing"])[-1]
