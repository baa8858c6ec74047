"""`python -m splatdistill` is the same as the `splatdistill` command; torchrun needs this form."""

import sys

from splatdistill.cli import main

if __name__ == "__main__":
    sys.exit(main())
