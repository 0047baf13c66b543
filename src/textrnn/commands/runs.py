"""The command `runs`: a table of runs, the best one, one or two in full, their export and their removal."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textrnn.base.console import LOGGER, log_to_console
from textrnn.base.errors import InputError

if TYPE_CHECKING:
    from textrnn.lookup.index import Found
    from textrnn.lookup.records import RunRecord

DESCRIPTION = """\
Looks up runs in folders, by default in runs: their configuration, metrics and
state, also while they train. Nothing is changed but by rm."""
EXAMPLES = """\
examples:
  textrnn runs ls --where model.cell=gru --where 'val/accuracy>0.9' --sort seed
  python evaluate.py $(textrnn runs best runs/SWEEP)
  textrnn runs show runs/RUN
  textrnn runs diff runs/RUN runs/OTHER
  textrnn runs export --csv --output runs.csv
  textrnn runs rm --older-than 30d --where state=failed,killed"""
SHOWN = 20
"""Folders that are listed before they are removed; of more the number is shown."""


def main(argv: Sequence[str]) -> int:
    """`textrnn runs ls|best|show|diff|export|rm ...`; returns the exit code.

    Raises:
        InputError: for an argument that is wrong.
    """
    arguments = _parser().parse_args(_with_order(argv))
    log_to_console()
    done: int = arguments.action(arguments)
    return done


def _with_order(argv: Sequence[str]) -> list[str]:
    """Join `--sort -KEY` to one word, which argparse would take for two options."""
    words = list(argv)
    for place in range(len(words) - 1, 0, -1):
        if words[place - 1] == "--sort" and words[place].startswith("-"):
            words[place - 1 : place + 1] = [f"--sort={words[place]}"]
    return words


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="textrnn runs", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=style
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    folders = argparse.ArgumentParser(add_help=False)
    folders.add_argument("folders", metavar="FOLDER", nargs="*", default=["runs"], help="where to look (default: runs)")
    folders.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="KEY=VALUE of a key, metric or state; also !=, and in quotes <, >, <=, >=; several must all hold",
    )
    order = argparse.ArgumentParser(add_help=False)
    order.add_argument("--sort", metavar="KEY", default="-created", help="-KEY: largest first (default: -created)")

    ls = actions.add_parser("ls", parents=[folders, order], help="a table; a sweep or multirun is one line")
    ls.add_argument("--flat", action="store_true", help="a line for each run of a sweep or multirun")
    ls.add_argument("--columns", metavar="KEY,...", help="columns after path and state")
    ls.set_defaults(action=_ls)

    best = actions.add_parser("best", parents=[folders], help="the path of the best finished run")
    best.add_argument("--metric", default="val/accuracy", help="what chooses it (default: val/accuracy)")
    best.set_defaults(action=_best)

    show = actions.add_parser("show", help="one run: settings, metrics, place, W&B, state, last line of the log")
    show.add_argument("run", metavar="RUN", type=Path)
    show.set_defaults(action=_show)

    diff = actions.add_parser("diff", help="what differs between two runs")
    diff.add_argument("run", metavar="RUN", type=Path)
    diff.add_argument("other", metavar="RUN", type=Path)
    diff.set_defaults(action=_diff)

    export = actions.add_parser("export", parents=[folders, order], help="all runs, with all they record")
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument("--csv", action="store_true", help="a row for each run")
    form.add_argument("--json", action="store_true", help="a list with an object for each run")
    export.add_argument("--output", metavar="FILE", type=Path, help="a file in place of the terminal")
    export.set_defaults(action=_export)

    rm = actions.add_parser("rm", parents=[folders], help="remove runs, after a question; never a running one")
    rm.add_argument("--older-than", metavar="AGE", required=True, help="since their last change: 12h, 30d, 2w")
    rm.add_argument("--flat", action="store_true", help="also single runs of a sweep or multirun")
    rm.add_argument("--yes", action="store_true", help="without the question")
    rm.set_defaults(action=_rm)
    return parser


def _ls(arguments: argparse.Namespace) -> int:
    from textrnn.lookup.index import find_runs
    from textrnn.lookup.listing import columns_of, counted, in_order, lines_of, print_lines
    from textrnn.lookup.selection import Condition, check_name, selected

    found = find_runs(arguments.folders, whole=False)  # who types a sweep wants its trials
    records = [*found.runs, *found.damaged]
    check_name(arguments.sort.removeprefix("-"), records, f"--sort {arguments.sort}")
    chosen = selected(records, arguments.where)
    asked = [Condition.parse(text).name for text in arguments.where]
    columns = columns_of(arguments.columns, arguments.sort, asked, records)
    if not chosen:
        print(f"none of {counted(records)}")
        return 0
    print_lines(in_order(lines_of(chosen, {} if arguments.flat else found.within), arguments.sort), columns)
    print(f"\n{counted(chosen)}" + (f"; {len(records):,} in all" if len(chosen) < len(records) else ""))
    return 0


def _best(arguments: argparse.Namespace) -> int:
    from textrnn.lookup.selection import best_of, check_metric, data_of

    check_metric(arguments.metric)
    chosen = _found(arguments).runs
    best = best_of(chosen, arguments.metric)
    if best is None:
        raise InputError(f"{' '.join(arguments.folders)}: no finished run here has {arguments.metric}.")
    finished = [run for run in chosen if run.state == "finished" and arguments.metric in run.summary]
    if len({data_of(run) for run in finished}) > 1:
        LOGGER.warning("these runs are of different data, on which their metrics can't be compared; choose by --where")
    LOGGER.info(f"{arguments.metric} {best.summary[arguments.metric]:.4f}, the best of {len(finished):,} finished runs")
    print(best.path)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from textrnn.lookup.details import described

    print("\n".join(described(_read(arguments.run))))
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from textrnn.lookup.details import compared

    print("\n".join(compared(_read(arguments.run), _read(arguments.other))).rstrip())
    return 0


def _read(path: Path) -> "RunRecord":
    from textrnn.lookup.records import kind_of, read_run

    if path.is_dir() and kind_of(path) != "run":
        raise InputError(f"{path} is not a run; textrnn runs ls {path} lists the runs in a folder.")
    return read_run(path)


def _export(arguments: argparse.Namespace) -> int:
    from textrnn.base.files import write_atomically
    from textrnn.lookup.export import as_csv, as_json
    from textrnn.lookup.listing import in_order, lines_of
    from textrnn.lookup.selection import check_name

    found = _found(arguments)
    check_name(arguments.sort.removeprefix("-"), found.runs, f"--sort {arguments.sort}")
    runs = [line.runs[0] for line in in_order(lines_of(found.runs, {}), arguments.sort)]
    text = as_csv(runs) if arguments.csv else as_json(runs, found.within)
    if arguments.output is None:
        sys.stdout.write(text)
        return 0
    try:
        write_atomically(arguments.output, text)
    except OSError as error:
        raise InputError(f"--output {arguments.output}: can't be written ({error.strerror}).") from error
    print(f"{len(runs):,} runs: {arguments.output}")
    return 0


def _rm(arguments: argparse.Namespace) -> int:
    from textrnn.lookup.details import told_bytes
    from textrnn.lookup.index import find_runs
    from textrnn.lookup.listing import counted
    from textrnn.lookup.removal import removable, remove, seconds_of
    from textrnn.lookup.selection import selected

    seconds = seconds_of(arguments.older_than)
    found = find_runs(arguments.folders)
    _tell_damaged(found)
    everything = [*found.runs, *found.damaged]  # a sweep with a damaged run stays
    chosen = selected(found.runs, arguments.where)
    folders, lines = removable(everything, chosen, found.within, seconds=seconds, flat=arguments.flat)
    for line in lines:
        print(line)
    if not folders:
        print("nothing to remove")
        return 0
    for folder in folders[:SHOWN]:
        unsent = f"; NOT UPLOADED to W&B: {folder.unsent}" if folder.unsent else ""
        print(f"{folder.path}  {told_bytes(folder.size)}, {counted(folder.runs)}{unsent}")
    if len(folders) > SHOWN:
        print(f"... and {len(folders) - SHOWN:,} more")
    unsent_runs = sum(folder.unsent for folder in folders)
    warning = f", {unsent_runs:,} of them not uploaded to W&B" if unsent_runs else ""
    number, size = sum(len(folder.runs) for folder in folders), told_bytes(sum(folder.size for folder in folders))
    print(f"to be removed for good: {number:,} runs{warning}, {size}")
    if not (arguments.yes or _agreed()):
        print("nothing was removed")
        return 0
    for folder in folders:
        try:
            if not remove(folder):
                print(f"{folder.path} stays: a process uses it by now")
        except OSError as error:
            raise InputError(f"{error.filename}: can't be removed ({error.strerror}); the rest stays.") from error
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("rm asks before it removes, and there is no terminal to answer on; type --yes.")
    return input("remove them? [y/N] ").strip().lower() in ("y", "yes")


def _found(arguments: argparse.Namespace) -> "Found":
    """Return the runs that meet the conditions; log that damaged ones are left out."""
    from textrnn.lookup.index import find_runs
    from textrnn.lookup.selection import selected

    found = find_runs(arguments.folders)
    _tell_damaged(found)
    found.runs = selected(found.runs, arguments.where)
    return found


def _tell_damaged(found: "Found") -> None:
    if found.damaged:
        number = f"{len(found.damaged):,} damaged run{'s are' if len(found.damaged) > 1 else ' is'}"
        LOGGER.warning(f"{number} left out; textrnn runs ls --where state=damaged lists them")
