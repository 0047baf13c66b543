"""Who started this process, and which of the run's ranks it is. torch is imported only where GPUs are looked for."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textrnn.base.errors import InputError, RefusedElsewhere
from textrnn.base.process import available_cores
from textrnn.config.schema import TrainerConfig

_MANY_PROCESSES_A_CORE = 2

SHARED_RUN = "TEXTRNN_RUN"
"""Environment variable by which rank 0 passes its run to the processes that Lightning starts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """This process's place among the ranks of its run, numbered as in torch."""

    by: str = "lightning"
    """"torchrun" or "srun" if one of them started all processes; else "lightning", which may yet start more."""
    rank: int = 0
    local_rank: int = 0
    """Number on this node."""
    world_size: int = 1
    local_world_size: int = 1
    node_rank: int = 0
    nodes: int = 1

    @property
    def is_external(self) -> bool:
        """Whether torchrun or srun has started several ranks."""
        return self.by != "lightning" and self.world_size > 1

    @property
    def is_child(self) -> bool:
        """Whether Lightning has started this process for a run that rank 0 has begun."""
        return self.by == "lightning" and self.rank > 0


def read_launch(environment: Mapping[str, str] | None = None) -> Launch:
    """Read the launch from the environment.

    Only SLURM's variables of a step are read: those of a job are also set in its batch script, which is one process. In
    a W&B sweep the tasks of a step are agents, and each trial is a run of its own. The shell of `srun --pty`
    runs in one of the tasks of its step, and what is typed there is one process.
    """
    environment = os.environ if environment is None else environment

    def number(name: str) -> int:
        return int(environment[name])

    if "TORCHELASTIC_RUN_ID" in environment:
        return Launch(
            by="torchrun",
            rank=number("RANK"),
            local_rank=number("LOCAL_RANK"),
            world_size=number("WORLD_SIZE"),
            local_world_size=number("LOCAL_WORLD_SIZE"),
            node_rank=number("GROUP_RANK"),
            nodes=number("GROUP_WORLD_SIZE"),
        )
    if SHARED_RUN in environment and number_or_zero(environment, "LOCAL_RANK") > 0:
        return Launch(
            rank=number("LOCAL_RANK"),
            local_rank=number("LOCAL_RANK"),
            world_size=number("WORLD_SIZE"),
            local_world_size=number("WORLD_SIZE"),
        )
    is_own_run = "WANDB_SWEEP_ID" in environment or is_typed_in_step(environment)
    if number_or_zero(environment, "SLURM_STEP_NUM_TASKS") > 1 and not is_own_run:
        node = number("SLURM_NODEID")
        return Launch(
            by="srun",
            rank=number("SLURM_PROCID"),
            local_rank=number("SLURM_LOCALID"),
            world_size=number("SLURM_STEP_NUM_TASKS"),
            local_world_size=_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])[node],
            node_rank=node,
            nodes=number("SLURM_STEP_NUM_NODES"),
        )
    return Launch()


def is_typed_in_step(environment: Mapping[str, str]) -> bool:
    """Return whether a person has typed this command in the shell of `srun --pty`, which is the step's task 0.

    That shell gives each command a process group of its own; where the command is the task itself, it is the task's.
    """
    task = number_or_zero(environment, "SLURM_TASK_PID")
    if "SLURM_PTY_PORT" not in environment or task == 0:
        return False
    try:
        return os.getpgid(task) != os.getpgrp()
    except ProcessLookupError:  # the task of another step, or seen from a container
        return False


def number_or_zero(environment: Mapping[str, str], name: str) -> int:
    """Return a number from the environment; 0 if it isn't set."""
    return int(environment.get(name) or 0)


def refuse_ranks(program: str) -> None:
    """Refuse several ranks, for a program that runs as one process.

    Raises:
        InputError: on the first rank; on the others RefusedElsewhere.
    """
    launch = read_launch()
    if launch.is_external:
        sentence = f"{program} is one process; type python {program} without {launch.by}."
        raise InputError(sentence) if launch.rank == 0 else RefusedElsewhere(sentence)


def check_layout(trainer: TrainerConfig, launch: Launch) -> None:
    """Check the devices in the configuration against what the launcher has started.

    Raises:
        InputError: if they contradict each other, or if several machines are requested without a launcher.
    """
    if not launch.is_external:
        if trainer.num_nodes > 1:
            raise InputError(
                f"trainer.num_nodes={trainer.num_nodes}: a run on several machines must be started by srun or "
                "torchrun; see docs/cluster.md."
            )
        return
    if trainer.num_nodes not in (1, launch.nodes):
        raise InputError(
            f"trainer.num_nodes={trainer.num_nodes}, but {launch.by} has started processes on {launch.nodes} node(s): "
            "leave trainer.num_nodes out."
        )
    wanted = len(trainer.devices) if isinstance(trainer.devices, list) else trainer.devices
    if wanted not in ("auto", -1, launch.local_world_size):
        raise InputError(
            f"trainer.devices={trainer.devices}, but {launch.by} has started {launch.local_world_size} process(es) on "
            f"{socket.gethostname()}: type trainer.devices=auto."
        )


