"""The data sets that `-d NAME` knows: a table of entries as data.

A third-party package adds to it with an entry point in the group `harness.datasets`, whose object is a
`CatalogueEntry`. Listing the table and asking what is ready imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from harness.data.packaged import packaged_folder
from harness.errors import unknown_name

if TYPE_CHECKING:
    from harness.data.dataset import Dataset

GROUP = "harness.datasets"


@dataclass(frozen=True)
class CatalogueEntry:
    """One registered data set.

    `reader` is `module:function`, a function without arguments that gives the `Dataset`. `files` is
    `package:folder/inside` where its files come with an installed package, empty where the reader needs none.
    `users`, `items`, `interactions` and `fingerprint` are what the reader must give (None where not stated);
    `harness data verify` holds it to them.
    """

    name: str
    source: str
    licence: str
    description: str
    reader: str
    files: str = ""
    users: int | None = None
    items: int | None = None
    interactions: int | None = None
    fingerprint: str | None = None

    def ready(self) -> bool:
        """Whether its files are on this machine."""
        return not self.files or packaged_folder(self.files) is not None

    def load(self) -> Dataset:
        """Reads it; `InputError` where its files are missing or wrong."""
        module, _, function = self.reader.partition(":")
        return getattr(import_module(module), function)()


DATASETS = (
    CatalogueEntry(
        name="ml-100k",
        source="GroupLens MovieLens 100K, https://grouplens.org/datasets/movielens/100k/, from the recbole package",
        licence="GroupLens terms: research use, no redistribution without permission",
        description="film ratings 1997-1998 with titles, years and genres",
        reader="harness.data.readers.movielens:read",
        files="recbole:dataset_example/ml-100k",
        users=943,
        items=1682,
        interactions=100_000,
        fingerprint="fb776602fb660507",
    ),
)


def catalogue_entries() -> dict[str, CatalogueEntry]:
    """All data sets by name: this project's, then those that installed packages add (which may take no name away)."""
    known = {entry.name: entry for entry in DATASETS}
    for point in entry_points(group=GROUP):
        entry = point.load()
        known.setdefault(entry.name, entry)
    return known


def catalogue_entry(name: str) -> CatalogueEntry:
    """The entry of one name; `InputError` with near names for a miss."""
    known = catalogue_entries()
    if name not in known:
        raise unknown_name("data set", name, known, otherwise="(a path to a folder works too)")
    return known[name]
