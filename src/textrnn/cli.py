"""The command line: `textrnn NAME ...`, `python -m textrnn NAME ...` and the entry scripts.

Exit codes: 0 done, 1 crash, 2 wrong input, 75 pre-empted (the same command continues), 130 interrupted.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from textrnn.base.errors import InputError
from textrnn.base.exits import DONE, WRONG_INPUT, escape_what_stdout_lacks, exit_code
from textrnn.base.process import keep_freed_memory, let_idle_threads_sleep

COMMANDS = {
    "train": "train, test and record a run, or with -m several",
    "prepare": "make the token store and stop",
    "evaluate": "measure a run on a split of its data",
    "predict": "label texts with a run",
    "sweep": "search settings with a W&B sweep file",
}
"""Each is a module of `textrnn.commands` with a function `main`."""


def main() -> int:
    """Run `textrnn NAME ARGUMENT ...`; return the exit code."""
    name, *arguments = sys.argv[1:] or [""]
    if name in COMMANDS:
        return run(name, arguments)
    if name in ("", "-h", "--help"):
        print(usage())
        return DONE if name else WRONG_INPUT
    with exit_code() as outcome:
        raise InputError(f"there is no command {name}; type textrnn --help.")
    return outcome.code


def run(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run the command `name` with its arguments, by default those of the process; return the exit code."""
    keep_freed_memory()
    let_idle_threads_sleep()
    escape_what_stdout_lacks()
    with exit_code() as outcome:
        main_of_command = import_module(f"textrnn.commands.{name}").main
        outcome.code = main_of_command(sys.argv[1:] if arguments is None else arguments)
        if sys.stdout is not None:  # closed by the shell's >&-
            sys.stdout.flush()  # at Python's exit an error would be a traceback
    return outcome.code


def usage() -> str:
    """Return the commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: textrnn COMMAND ...; textrnn COMMAND --help explains one", *lines])


if __name__ == "__main__":
    sys.exit(main())
