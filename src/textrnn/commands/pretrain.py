"""The command `pretrain`: language models in both directions, which `model.pretrained=RUN` starts classifiers from.

It is `train` with `objective=language_model`, so everything that holds for a run of `train` holds for its runs.
"""

from collections.abc import Sequence

from textrnn.base.errors import InputError
from textrnn.commands.train import main as train

OBJECTIVE = "objective=language_model"
HELP = """\
usage: textrnn pretrain [GROUP=NAME ...] [KEY=VALUE ...] [-m] [flag]

Trains language models in both directions through the embedding and the
recurrent layers of a classifier, on reviews without their labels. textrnn train
model.pretrained=RUN then starts from them.

Takes all that textrnn train takes, which explains the flags and keys; it is the
same as textrnn train objective=language_model.

examples:
  textrnn pretrain experiment=first_run
  textrnn pretrain model=lstm model.hidden_size=256 trainer.precision=bf16-mixed
  textrnn pretrain model=gru run_dir=runs/lm
  textrnn train model=gru model.pretrained=runs/lm

"""


def main(argv: Sequence[str]) -> int:
    """`textrnn pretrain GROUP=NAME KEY=VALUE ...`; returns the exit code.

    Raises:
        InputError: another objective is typed.
    """
    typed = [text for text in argv if text.lstrip("+").startswith("objective=")]
    if any(text.lstrip("+").replace("'", "") != OBJECTIVE for text in typed):
        raise InputError(f"textrnn pretrain has its own objective; leave {typed[0]} out, or type textrnn train.")
    return train(argv if typed else [OBJECTIVE, *argv], HELP)
