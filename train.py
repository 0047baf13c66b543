"""Trains a classifier: python train.py model=gru."""

import sys

from textrnn.main import train

if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
