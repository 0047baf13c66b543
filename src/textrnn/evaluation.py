"""The verb `evaluate`: measures a trained run on a split of its data.

What needs torch is imported once the command line is read; torchmetrics and matplotlib, which take as long again, where
the logits are there.
"""

import argparse
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from textrnn.cluster.launch import refuse_ranks
from textrnn.data.sources import SPLITS
from textrnn.errors import InputError
from textrnn.imports import import_torchmetrics, importing
from textrnn.logs import log_to_console
from textrnn.tracking.artifacts import RUN_HELP, is_reference, local_run
from textrnn.typed_path import typed_path


def main(argv: Sequence[str]) -> int:
    """`python evaluate.py RUN [--split test]`; returns the exit code.

    Raises:
        InputError: for a run, checkpoint or data that can't be read, or for several processes.
    """
    parser = argparse.ArgumentParser(prog="evaluate.py", description="Measures a run on a split of its data.")
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--split", default="test", choices=SPLITS, help="which reviews (default: test)")
    parser.add_argument("--output", type=Path, help="folder for the results (default: evaluation-SPLIT in the run)")
    parser.add_argument("--data-path", help="where the run's data lie now, if they moved")
    parser.add_argument("--cache-dir", help="where token stores are kept, if not where the run kept them")
    parser.add_argument("--batch-size", type=int, default=256, help="reviews at a time (default: 256)")
    parser.add_argument("--mistakes", type=int, default=50, help="most confident mistakes to write (default: 50)")
    arguments = parser.parse_args(list(argv))
    refuse_ranks("evaluate.py")
    if arguments.batch_size < 1 or arguments.mistakes < 0:
        raise InputError("--batch-size must be at least 1 and --mistakes at least 0.")
    if arguments.output is not None:
        _check_output(arguments.output)
    log_to_console()
    run = local_run(arguments.run)
    with importing():
        from textrnn.checkpoints import load_checkpoint
        from textrnn.measurement import measure, open_split, show
    checkpoint = load_checkpoint(run)
    output = arguments.output or default_output(arguments.run, run, arguments.split)
    _check_output(output)
    split = open_split(checkpoint, arguments.split, arguments.data_path, arguments.cache_dir)
    measured = measure(checkpoint, split, batch_size=arguments.batch_size)
    with importing():
        import_torchmetrics()
        from textrnn.tracking.evaluation_record import write_evaluation
    try:
        write_evaluation(
            output,
            measured,
            split=arguments.split,
            name=checkpoint.identity.get("name", checkpoint.path.name),
            max_length=checkpoint.config.data.max_length,
            mistakes=arguments.mistakes,
            text=split.text,
        )
    except OSError as error:
        raise _unwritable(output, error.strerror) from error
    show(arguments.split, measured, split, checkpoint.path)
    print(f"results: {output}")
    return 0


def default_output(typed: str, run: Path, split: str) -> Path:
    """Where results go: into the run's directory or, of a model from W&B, into the working directory."""
    if is_reference(typed):
        return Path(f"evaluation-{split}-{run.parent.name}")
    if not run.is_dir():
        run = run.parent.parent if run.parent.name == "checkpoints" else run.parent
    return run / f"evaluation-{split}"


def _check_output(folder: Path) -> None:
    """Refuses a folder that can't be made or written, before it has cost a measurement."""
    typed_path(folder, f"--output {folder}")
    nearest = next(there for there in (folder.absolute(), *folder.absolute().parents) if there.exists())
    if not nearest.is_dir():
        raise _unwritable(folder, f"{nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(folder, os.strerror(errno.EACCES))


def _unwritable(folder: Path, reason: str | None) -> InputError:
    return InputError(f"--output {folder}: can't be written ({reason}); give another folder.")
