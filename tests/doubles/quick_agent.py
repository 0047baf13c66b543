"""The real `wandb agent` and the real client of a run, which poll more often.

subprocess.run([*QUICK_AGENT, "--count", "2", "tester/films/sweep001"], env=..., timeout=60)
environment["PYTHONPATH"] = told_at_once(folder)
"""

import os
import sys
from pathlib import Path

QUICK_AGENT = [
    sys.executable,
    "-c",
    "import sys; from wandb.wandb_agent import Agent; Agent.POLL_INTERVAL = 0.5; "
    "from wandb.cli.cli import cli; cli(['agent', *sys.argv[1:]])",
]
"""What comes before the arguments of `wandb agent`."""

AGENTS_LOOK_OFTEN = """
import sys
if {"agent", "textrnn.sweeping.agents", "textrnn.sweeping.cluster_agent"} & set(sys.orig_argv):
    from wandb.wandb_agent import Agent
    Agent.POLL_INTERVAL = 0.5
"""
"""A module that Python imports at its start: agents poll every half second instead of every five."""

TOLD_AT_ONCE = """
import sys
if any(word.endswith("train.py") for word in sys.orig_argv):
    from wandb.sdk.lib.run_stopping import RunStopChecker
    RunStopChecker.__init__.__kwdefaults__["poll_interval"] = 1
    patience = {patience}
    if patience is not None:
        import textrnn.training.fit
        textrnn.training.fit.STOP_POLL = patience
"""


def told_at_once(place: Path, *, patience: float | None = None) -> str:
    """Return a PYTHONPATH with which runs poll W&B's stop requests every second, not every 15; agents poll often.

    Args:
        place: An empty folder is made there.
        patience: Seconds that a run with a signal waits for W&B's answer; None for the default.
    """
    folder = place / "told-at-once"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(AGENTS_LOOK_OFTEN + TOLD_AT_ONCE.format(patience=patience))
    return f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
