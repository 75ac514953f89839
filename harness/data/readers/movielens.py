"""MovieLens 100K from the installed recbole wheel (atomic files), without importing recbole."""

from __future__ import annotations

from dataclasses import replace

from harness.core.plugins import packaged_folder
from harness.data.dataset import Dataset
from harness.data.readers import recbole_atomic
from harness.errors import InputError

NAME = "ml-100k"
FILES = "recbole:dataset_example/ml-100k"
# Without its dependencies: Python 3.12 and later have no wheels of one of them, and the data need none.
INSTALL = "pip install --no-deps recbole==1.2.1"


def read() -> Dataset:
    """All 943 users and 1,682 items: titles with their year, genres as categories.

    Order by timestamp, then by line. Raises `InputError` where the recbole package is not installed.
    """
    folder = packaged_folder(FILES)
    if folder is None:
        raise InputError("its files come with the package recbole", where=NAME, hint=INSTALL, code="missing-package")
    return replace(recbole_atomic.read(folder, NAME), source="GroupLens MovieLens 100K, from the recbole package")
