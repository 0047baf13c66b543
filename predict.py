"""Classifies texts: python predict.py RUN "A fine film."."""

import sys

from textrnn.cli import run

if __name__ == "__main__":
    sys.exit(run("predict"))
