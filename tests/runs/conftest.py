"""A toy folder, a store and the fake model, for tests of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store.run_store import Store
from tests.fakes import Fake
from tests.folders import csv_folder, register


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a toy data set; the cache folder is the test's own, and the model `fake` is registered."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    register(monkeypatch)
    monkeypatch.setattr(Fake, "failure", None)
    monkeypatch.setattr(Fake, "resumed", [])
    monkeypatch.setattr(Fake, "asked", [])
    return str(csv_folder(tmp_path / "toy"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")
