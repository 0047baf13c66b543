"""The launch as Lightning's cluster environment."""

import os
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from textrnn.config.schema import TrainerConfig
from textrnn.distributed.launch import Launch, sees_own_gpu_only


class ExternalRanks(ClusterEnvironment):
    """The ranks that torchrun or srun has started.

    Lightning's own class for SLURM would requeue jobs inside a signal handler, mistake a batch script's variables for a
    step's, and look for a second GPU where each task sees only its own.

    Args:
        launch: Which of the ranks this process is.
        own_device: Whether this process sees one GPU, its own, which then has the number 0.
    """

    def __init__(self, launch: Launch, *, own_device: bool) -> None:
        super().__init__()
        self._launch = launch
        self._own_device = own_device

    @property
    def creates_processes_externally(self) -> bool:
        """True: the launcher has started all of them."""
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
        """False, as Lightning is passed this environment and need not detect it."""
        return False

    def world_size(self) -> int:
        """Number of ranks."""
        return self._launch.world_size

    def set_world_size(self, size: int) -> None:
        """Decided by the launcher."""

    def global_rank(self) -> int:
        """Rank of this process."""
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
    """Return strategy, devices and nodes, and the cluster environment, for Lightning's Trainer.

    Lightning would detect the launcher from the environment, wrongly in a batch script and under a sweep's agent.
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
