"""RecBole's processes, forked from one that has imported it: `forked` and `forked_session` are for the tests that look
at what a model does. `test_recbole.py` looks at the process itself, too, and starts real ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tests.baselines.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@contextmanager
def sessions_of(nursery: Nursery) -> Iterator[None]:
    stand_in = SimpleNamespace(Popen=nursery.popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("baselines.library.subprocess", stand_in)
        yield


@pytest.fixture(scope="module")
def forked(nursery: Nursery) -> Iterator[None]:
    """Every session of the module talks to a fork."""
    with sessions_of(nursery):
        yield


@pytest.fixture
def forked_session(nursery: Nursery) -> Iterator[None]:
    """The sessions of one test talk to forks."""
    with sessions_of(nursery):
        yield
