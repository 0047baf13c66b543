"""`python -m textrnn NAME ...`."""

import sys

from textrnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
