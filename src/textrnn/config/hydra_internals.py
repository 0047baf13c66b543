"""Private names of Hydra that this package uses; tested with hydra-core 1.3.8."""

import re

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper as BasicSweeper
from hydra._internal.utils import get_args_parser as get_args_parser

TARGETS = re.compile(r"hydra\._internal\.core_plugins\.basic_(launcher\.BasicLauncher|sweeper\.BasicSweeper)")
"""Classes that Hydra may instantiate; anything else would be code named by configuration."""
