"""Trains a classifier: python train.py model=gru."""

import sys

from textrnn.cli import run

if __name__ == "__main__":
    sys.exit(run("train"))
