"""`--help`, `models` and `datasets` answer at once, because nothing heavy is imported."""

from __future__ import annotations

import resource

import pytest

from tests.cli.conftest import start

HEAVY = ("torch", "transformers", "peft", "recbole", "ranx", "pandas", "numba", "pyarrow", "scipy", "numpy")
CHECK = f"""
from harness.cli.app import main
code = main()
sys.exit(code or ",".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""
BOUND = 1.5  # seconds of processor time, which a busy machine hardly stretches; 0.2 to 0.4 were measured


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", ["--help", "models", "datasets"])
def test_startup(command: str, toy: str) -> None:
    before = children()
    process = start(command, code=CHECK)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert children() - before < BOUND
