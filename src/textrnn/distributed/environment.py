"""A launch in Lightning's words."""

import os
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from textrnn.config.schema import TrainerConfig
from textrnn.distributed.launch import Launch, sees_own_gpu_only


class ExternalRanks(ClusterEnvironment):
    """The processes that torchrun or srun has started.

    Lightning's own class for SLURM would requeue jobs from within a signal handler, take the variables of a batch
    script for a step's, and look for a second GPU where each task sees only its own.

    Args:
        launch: Which of the processes this is.
        own_device: Whether this process sees one GPU, its own, which then has the number 0.
    """

    def __init__(self, launch: Launch, *, own_device: bool) -> None:
        super().__init__()
        self._launch = launch
        self._own_device = own_device

    @property
    def creates_processes_externally(self) -> bool:
        """They are all there."""
        return True

    @property
    def main_address(self) -> str:
        """Host of rank 0."""
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        """Port at which the process group meets."""
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        """Lightning is told; it shall not guess."""
        return False

    def world_size(self) -> int:
        """Processes of the run."""
        return self._launch.world_size

    def set_world_size(self, size: int) -> None:
        """Decided by the launcher."""

    def global_rank(self) -> int:
        """Number among all processes."""
        return self._launch.rank

    def set_global_rank(self, rank: int) -> None:
        """Decided by the launcher."""

    def local_rank(self) -> int:
        """Number of this process's device among those it sees."""
        return 0 if self._own_device else self._launch.local_rank

    def node_rank(self) -> int:
        """Number of the machine."""
        return self._launch.node_rank


def layout(trainer: TrainerConfig, launch: Launch) -> tuple[dict[str, Any], ClusterEnvironment]:
    """The trainer's strategy, devices and nodes, and how its processes were started, for Lightning's Trainer.

    Lightning would guess the launcher from the environment, which a batch script and a sweep's agent make it guess
    wrong.
    """
    if not launch.is_external:
        return {}, LightningEnvironment()
    own_device = sees_own_gpu_only(trainer, launch)
    places = {
        "strategy": "ddp" if trainer.strategy == "auto" else trainer.strategy,
        "devices": 1 if own_device else launch.local_world_size,
        "num_nodes": launch.nodes,
    }
    if isinstance(trainer.devices, list):
        places["devices"] = trainer.devices
    return places, ExternalRanks(launch, own_device=own_device)
