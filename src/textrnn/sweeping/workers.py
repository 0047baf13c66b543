"""How many trials run at once on this machine, and what of it each may use."""

import os
import shutil
import subprocess
from dataclasses import dataclass

from textrnn.base.errors import InputError
from textrnn.base.process import available_cores
from textrnn.config.schema import TrainerConfig

THREADS = "OMP_NUM_THREADS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
MANY_A_CORE = 2
QUESTION_TIMEOUT = 30.0
"""Seconds that the driver may take to list its GPUs."""


@dataclass(kw_only=True, slots=True)
class Worker:
    """One trial at a time, with these variables in its environment."""

    environment: dict[str, str]


def share_out(agents: int | None, trainer: TrainerConfig) -> list[Worker]:
    """The workers: as many as asked for; by default one for each GPU that a trial may use, else one.

    On the processor they share the cores evenly, unless OMP_NUM_THREADS is set.

    Raises:
        InputError: for more than two workers a core, or more GPUs a trial than there are.
    """
    gpus = [] if trainer.accelerator in ("cpu", "mps", "tpu") else visible_gpus()
    cores = available_cores()
    each = trainer.devices if isinstance(trainer.devices, int) and trainer.devices > 0 else 1
    if gpus and each > len(gpus):
        raise InputError(f"trainer.devices={each}: {len(gpus)} GPU(s) are visible here; type trainer.devices=1.")
    groups = [gpus[start : start + each] for start in range(0, len(gpus) - each + 1, each)]
    count = agents or max(1, len(groups))
    if count > MANY_A_CORE * cores:
        raise InputError(f"--agents {count}: more than two a core on {cores} core(s); type --agents {cores} or less.")
    environment: dict[str, str] = {}
    if count > 1 and THREADS not in os.environ:
        environment[THREADS] = str(max(1, cores // count))
    return [
        Worker(environment=environment | ({VISIBLE: ",".join(groups[number % len(groups)])} if groups else {}))
        for number in range(count)
    ]


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them; asks the driver, because torch would take seconds."""
    if VISIBLE in os.environ:
        return [name for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=QUESTION_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return []  # a driver that can't be asked has no GPU to give
    gpus = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]  # their MIG parts are indented
    return [str(number) for number in range(len(gpus))]
