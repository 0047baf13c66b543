"""Every fault of W&B's server at every operation of its client: is anything lost in silence?

    python benchmarks/wandb_faults.py --every 7               # a seventh of the table, a few minutes
    python benchmarks/wandb_faults.py --record faults.tsv     # the whole table; typed again, what is not in the file

Prints a line for each case that loses something without a word, or that the advised command doesn't mend, and how many
cases were played. `--record` appends a line for each case to a file: its seconds, `right` or what is wrong, the case.
The table is `ALL` of `tests/doubles/wandb_cases.py`; the server is the tests' own.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from doubles.wandb_cases import ALL, IMPATIENT, play
from doubles.wandb_server import WandbServer

from textrnn.tracking import wandb_received


def main() -> int:
    """Play the cases; return 1 if one goes wrong."""
    parser = argparse.ArgumentParser(description="Plays faults of W&B's server and reports what is lost.")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="play every N-th case (default: all)")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="begin with case I (default: 0)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append each result to FILE; skip the cases in it")
    arguments = parser.parse_args()
    wandb_received.SETTLING = 1.0
    record = Path(os.devnull) if arguments.record is None else arguments.record.resolve()
    record.touch()
    known = {line.rpartition("\t")[2] for line in record.read_text(encoding="utf-8").splitlines()}
    cases, wrong = [case for case in ALL[arguments.first :: arguments.every] if str(case) not in known], 0
    with tempfile.TemporaryDirectory() as place, WandbServer() as server:
        os.chdir(place)
        os.environ |= IMPATIENT | {
            "HOME": place,
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ERROR_REPORTING": "false",
        }
        for number, case in enumerate(cases):
            began = time.monotonic()
            try:
                said = play(case, server, Path(place), f"case{number}")
            except Exception as error:  # a case that crashes is wrong too
                traceback.print_exc()
                said = f"crashed: {error!r}"
            if said:
                wrong += 1
                print(f"{case}: {said}", flush=True)
            with record.open("a", encoding="utf-8") as file:
                file.write(f"{time.monotonic() - began:.1f}\t{said or 'right'}\t{case}\n")
    print(f"{len(cases)} of {len(ALL)} cases, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
