"""What the verbs hand each other about one run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn.cluster.ranks import Ranks
from textrnn.config import Config
from textrnn.data.store import Store
from textrnn.signals import Signals
from textrnn.tracking.identity import RunIdentity
from textrnn.tracking.rundir import RunDirectory

if TYPE_CHECKING:
    from textrnn.checkpoints import Checkpoint
    from textrnn.model.vectors.arrays import WordVectors


@dataclass(kw_only=True, slots=True)
class Run:
    """One run on one process, while it lasts."""

    config: Config
    identity: RunIdentity
    directory: RunDirectory
    checkpoint: "Checkpoint | None"
    """What the run continues from; None at its start."""
    store: Store
    ranks: Ranks
    """The processes of the run, and which of them this one is."""
    signals: Signals
    """What has asked the run to leave its machine."""
    vectors: "WordVectors | None" = None
    """Pretrained vectors that a new run starts from, if it starts from any."""

    @property
    def best_ckpt(self) -> Path | None:
        """The best weights, which are tested; None where nothing is kept, and the last ones are."""
        trainer = self.config.trainer
        keeps = trainer.enable_checkpointing is not False and not trainer.fast_dev_run
        return self.directory.best_ckpt if keeps and self.directory.best_ckpt.is_file() else None

    @property
    def primary(self) -> bool:
        """Whether this process is rank 0, the one that records."""
        return self.ranks.is_first
