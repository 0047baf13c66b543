"""Measures a run on a split: python evaluate.py RUN --split test."""

import sys

from textrnn.main import evaluate

if __name__ == "__main__":
    sys.exit(evaluate(sys.argv[1:]))
