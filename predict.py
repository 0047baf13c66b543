"""Classifies texts: python predict.py RUN "A fine film."."""

import sys

from textrnn.main import predict

if __name__ == "__main__":
    sys.exit(predict(sys.argv[1:]))
