"""The command `compare`: what may be concluded from runs, paired review by review and seed by seed."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn.base.console import print_table
from textrnn.base.errors import InputError
from textrnn.base.files import typed_path

if TYPE_CHECKING:
    from textrnn.comparing.collect import Collected
    from textrnn.comparing.comparison import Comparison
    from textrnn.comparing.tables import TextOf

DETAILED = 3
"""Comparisons up to which the terminal has accuracy by length and class; the tables of --output have all."""
LISTED = 100
"""Disagreements of each comparison in `disagreements.csv`, unless --reviews has another number."""
DESCRIPTION = """\
Compares runs on the same reviews: difference of accuracies with its 95 %
interval, p, the smallest difference that could be shown, overlap of errors, and
a sentence that says what may be concluded. Runs that differ in their seed only
are one setting. It reads the predictions.csv of each run."""
EXAMPLES = """\
examples:
  textrnn compare runs/RUN runs/OTHER
  textrnn compare runs/SWEEP --split validation --output comparison
  textrnn compare runs/gru-0 runs/gru-1 -- runs/lstm-0 runs/lstm-1"""


def main(argv: Sequence[str]) -> int:
    """`textrnn compare RUN... | SWEEP | MULTIRUN | A... -- B...`; returns the exit code.

    Raises:
        InputError: for runs that can't be read or compared.
    """
    arguments, sides = _arguments(argv)
    from textrnn.comparing.collect import collect  # NumPy
    from textrnn.comparing.comparison import compare
    from textrnn.comparing.tables import write_tables
    from textrnn.multirun.comparison import different_sources

    if arguments.output is not None:
        typed_path(arguments.output, f"--output {arguments.output}")
    collected = collect(sides, split=arguments.split, against=arguments.against)
    comparisons = compare(collected.settings, collected.reference)
    if (line := different_sources(record.path for record in collected.records)) is not None:
        collected.lines.append(line)
    text = _texts(collected) if arguments.reviews or arguments.output is not None else None
    _show(collected, comparisons, reviews=arguments.reviews or 0, text=text)
    if arguments.output is not None:
        reviews = LISTED if arguments.reviews is None else arguments.reviews
        try:
            write_tables(arguments.output, collected.settings, comparisons, reviews=reviews, text=text)
        except OSError as error:
            raise InputError(
                f"--output {arguments.output}: can't be written ({error.strerror}); give another folder."
            ) from error
        print(f"tables: {arguments.output}")
    return 0


def _arguments(argv: Sequence[str]) -> tuple[argparse.Namespace, list[list[str]]]:
    """Return the options, and the paths of one or, with `--` between them, of two groups."""
    parser = argparse.ArgumentParser(
        prog="textrnn compare",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="textrnn compare [options] RUN... | SWEEP | MULTIRUN | A... -- B...",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run, a sweep, a multirun or of any runs")
    parser.add_argument("--split", choices=("test", "validation"), help="default: test if all runs were measured on it")
    parser.add_argument("--against", metavar="RUN", help="compare with its setting (default: first, or a sweep's best)")
    parser.add_argument("--reviews", metavar="N", type=_count, help="list N reviews on which two settings disagree")
    parser.add_argument("--output", metavar="FOLDER", type=Path, help="write all tables as CSV")
    words = list(argv)
    place = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_intermixed_args(words[:place])
    second = words[place + 1 :]
    if wrong := next((word for word in second if word.startswith("-")), None):
        parser.error(f"{wrong}: options stand before the --")
    if place < len(words) and not second:
        parser.error("there is no run after the --")
    return arguments, [arguments.runs, *([second] if second else [])]


def _count(typed: str) -> int:
    if not typed.isdecimal():
        raise argparse.ArgumentTypeError(f"{typed!r} is not a number of reviews")
    return int(typed)


def _texts(collected: "Collected") -> "TextOf | None":
    """Return what reads a review's text, if a token store with these reviews is on this machine."""
    from textrnn.comparing.texts import find_split

    setting = collected.settings[0]
    run = setting.by_seed[setting.seeds[0]]
    split = find_split(collected.records[0].config, run, collected.split)
    if split is None:
        print("no token store with these reviews is on this machine: their texts are left out")
        return None
    return split.text


def _show(collected: "Collected", comparisons: Sequence["Comparison"], *, reviews: int, text: "TextOf | None") -> None:
    """Print the tables and the conclusions."""
    from textrnn.comparing import tables
    from textrnn.comparing.comparison import conclusion, disagreements

    for line in collected.lines:
        print(line)
    print(f"{collected.split}: {comparisons[0].reviews:,} reviews, the same of all runs\n")
    print_table(tables.settings_table(collected.settings))
    print()
    print_table(tables.differences_table(comparisons), tables.differences_table(comparisons, brief=True))
    print()
    print_table(tables.overlap_table(comparisons))
    for comparison in comparisons if len(comparisons) <= DETAILED else ():
        print()
        print_table(tables.groups_table(comparison))
    for comparison in comparisons if reviews else ():
        print("\nreviews on which they disagree, with the probability of the label:")
        print_table(tables.disagreements_table(comparison, disagreements(comparison, reviews), text))
    print()
    for comparison in comparisons:
        print(conclusion(comparison, split=collected.split, comparisons=len(comparisons)))
