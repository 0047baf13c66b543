"""The command `explain`: which words of a text decided, on one HTML page."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn.base.console import log_to_console
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path, write_atomically
from textrnn.base.process import importing
from textrnn.commands.evaluate import default_output
from textrnn.config.schema import SPLITS
from textrnn.distributed.launch import refuse_ranks
from textrnn.reporting.evaluations import labels_of, mistake_rows
from textrnn.reporting.explanation_page import Shown, mistakes_title, render_explanations, told_words
from textrnn.tracking.metrics_csv import PREFIXES
from textrnn.tracking.wandb_artifacts import RUN_HELP, is_reference, local_run

if TYPE_CHECKING:
    import wandb

    from textrnn.sharing.trained_model import TrainedModel
    from textrnn.tracking.wandb_addition import EndedRun

DESCRIPTION = """\
Writes one HTML file with texts and each word's share of the logit, by
integrated gradients and by occlusion: texts that are typed, or the most
confident mistakes of an evaluation. The file needs no server and no network."""
EXAMPLES = """\
examples:
  textrnn explain runs/RUN "A fine film." "I wanted to like it."
  textrnn explain runs/RUN --mistakes 20 --wandb
  textrnn explain runs/RUN "A fine film." --class negative --output why.html"""
SUFFIXES = (".html", ".htm")
Labeled = tuple[str, str | None]
"""A text and its own label, if that is known."""


def main(argv: Sequence[str]) -> int:
    """`textrnn explain RUN "text" ... | --mistakes N [--split test]`; returns the exit code.

    Raises:
        InputError: for a run, an evaluation or an argument that can't be used.
    """
    arguments = _arguments(argv)
    refuse_ranks("textrnn explain")
    log_to_console()
    run = local_run(arguments.run)
    folder = default_output([arguments.run], [run], arguments.split or "test")
    mistakes = [] if arguments.mistakes is None else _mistakes(folder, arguments.mistakes)
    ended = _ended_run(folder.parent) if arguments.wandb else None
    output = arguments.output or (folder / "mistakes.html" if mistakes else Path("explanation.html"))
    with importing():
        from textrnn.sharing.trained_model import TrainedModel
        from textrnn.training.checkpoints import load_checkpoint
    checkpoint = load_checkpoint(run)
    texts: list[Labeled] = [(text, None) for text in arguments.texts]
    if mistakes:
        texts = [(row["text"], labels_of(row, checkpoint.classes)[0]) for row in mistakes]
    title = checkpoint.identity.get("name", checkpoint.path.name)
    title = mistakes_title(title, arguments.split or "test") if mistakes else f"{title}: explanation"
    with ended or contextlib.nullcontext():
        shown = list(_explained(TrainedModel(checkpoint), texts, arguments.class_name))
        text = render_explanations(title, shown)
        try:
            write_atomically(output, text)
        except OSError as error:
            raise InputError(f"--output {output}: can't be written ({error.strerror}); type another file.") from error
        print(f"explanation: {output} ({len(texts):,} text{'s' * (len(texts) != 1)}, {len(text) / 1e6:.2f} MB)")
        if ended is not None:
            name = f"{PREFIXES[arguments.split or 'test']}/explanations"
            print(f"W&B: {name} in {ended.log_tables({name: _table(shown)})}")
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="textrnn explain",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts to explain")
    parser.add_argument("--mistakes", metavar="N", type=int, help="explain the most confident mistakes instead")
    parser.add_argument("--split", choices=SPLITS, help="with --mistakes: of which evaluation (default: test)")
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="with --mistakes: add them to the run's page in W&B too, as a table; their texts go to W&B's server",
    )
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="explain this class (default: the label)")
    parser.add_argument(
        "--output",
        metavar="FILE.html",
        type=Path,
        help="the page (default: explanation.html here, with --mistakes mistakes.html in the evaluation)",
    )
    arguments = parser.parse_intermixed_args(list(argv))
    if bool(arguments.texts) == (arguments.mistakes is not None):
        raise InputError('give texts, or --mistakes N, such as: textrnn explain RUN "A fine film."')
    if arguments.mistakes is None and arguments.split is not None:
        raise InputError("--split is for mistakes; add --mistakes N, or leave it out.")
    if arguments.wandb and (arguments.mistakes is None or is_reference(arguments.run)):
        raise InputError("--wandb is for mistakes of a run directory; add --mistakes N, or leave it out.")
    if arguments.mistakes is not None and arguments.mistakes < 1:
        raise InputError("--mistakes must be at least 1.")
    for number, text in enumerate(arguments.texts, 1):
        if any("\ud800" <= character <= "\udfff" for character in text):  # bytes that weren't UTF-8
            raise InputError(f"text {number} is not UTF-8.")
    output = arguments.output
    if output is not None:
        typed_path(output, f"--output {output}")
        if output.suffix.lower() not in SUFFIXES:
            raise InputError(f"--output {output}: type a file whose name ends with .html.")
        if not output.parent.is_dir():
            raise InputError(f"--output {output}: there is no folder {output.parent}; make it first.")
    return arguments


def _ended_run(path: Path) -> "EndedRun":
    """Return the run whose page in W&B gets the table; imported only then, as it takes a while.

    Raises:
        InputError: it can't be added there.
    """
    from textrnn.tracking.wandb_addition import EndedRun

    return EndedRun(path, flag="--wandb")


def _mistakes(folder: Path, most: int) -> list[dict[str, str]]:
    """Return rows of an evaluation's mistakes, at least one.

    Raises:
        InputError: there is no evaluation, it can't be read, or it has no mistakes.
    """
    split = folder.name.split("-")[1]
    again = f"type python evaluate.py RUN --split {split} --mistakes {most}"
    path = folder / "mistakes.csv"
    try:
        rows = mistake_rows(path, most)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such evaluation; {again} first.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read ({error}); {again} again.") from error
    if not rows:
        raise InputError(f"{path} has no mistakes; {again}, or give texts.")
    if len(rows) < most:
        print(f"{path} has only {len(rows):,} of {most:,} mistakes; for more {again}")
    return rows


def _explained(model: "TrainedModel", texts: Sequence[Labeled], class_name: str | None) -> Iterator[Shown]:
    """Yield the explanations of texts, with a printed line for each."""
    for number, (text, true_label) in enumerate(texts, 1):
        for explanation in model.explain([text], class_name=class_name):
            name = " ".join(explanation.label.split())
            complete = "" if explanation.is_complete else f"; its words' sum is off by {explanation.error:.2g}"
            print(f"{number}/{len(texts)}  {name} {explanation.probability:.4f}{complete}", flush=True)
            yield Shown(explanation, true_label)


def _table(shown: Sequence[Shown]) -> "wandb.Table":
    """Return explanations as a table for W&B, each with its own page."""
    import wandb

    rows = [
        [
            one.true_label,
            one.explanation.label,
            one.explanation.probability,
            *(told_words(one.explanation, sign) for sign in (1, -1)),
            wandb.Html(render_explanations(one.explanation.label, [one]), inject=False),
        ]
        for one in shown
    ]
    return wandb.Table(columns=["true", "label", "probability", "words for", "words against", "text"], data=rows)
