"""How many cores this process may use."""

import os


def available_cores() -> int:
    """Cores that the process may run on, where the system tells (Linux, a SLURM job), else those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
