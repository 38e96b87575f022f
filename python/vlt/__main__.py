"""`python -m vlt` is the command `vlt`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
