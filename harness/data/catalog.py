"""The catalogue of data sets for `-d NAME`.

It has the data set of a package, the public ones that `harness data prepare` builds, and those prepared or imported on
this machine (`harness.data.local_store`). A third-party package adds to it with an entry point in the group
`harness.datasets`, whose object is a `CatalogueEntry`. Listing the catalogue imports no heavy library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from harness.core.plugins import packaged_folder, plugins, warn
from harness.data import local_store
from harness.data.raw.releases import Published, named_sets, resolve
from harness.errors import InputError, unknown_name

if TYPE_CHECKING:
    from harness.data.dataset import Dataset

GROUP = "harness.datasets"


@dataclass(frozen=True)
class CatalogueEntry:
    """One registered data set.

    `reader`: `module:function`, a function without arguments that returns the `Dataset`; a data set stored on this
    machine (`kept`) has its own function. `files`: `package:folder/inside` if an installed package has the files, else
    empty. `users`, `items`, `interactions` and `fingerprint`: expected values (None if not stated), which `harness data
    verify` checks (published ones for a data set that is not prepared yet). `obtain`: hint if it is not ready.
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
    kept: bool = False
    obtain: str = ""

    def ready(self) -> bool:
        """Whether its files are on this machine."""
        if self.kept:
            return local_store.find(self.name) is not None
        return not self.files or packaged_folder(self.files) is not None

    def load(self) -> Dataset:
        """Reads the data set; `InputError` if its files are missing or invalid."""
        if self.kept:
            if not self.ready():
                message = "it is not on this machine yet"
                raise InputError(message, where=self.name, hint=self.obtain, code="not-available")
            return local_store.load(self.name)
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
        obtain="pip install --no-deps recbole==1.2.1",
    ),
)


def catalogue_entries() -> dict[str, CatalogueEntry]:
    """All data sets by name: those of the project, those stored on this machine, and those of installed packages (which
    cannot replace a name)."""
    entries = {entry.name: entry for entry in DATASETS}
    entries.update({name: _public(name) for name, data in named_sets().items() if data.listed})
    for name, stored in local_store.list_stored().items():
        entry = entries.setdefault(name, CatalogueEntry(name, "", "", "", "", kept=True))
        if entry.kept:
            texts = {key: getattr(stored, key) or getattr(entry, key) for key in ("source", "licence", "description")}
            counts = {key: getattr(stored, key) for key in ("users", "items", "interactions", "fingerprint")}
            entries[name] = replace(entry, **texts, **counts)
    for source, entry in plugins(entry_points(group=GROUP), CatalogueEntry):
        if entry.name in entries:
            warn(f"{source} is skipped: the data set name {entry.name!r} is taken")
        else:
            entries[entry.name] = entry
    return entries


def catalogue_entry(name: str) -> CatalogueEntry:
    """The entry of a name, or of a category's full name; `InputError` with similar names if there is none."""
    entries = catalogue_entries()
    if name in entries:
        return entries[name]
    try:
        canonical = resolve(name).name
    except InputError as error:
        if ":" in name:
            raise
        raise unknown_name("data set", name, entries, otherwise="(a path to a folder works too)") from error
    return entries[canonical] if canonical in entries else _public(canonical)


def _public(name: str) -> CatalogueEntry:
    """A data set that `harness data prepare` builds."""
    data = resolve(name)
    expected = next((entry for entry in data.published if entry.interactions is not None), Published(""))
    return CatalogueEntry(
        name=data.name,
        source=f"{data.release.title}, {data.release.homepage}",
        licence=data.release.licence,
        description=data.title,
        reader="",
        users=expected.users,
        items=expected.items,
        interactions=expected.interactions,
        kept=True,
        obtain=data.how_to_get,
    )
