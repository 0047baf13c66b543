"""Runs a sweep file on all workers of this machine: python sweep.py sweeps/smoke.yaml."""

import sys

from textrnn.cli import run

if __name__ == "__main__":
    sys.exit(run("sweep"))
