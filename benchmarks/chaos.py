"""A sweep under random pre-emptions, kills, server outages and expired agents: is each trial finished once, and whole?

    python benchmarks/chaos.py --seed 0              # 50 trials on three workers: some 20 minutes of CPU time
    python benchmarks/chaos.py --seed 1 --trials 6   # the same in a few minutes
    python benchmarks/chaos.py --slurm --trials 12   # plain agents on a real SLURM, which is started here, as root

Prints the faults that were played and a line for each row, value, file or exit code that is not as it must be. The
client and the agents are W&B's own, the server is the tests' own (`tests/doubles/chaos.py`).
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support import KERNELS

os.environ.setdefault(KERNELS, str(Path(tempfile.gettempdir(), "chaos-kernels")))

from doubles.chaos import Chaos
from doubles.chaos_slurm import SlurmChaos


def main() -> int:
    """Play one sweep; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(description="Plays random faults at a sweep and reports what is lost.")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (default: 0)")
    parser.add_argument("--trials", type=int, default=50, help="trials of the sweep (default: 50)")
    parser.add_argument("--workers", type=int, default=3, help="trials at once (default: 3)")
    parser.add_argument("--slurm", action="store_true", help="agents are an array of sweeps/slurm_agents.sbatch")
    parser.add_argument("--place", type=Path, help="an empty folder to keep (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        chaos = (SlurmChaos if arguments.slurm else Chaos)(
            seed=arguments.seed,
            trials=arguments.trials,
            workers=arguments.workers,
            place=(arguments.place or Path(temporary)).resolve(),
        )
        wrong = chaos.play()
        starts = "the arrays" if arguments.slurm else "sweep.py"
        played = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kind for kind, _ in chaos.done).items()))
        print(f"{arguments.trials} trials; {played}; exit codes of {starts} {chaos.codes}; {len(wrong)} wrong")
        print(*wrong, sep="\n")
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
