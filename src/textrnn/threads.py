"""Has torch's threads sleep soon after their work instead of waiting for more of it in a busy loop.

GCC's OpenMP, which torch runs on under Linux, lets an idle thread count to 300,000 before it sleeps: some
milliseconds, in which it holds a core. The compiled recurrence brings threads of its own and needs that core right
after torch's products: on two cores an RNN's step at IMDB's lengths took 1.3 times as long so, a GRU's 1.1 times.
Counted to 10,000, threads stay awake between one product and the next. The variables are those of libgomp's manual.
"""

import os

SPIN_COUNT = "GOMP_SPINCOUNT"
"""Environment variable: how far an idle OpenMP thread counts before it sleeps."""


def let_idle_threads_sleep() -> None:
    """Sets it for this process and its children, unless the user has set it or OMP_WAIT_POLICY.

    OpenMP reads it once, when torch is imported; after that nothing changes.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(SPIN_COUNT, "10000")
