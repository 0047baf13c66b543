"""W&B's agent as a task of a cluster: python -m textrnn.sweeping.cluster_agent ENTITY/PROJECT/ID.

It is `wandb agent --forward-signals`, but for two things: a trial that is signaled while Python starts is saved for
another agent too, and pre-empted trials of a sweep that W&B has finished are given out again. A trial that hangs is
killed after 90 seconds, early enough to requeue.
"""

import sys

from textrnn.sweeping.agents import give_out_again
from textrnn.tracking.wandb_internals import answer_errors, run_plain_agent

if __name__ == "__main__":
    try:
        give_out_again(sys.argv[1])
    except answer_errors() as error:  # the agent itself waits for W&B, or says what is wrong
        print(f"W&B does not say whether pre-empted trials wait ({' '.join(str(error).split())})", file=sys.stderr)
    run_plain_agent(["--forward-signals", "--term-timeout", "90", *sys.argv[1:]])