def starts_several(trainer: TrainerConfig) -> bool:
    """Return whether Lightning may start more processes than this one; imports torch if it has to count GPUs."""
    if trainer.strategy != "auto":
        return True
    if isinstance(trainer.devices, list):
        return len(trainer.devices) > 1
    if trainer.devices not in ("auto", -1):
        return bool(trainer.devices != 1)
    if trainer.accelerator not in ("auto", "gpu", "cuda"):
        return False
    import torch

    return torch.cuda.device_count() > 1


def sees_own_gpu_only(trainer: TrainerConfig, launch: Launch) -> bool:
    """Return whether srun has given each task of a node its own GPU (`--gpus-per-task=1`); imports torch."""
    if launch.by != "srun" or trainer.accelerator not in ("auto", "gpu", "cuda"):
        return False
    import torch

    return launch.local_world_size > 1 and torch.cuda.device_count() == 1


def chosen_accelerator(trainer: TrainerConfig) -> str:
    """Return the accelerator for Lightning's Trainer; imports torch for "auto".

    For "auto" on a Mac Lightning would choose Apple's GPU (MPS), on which torch's recurrent layers have given NaN
    (pytorch/pytorch#94691). That GPU is used only if it is typed.
    """
    if trainer.accelerator != "auto":
        return trainer.accelerator
    import torch

    return "cpu" if torch.backends.mps.is_available() else "auto"


def trains_on_cpu(trainer: TrainerConfig) -> bool:
    """Return whether the accelerator is the processor; imports torch for "auto"."""
    accelerator = chosen_accelerator(trainer)
    if accelerator != "auto":
        return accelerator == "cpu"
    import torch

    return not torch.accelerator.is_available()


def _tasks_per_node(text: str) -> list[int]:
    """SLURM's `2(x3),1` as [2, 2, 2, 1]."""
    counts: list[int] = []
    for part in text.split(","):
        tasks, _, repeated = part.partition("(x")
        counts += [int(tasks)] * int(repeated.rstrip(")") or 1)
    return counts


def check_devices(trainer: TrainerConfig, launch: Launch) -> None:
    """Check the devices in the configuration against the visible ones; imports torch if it has to count GPUs.

    Raises:
        InputError: for more GPUs than are visible, more than two processes per core, or a contradiction with the
            launcher.
    """
    check_layout(trainer, launch)
    wanted = trainer.devices
    if trainer.accelerator == "cpu":
        _refuse_numbers(wanted, launch)
    if trainer.accelerator in ("auto", "cpu") and wanted in ("auto", 1) and not launch.is_external:
        return
    if trainer.accelerator == "cpu" and launch.is_external:
        return  # as many as the launcher has started
    import torch

    gpus = torch.cuda.device_count()
    if launch.is_external and 0 < gpus < launch.local_world_size and not sees_own_gpu_only(trainer, launch):
        raise InputError(
            f"{launch.by} has started {launch.local_world_size} processes on {socket.gethostname()}, where {gpus} "
            "GPU(s) are visible: start one process per GPU, or type trainer.accelerator=cpu."
        )
    numbers = wanted if isinstance(wanted, list) else []
    count = len(numbers) if numbers else wanted if isinstance(wanted, int) else None
    on_gpu = trainer.accelerator in ("gpu", "cuda") or (trainer.accelerator == "auto" and gpus > 0)
    if trainer.accelerator in ("gpu", "cuda") and gpus == 0:
        raise InputError("trainer.accelerator=gpu: no GPU is visible here; type trainer=cpu.")
    if on_gpu:
        if (count is not None and count > gpus) or any(number >= gpus for number in numbers):
            raise InputError(f"trainer.devices={wanted}: {gpus} GPU(s) are visible here; type trainer.devices={gpus}.")
    elif trainer.accelerator in ("auto", "cpu") and count is not None:
        _refuse_numbers(wanted, launch)
        cores = available_cores()
        if count > _MANY_PROCESSES_A_CORE * cores:
            raise InputError(
                f"trainer.devices={wanted}: more than two processes per core on {cores} core(s); "
                f"type trainer.devices={cores} or less."
            )


def _refuse_numbers(wanted: Any, launch: Launch) -> None:
    """Refuse the devices of GPUs, numbers and -1 for all of them, where there is no GPU to number."""
    if isinstance(wanted, list) or (wanted == -1 and not launch.is_external):
        raise InputError(
            f"trainer.devices={wanted}: that is for GPUs, and this run is on the CPU; type trainer.devices=1, or the "
            "number of its processes."
        )
