"""The command line: `textrnn NAME ...`, `python -m textrnn NAME ...` and the entry scripts.

Exit codes: 0 done, 1 crash, 2 wrong input, 75 pre-empted (the same command continues), 130 interrupted.
"""

import sys

if sys.platform == "win32":
    # Before the imports below, which need locks and signals that only Unix has; 2 is wrong input.
    print("error: textrnn doesn't run on Windows itself; type wsl --install, then use it in WSL.", file=sys.stderr)
    sys.exit(2)

from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile

from textrnn.base.console import outlive_terminal
from textrnn.base.errors import InputError
from textrnn.base.exits import DONE, WRONG_INPUT, escape_what_stdout_lacks, exit_code
from textrnn.base.process import keep_freed_memory, let_idle_threads_sleep

USAGE = """\
usage: textrnn COMMAND ...

Recurrent text classifiers: trained, compared and searched.

commands:
{commands}

examples:
  textrnn train experiment=first_run
  textrnn train -m model=rnn,lstm,gru seed=0,1,2
  textrnn predict runs/RUN "A fine film."

textrnn COMMAND --help explains a command; --version prints the version.
In a checkout, python train.py is the same as textrnn train; so are prepare.py,
evaluate.py, predict.py and sweep.py.
"""
COMMANDS = {
    "train": "train, test and record a run, or with -m several",
    "pretrain": "train a language model for model.pretrained=RUN to start from",
    "prepare": "make the token store and stop",
    "evaluate": "measure a run on a split of its data",
    "predict": "label texts with a run",
    "explain": "show on an HTML page which words decided",
    "runs": "look up runs: a table, the best, differences, export",
    "sweep": "search settings with a W&B sweep file",
    "export": "write a run's model as ONNX or for plain torch",
    "serve": "label texts over HTTP with a run",
    "push": "upload a run's model to the Hugging Face Hub",
    "vectors": "learn word vectors from the data's own reviews",
    "compare": "say what may be concluded from runs",
    "report": "show runs on an HTML page",
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
    if name == "--version":
        return print_version()
    with exit_code() as outcome:
        raise InputError(f"there is no command {name}; type textrnn --help.")
    return outcome.code


def run(name: str, arguments: Sequence[str] | None = None) -> int:
    """Run the command `name` with its arguments, by default those of the process; return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--version" in takewhile(lambda argument: argument != "--", arguments):
        return print_version()
    keep_freed_memory()
    let_idle_threads_sleep()
    outlive_terminal()
    escape_what_stdout_lacks()
    with exit_code() as outcome:
        main_of_command = import_module(f"textrnn.commands.{name}").main
        outcome.code = main_of_command(arguments)
        if sys.stdout is not None:  # closed by the shell's >&-
            sys.stdout.flush()  # at Python's exit an error would be a traceback
    return outcome.code


def usage() -> str:
    """Return the commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return USAGE.format(commands="\n".join(lines)).rstrip()


def print_version() -> int:
    """Print the version of this package; return the exit code."""
    from importlib.metadata import version  # a tenth of a second

    print(f"textrnn {version('textrnn')}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
