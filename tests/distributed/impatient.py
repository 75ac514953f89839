"""`python -m tests.distributed.impatient ARGUMENTS`: `harness`, by processes that miss each other after seconds."""

from __future__ import annotations

import sys

from harness.__main__ import main
from harness.runs import distributed

if __name__ == "__main__":
    distributed.BEAT, distributed.SILENT = 0.2, 4.0
    sys.exit(main())
