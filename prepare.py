"""Makes the token store and stops: python prepare.py data=imdb."""

import sys

from textrnn.cli import run

if __name__ == "__main__":
    sys.exit(run("prepare"))
