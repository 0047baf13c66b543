"""The command `push`: a trained run as a model on the Hugging Face Hub."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn.base.console import log_to_console
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.base.process import importing
from textrnn.distributed.launch import refuse_ranks
from textrnn.tracking.wandb_artifacts import RUN_HELP, local_run

if TYPE_CHECKING:
    from textrnn.training.checkpoints import Checkpoint

DESCRIPTION = """\
Uploads a run's model to the Hugging Face Hub in one commit: weights
(safetensors), tokenizer, configuration, curves and a model card written from
the run. No text of the data is uploaded. predict.py hub:OWNER/NAME uses it."""
EXAMPLES = """\
examples:
  textrnn push runs/RUN OWNER/NAME --output shared    # write the files and look
  textrnn push runs/RUN OWNER/NAME --private
  textrnn push "$(textrnn runs best)" OWNER/NAME --onnx
  python predict.py hub:OWNER/NAME "A fine film.\""""


def main(argv: Sequence[str]) -> int:
    """`textrnn push RUN OWNER/NAME [--private] [--onnx] [--output DIR]`; returns the exit code.

    Raises:
        InputError: for a run or folder that can't be used, no account, or a Hub that refuses.
    """
    parser = argparse.ArgumentParser(
        prog="textrnn push",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("repo", metavar="OWNER/NAME", help="the model's name on the Hub; made if it isn't there")
    parser.add_argument("--private", action="store_true", help="make it private")
    parser.add_argument("--onnx", action="store_true", help="write and upload model.onnx too")
    parser.add_argument("--output", type=Path, help="write the files to this new folder and upload nothing")
    arguments = parser.parse_args(list(argv))
    refuse_ranks("textrnn push")
    log_to_console()
    with importing():
        from textrnn.sharing.push import check_account, check_repo, upload
    check_repo(arguments.repo)
    if arguments.onnx:
        from textrnn.sharing.export import check_format

        check_format("onnx")
    if arguments.output is None:
        check_account()
    else:
        typed_path(arguments.output, f"--output {arguments.output}")
        if arguments.output.exists():
            raise InputError(f"--output {arguments.output}: is there already; remove it, or give another folder.")
    run = local_run(arguments.run)
    from textrnn.training.checkpoints import load_checkpoint

    checkpoint = load_checkpoint(run)
    if arguments.output is not None:
        _write(checkpoint, arguments.output, run, arguments)
        print(f"written: {arguments.output}; nothing was uploaded")
        return 0
    with tempfile.TemporaryDirectory(prefix="textrnn-push-") as made:
        folder = Path(made) / "model"
        _write(checkpoint, folder, run, arguments)
        title = f"{checkpoint.identity.get('name', arguments.repo)}, trained with textrnn"
        address = upload(folder, arguments.repo, private=arguments.private, title=title)
    print(f"uploaded: {address}")
    print(f'try it: python predict.py hub:{arguments.repo} "A fine film."')
    return 0


def _write(checkpoint: "Checkpoint", folder: Path, run: Path, arguments: argparse.Namespace) -> None:
    from textrnn.sharing.push import write_model

    try:
        write_model(checkpoint, folder, arguments.repo, run, onnx=arguments.onnx)
    except OSError as error:
        where = f"--output {folder}" if arguments.output is not None else str(folder)
        raise InputError(f"{where}: can't be written ({error.strerror}); give another --output FOLDER.") from error
