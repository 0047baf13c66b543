"""W&B's agent as a task of a cluster: python -m textrnn.sweeping.cluster_agent ENTITY/PROJECT/ID.

It is `wandb agent --forward-signals`, but for a trial that is signaled while Python starts: that one too is saved for
another agent. One that hangs is killed after 90 seconds, early enough to requeue.
"""

import sys

from textrnn.tracking.wandb_internals import run_plain_agent

if __name__ == "__main__":
    run_plain_agent(["--forward-signals", "--term-timeout", "90", *sys.argv[1:]])
