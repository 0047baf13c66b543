"""Names that tests share."""

import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""
IMDB = ROOT.parent / "shared" / "imdb"
"""The real reviews, which are not ours to commit; tests that need them skip without."""

Command = Callable[..., subprocess.CompletedProcess[str]]
"""The fixture `script`."""
