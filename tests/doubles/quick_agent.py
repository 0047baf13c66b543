"""The real `wandb agent`, except that it asks the server every half second rather than every five.

subprocess.run([*QUICK_AGENT, "--count", "2", "tester/films/sweep001"], env=..., timeout=60)
"""

import sys

QUICK_AGENT = [
    sys.executable,
    "-c",
    "import sys; from wandb.wandb_agent import Agent; Agent.POLL_INTERVAL = 0.5; "
    "from wandb.cli.cli import cli; cli(['agent', *sys.argv[1:]])",
]
"""What comes before the arguments of `wandb agent`."""
