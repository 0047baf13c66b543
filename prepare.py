"""Makes the token store and stops: python prepare.py data=imdb."""

import sys

from textrnn.main import prepare

if __name__ == "__main__":
    sys.exit(prepare(sys.argv[1:]))
