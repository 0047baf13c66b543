"""Runs a sweep file on all workers of this machine: python sweep.py sweeps/smoke.yaml."""

import sys

from textrnn.main import sweep

if __name__ == "__main__":
    sys.exit(sweep(sys.argv[1:]))
