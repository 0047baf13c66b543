"""Private names of Hydra that this package uses; tested with hydra-core 1.3.8."""

import argparse
import re
import sys
from types import SimpleNamespace
from typing import Any

from hydra._internal import utils
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper as BasicSweeper
from hydra._internal.utils import get_args_parser as get_args_parser

TARGETS = re.compile(r"hydra\._internal\.core_plugins\.basic_(launcher\.BasicLauncher|sweeper\.BasicSweeper)")
"""Classes that Hydra may instantiate; anything else would be code named by configuration."""


class _Parser(argparse.ArgumentParser):
    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """Take the text of a help that is an object: argparse of Python 3.14 refuses Hydra 1.3's."""
        if "help" in options:
            options["help"] = str(options["help"])
        return super().add_argument(*names, **options)


def replace_argument_parser() -> None:
    """Have Hydra make its parsers, its own one in `hydra.main` too, of this class."""
    utils.argparse = SimpleNamespace(ArgumentParser=_Parser)  # type: ignore[attr-defined,assignment]


if sys.version_info >= (3, 14):
    replace_argument_parser()
