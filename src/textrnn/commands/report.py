"""The command `report`: runs as one HTML page, in a file or served while they train."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from textrnn.base.errors import InputError
from textrnn.base.exits import DONE
from textrnn.base.files import write_atomically
from textrnn.reporting.content import whole_content
from textrnn.reporting.page import drawing_library, render

DESCRIPTION = """\
Writes one HTML file about a run, a sweep, a multirun or any folders with runs:
curves, a table, parallel coordinates, importance of the parameters, confusion
matrix, reliability, mistakes, differences of configurations. The file needs no
server and no network. --live serves the page on this machine while runs train."""
EXAMPLES = """\
examples:
  textrnn report runs/RUN
  textrnn report runs/SWEEP --output sweep.html
  textrnn report runs/A runs/B --live"""
SUFFIXES = (".html", ".htm")


def main(argv: Sequence[str]) -> int:
    """`textrnn report FOLDER... [--output FILE.html] [--live] [--port N]`; returns the exit code.

    Without --output the file is `report.html` in the folder, of several folders in the working directory.

    Raises:
        InputError: for a folder without runs, an argument that is wrong, or if plotly is missing.
    """
    arguments = _arguments(argv)
    library = drawing_library()
    if arguments.live:
        from textrnn.reporting.live import serve

        serve(arguments.folders, library, arguments.port or 0)
        return DONE
    output = arguments.output or Path(*arguments.folders[:1] if len(arguments.folders) == 1 else (), "report.html")
    content = whole_content(arguments.folders)
    text = render(content, library)
    try:
        write_atomically(output, text)
    except OSError as error:
        raise InputError(f"--output {output}: can't be written ({error.strerror}); type another file.") from error
    for note in content["notes"]:
        print(note)
    runs = len(content["runs"])
    print(f"report: {output} ({runs:,} run{'s' * (runs != 1)}, {len(text.encode()) / 1e6:.1f} MB)")
    return DONE


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="textrnn report",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="a run, a sweep, a multirun or a folder with runs")
    parser.add_argument("--output", metavar="FILE.html", type=Path, help="the page (default: FOLDER/report.html)")
    parser.add_argument("--live", action="store_true", help="serve the page on 127.0.0.1 until Ctrl-C; write no file")
    parser.add_argument("--port", type=int, help="with --live (default: a free one)")
    arguments = parser.parse_args(list(argv))
    if arguments.output is not None and arguments.live:
        raise InputError("--live writes no file; leave --output out.")
    if arguments.port is not None and not arguments.live:
        raise InputError("--port is for --live; add --live, or leave it out.")
    if arguments.port is not None and not 0 < arguments.port < 2**16:
        raise InputError(f"--port {arguments.port}: type a port from 1 to 65535.")
    if arguments.output is not None and arguments.output.suffix.lower() not in SUFFIXES:
        raise InputError(f"--output {arguments.output}: type a file whose name ends with .html.")
    return arguments
