"""`--help`, `models` and `datasets` answer at once, because nothing heavy is imported."""

from __future__ import annotations

import time

import pytest

from tests.cli.conftest import start

HEAVY = ("torch", "transformers", "peft", "recbole", "ranx", "pandas", "numba", "pyarrow", "scipy", "numpy")
CHECK = f"""
from harness.cli.app import main
code = main()
sys.exit(code or ",".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""
BOUND = 1.5  # seconds; measured on an idle machine they take 0.3 to 0.5


@pytest.mark.parametrize("command", ["--help", "models", "datasets"])
def test_startup(command: str, toy: str) -> None:
    seconds = []
    for _ in range(3):  # the best of three, so that a busy machine does not fail it
        began = time.perf_counter()
        process = start(command, code=CHECK)
        _, err = process.communicate(timeout=60)
        seconds.append(time.perf_counter() - began)
        assert process.returncode == 0, err
        if seconds[-1] < BOUND:
            return
    raise AssertionError(f"{command} took {min(seconds):.2f} s")
