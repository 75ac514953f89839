"""`python -m harness` is `harness`."""

import sys

from harness.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
