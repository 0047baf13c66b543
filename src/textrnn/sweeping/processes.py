"""The processes of trials: their commands, signals and logs, and the workers that share the machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from textrnn.base import exits
from textrnn.base.errors import InputError
from textrnn.base.locks import FileLock
from textrnn.base.process import available_cores
from textrnn.base.signals import is_ignored
from textrnn.config.overrides import CONF_DIR
from textrnn.config.schema import TrainerConfig
from textrnn.sweeping.sweep_file import PROGRAM, Sweep
from textrnn.tracking.wandb_internals import sweep_arguments

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
THREADS = "OMP_NUM_THREADS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
MANY_A_CORE = 2
QUESTION_TIMEOUT = 30.0
"""Seconds that the driver may take to list its GPUs."""


class Interrupts:
    """Context manager that records signals."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        """The first signal that was received, if any."""
        self._times = 0
        self._passed_on = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if is_ignored(number):
                continue
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """The exit code after the first signal."""
        return exits.INTERRUPTED if self.asked == signal.SIGINT else exits.PREEMPTED

    def pass_on(self, processes: "Iterable[TrialProcess]") -> None:
        """Pass on to the processes what has come since the last call."""
        if self._passed_on == self._times:
            return
        # SIGTERM for Ctrl-C too: a run that is pre-empted leaves a checkpoint of its last batch.
        number = signal.SIGTERM if self._passed_on == 0 and self._times == 1 else signal.SIGKILL
        if number == signal.SIGTERM:
            print("the trials save their checkpoints and end; a second signal ends them at once", flush=True)
        self._passed_on = self._times
        for process in processes:
            process.send(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.asked = self.asked or signal.Signals(number)
        self._times += 1


MESSAGE = re.compile(r"error: |[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b")
"""How a line begins that says why a process failed."""
AGAIN = b"\n--- starts again ---\n"
"""Separator between two processes in the log of a trial or agent."""
SIGNED = 'echo $$ > "$0"; exec "$@"'
"""A shell command that writes its pid to the file $0 and becomes, in the same process, the command $@."""
SIGNED_WITHIN = 5.0
"""Seconds within which it has written the pid."""


class TrialProcess:
    """A trial's process, as long as its lock is held; the lock's file has its pid."""

    def __init__(self, pid: int | None, lock: Path, child: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self._lock = FileLock(lock)
        self._child = child

    @classmethod
    def start(cls, command: list[str], environment: Mapping[str, str], *, log: Path, lock: Path) -> Self:
        """Start a command; its output is appended to `log`.

        Only the process inherits `lock`, so it is held until the process ends even if we are killed. The process writes
        its pid there itself, so that it can be found and ended at whatever point we are killed.

        Raises:
            InputError: if a process that was started with the same lock still runs.
        """
        held = FileLock(lock, keep=True)
        if not held.acquire(blocking=False):
            raise InputError(f"{lock}: a process of an earlier sweep.py still runs; wait for its end.")
        assert held.descriptor is not None
        try:
            os.ftruncate(held.descriptor, 0)  # an earlier process's pid may belong to another process now
            with log.open("ab") as output:
                child = subprocess.Popen(
                    ["/bin/sh", "-c", SIGNED, str(lock), *command],
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(held.descriptor,),
                    process_group=0,  # the terminal sends Ctrl-C to us alone; we forward it once
                )
            held.share(child.pid)
        finally:
            held.release()
        return cls(child.pid, lock, child)

    @classmethod
    def find(cls, lock: Path) -> "TrialProcess | None":
        """Return the process that an earlier `sweep.py` left running; None if it has ended."""
        deadline = time.monotonic() + SIGNED_WITHIN
        while FileLock(lock).is_held():
            pid = lock.read_text(encoding="ascii").strip()
            if pid or time.monotonic() > deadline:
                return cls(int(pid) if pid else None, lock)
            time.sleep(0.05)
        return None

    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._child.poll() is not None if self._child is not None else not self._lock.is_held()

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None for one that another process started."""
        return None if self._child is None else self._child.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process; to all that it started too if it is SIGKILL."""
        if self.has_ended() or self.pid is None:
            return
        try:
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return  # it ended between the check and the signal


def trial_command(sweep: Sweep, parameters: Mapping[str, Any], *extra: str) -> list[str]:
    """Return the command of a trial, as W&B's agent would make it, with this Python as its interpreter.

    Raises:
        InputError: for a macro that has no meaning here, or a missing program.
    """
    program = find_program(sweep)
    macros = {"${env}": "/usr/bin/env", "${interpreter}": sys.executable, PROGRAM: program}
    prefix = []
    for part in sweep.prefix:
        if part.startswith("${") and part not in macros:
            raise InputError(f"{sweep.path}: command: {part} has no meaning before {PROGRAM}; leave it out.")
        prefix.append(macros.get(part, part))
    return [*prefix, *sweep.fixed, *sweep_arguments(parameters), *extra]


def find_program(sweep: Sweep) -> str:
    """Return the path of the file's `program`, from here or from the checkout that this package runs from.

    Raises:
        InputError: if it is in neither.
    """
    name = str(sweep.config["program"])
    for folder in (Path(), CONF_DIR.parent):
        if (folder / name).is_file():
            return str(folder / name)
    raise InputError(f"{sweep.path}: program: there is no {name} here; run sweep.py from the repository's root.")


def begin_again(log: Path) -> None:
    """Write a separator into the log of a trial or agent that has run before."""
    if log.exists() and log.stat().st_size > 0:
        with log.open("ab") as file:
            file.write(AGAIN)


def last_line(log: Path) -> str:
    """Return the last line of a log's last process that names an error, else its last line."""
    printed = (log.read_bytes() if log.exists() else b"").rpartition(AGAIN)[2]
    lines = [line.strip() for line in printed.decode("utf-8", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if MESSAGE.match(line)]
    return (telling or lines or ["it printed nothing"])[-1]


@dataclass(kw_only=True, slots=True)
class Worker:
    """One trial at a time, with these variables in its environment."""

    environment: dict[str, str]


def share_out(agents: int | None, trainer: TrainerConfig) -> list[Worker]:
    """Return the workers: as many as requested; by default one for each GPU that a trial may use, else one.

    On a CPU they share the cores evenly, unless OMP_NUM_THREADS is set.

    Raises:
        InputError: for more than two workers per core, or more GPUs per trial than there are.
    """
    gpus = [] if trainer.accelerator in ("cpu", "mps", "tpu") else visible_gpus()
    cores = available_cores()
    each = trainer.devices if isinstance(trainer.devices, int) and trainer.devices > 0 else 1
    if gpus and each > len(gpus):
        raise InputError(f"trainer.devices={each}: {len(gpus)} GPU(s) are visible here; type trainer.devices=1.")
    groups = [gpus[start : start + each] for start in range(0, len(gpus) - each + 1, each)]
    count = agents or max(1, len(groups))
    if count > MANY_A_CORE * cores:
        raise InputError(f"--agents {count}: more than two per core on {cores} core(s); type --agents {cores} or less.")
    environment: dict[str, str] = {}
    if count > 1 and THREADS not in os.environ:
        environment[THREADS] = str(max(1, cores // count))
    return [
        Worker(environment=environment | ({VISIBLE: ",".join(groups[number % len(groups)])} if groups else {}))
        for number in range(count)
    ]


def visible_gpus() -> list[str]:
    """Return the GPUs as CUDA_VISIBLE_DEVICES names them; queries the driver, because torch would take seconds."""
    if VISIBLE in os.environ:
        return [name for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=QUESTION_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return []  # without a working driver there is no GPU
    gpus = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]  # their MIG parts are indented
    return [str(number) for number in range(len(gpus))]
