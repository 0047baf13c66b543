"""`model.pretrained`: a new run's embedding and recurrent layers start from those of another run."""

from dataclasses import dataclass
from operator import attrgetter

from torch import nn

from textrnn.base.errors import InputError
from textrnn.config.experiment_files import as_override
from textrnn.config.schema import Config
from textrnn.data.store import Store
from textrnn.tracking.wandb_artifacts import local_run
from textrnn.training.checkpoints import Checkpoint, load_checkpoint

SAME = (
    "cell",
    "embedding.size",
    "hidden_size",
    "num_layers",
    "bidirectional",
    "nonlinearity",
    "bias",
    "initial_state",
)
"""Keys of `model` that decide what these weights are and compute; others, such as dropout, may differ."""
PARTS = ("embedding.", "encoder.")


@dataclass(kw_only=True, slots=True)
class Pretrained:
    """The run that `model.pretrained` names."""

    typed: str
    """As it was typed."""
    checkpoint: Checkpoint

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.checkpoint.identity["id"])

    def refuse_other_vocabulary(self, store: Store) -> None:
        """Refuse weights that are of other tokens.

        Raises:
            InputError: the vocabularies differ.
        """
        if self.checkpoint.tokenizer_json != store.tokenizer_json:
            raise InputError(
                f"model.pretrained={self.typed}: its vocabulary is another one ({self.checkpoint.vocab_size:,} tokens; "
                f"here {store.vocab_size:,}); type the data keys of that run, or pretrain on these reviews."
            )

    def start(self, network: nn.Module) -> None:
        """Copy the weights of embedding and recurrent layers into a network; its other parameters stay as they are.

        Raises:
            InputError: the network lacks one of them.
        """
        path = self.checkpoint.path
        weights = {name.removeprefix("model."): weight for name, weight in self.checkpoint.state_dict.items()}
        kept = {name: weight for name, weight in weights.items() if name.startswith(PARTS)}
        try:
            unexpected = network.load_state_dict(kept, strict=False).unexpected_keys
        except RuntimeError as error:
            raise InputError(f"{path}: its weights don't fit ({error}).") from error
        if unexpected:
            raise InputError(f"{path}: {', '.join(unexpected)} is not part of this model.")

    def __str__(self) -> str:
        return f"{self.typed} ({self.checkpoint.identity['name']}, step {self.checkpoint.global_step})"


def open_pretrained(config: Config) -> Pretrained:
    """Read the run that `model.pretrained` names; one in W&B is downloaded.

    Raises:
        InputError: it can't be read, or its model is another one.
    """
    typed = str(config.model.pretrained)
    checkpoint = load_checkpoint(local_run(typed))
    ours, theirs = config.model, checkpoint.config.model
    differing = [key for key in SAME if attrgetter(key)(ours) != attrgetter(key)(theirs)]
    differing += ["embedding.kind"] * ((ours.embedding.kind == "onehot") != (theirs.embedding.kind == "onehot"))
    if differing:
        was = " ".join(as_override(f"model.{key}", attrgetter(key)(theirs)) for key in differing)
        raise InputError(f"model.pretrained={typed}: that model is another one; type {was}, or pretrain one like this.")
    return Pretrained(typed=typed, checkpoint=checkpoint)
