"""RecBole's processes, forked from one that has imported it: `forked` is for the tests that look at what a model does.
`test_recbole.py` looks at the process itself and starts real ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.baselines.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def forked(nursery: Nursery) -> Iterator[None]:
    """Every session of the module talks to a fork."""
    stand_in = SimpleNamespace(Popen=nursery.popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("baselines.library.subprocess", stand_in)
        yield
