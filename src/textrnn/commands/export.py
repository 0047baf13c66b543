"""The command `export`: a trained run as a folder that needs nothing of this project."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from textrnn.base.console import log_to_console
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.base.process import importing
from textrnn.distributed.launch import refuse_ranks
from textrnn.tracking.metrics_csv import METRICS
from textrnn.tracking.run_directory import RunDirectory
from textrnn.tracking.summary import read_summary
from textrnn.tracking.wandb_artifacts import RUN_HELP, is_reference, local_run

DESCRIPTION = """\
Writes a run's model, tokenizer and configuration to a folder, with a script
predict.py that needs only onnxruntime (or torch), tokenizers and numpy."""
EXAMPLES = """\
examples:
  textrnn export runs/RUN --to onnx
  textrnn export "$(textrnn runs best)" --to onnx --output best
  python runs/RUN/export-onnx/predict.py "A fine film."
  textrnn export wandb:PROJECT/MODEL:best --to torch --output model"""


def main(argv: Sequence[str]) -> int:
    """`textrnn export RUN --to onnx|torch [--output DIR]`; returns the exit code.

    Raises:
        InputError: for a run or folder that can't be used, or a model that can't be exported.
    """
    parser = argparse.ArgumentParser(
        prog="textrnn export",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--to", required=True, choices=("onnx", "torch"), help="format of the weights")
    parser.add_argument("--output", type=Path, help="a new folder (default: export-FORMAT in the run)")
    arguments = parser.parse_args(list(argv))
    refuse_ranks("textrnn export")
    log_to_console()
    run = local_run(arguments.run)
    output = arguments.output or _default_output(arguments.run, run, arguments.to)
    typed_path(output, f"--output {output}")
    if output.exists():
        raise InputError(f"--output {output}: is there already; remove it, or give another folder.")
    with importing():
        from textrnn.sharing.export import check_format, export
        from textrnn.training.checkpoints import load_checkpoint
    check_format(arguments.to)
    checkpoint = load_checkpoint(run)
    difference = export(checkpoint, output, arguments.to, metrics=_metrics(run))
    print(f"exported: {output} (largest difference of a logit {difference:.1e})")
    print(f'try it: python {output / "predict.py"} "A fine film."')
    return 0


def _default_output(typed: str, run: Path, to: str) -> Path:
    if is_reference(typed) or not run.is_dir():
        return Path(f"export-{to}")
    return run / f"export-{to}"


def _metrics(run: Path) -> dict[str, float]:
    """Return the final metrics of a run's directory; {} for a checkpoint alone or a run that hasn't ended."""
    try:
        summary = read_summary(RunDirectory.join(run).summary_json)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name: summary[name] for name in METRICS if name in summary}
