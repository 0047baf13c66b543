"""Measures a run on a split: python evaluate.py RUN --split test."""

import sys

from textrnn.cli import run

if __name__ == "__main__":
    sys.exit(run("evaluate"))
