"""`load_dataset`: from what a user types after `-d` to a `Dataset`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.catalogue import catalogue_entries, catalogue_entry
from harness.data.columns import INTERACTIONS_CSV, INTERACTIONS_PARQUET
from harness.data.dataset import ORDERS, Dataset, Order
from harness.data.readers import atomic, columnar, lcrec, tables
from harness.errors import InputError, unknown_name


@dataclass(frozen=True)
class Layout:
    """One way of laying out a folder: its interactions file is `NAME` + `ending`, or, for CSV and Parquet, always the
    same file."""

    name: str
    ending: str
    read: Callable[[Path, str, Order], Dataset]

    def names(self, folder: Path) -> list[str]:
        """What `NAME` may be in this folder."""
        if self.ending in (INTERACTIONS_CSV, INTERACTIONS_PARQUET):
            return [folder.resolve().name] if (folder / self.ending).is_file() else []
        return sorted(path.name.removesuffix(self.ending) for path in folder.glob(f"?*{self.ending}") if path.is_file())


LAYOUTS = (  # where a folder holds several, the first one counts, and the data set's notes say so
    Layout("LC-Rec", lcrec.INTERACTIONS, lcrec.read),
    Layout("RecBole atomic", atomic.INTERACTIONS, atomic.read),
    Layout("CSV", INTERACTIONS_CSV, tables.read),
    Layout("Parquet", INTERACTIONS_PARQUET, columnar.read),
)


def load_dataset(name_or_path: str, order: str = "time") -> Dataset:
    """A registered name, else a folder in one of the four layouts. With `order="file"` the lines of a folder's files
    stand in the order in time, whatever their timestamps say.

    Raises `InputError` for an unknown name (with near names), a folder in no known layout, or files that are wrong.
    """
    by = check_order(order)
    if (entry := catalogue_entries().get(name_or_path)) is not None:
        if by == "file":
            what = "--order file is for folders: a registered data set has its order already"
            raise InputError(what, where=name_or_path, mend="leave --order out, or give the folder")
        return entry.load()
    folder = Path(name_or_path).expanduser()
    if name_or_path and folder.is_dir():  # "" would be the working folder
        return read_folder(folder, by)
    if name_or_path and folder.exists():
        raise InputError("a file, where a folder is needed", where=name_or_path, mend="give the folder that holds it")
    if "/" in name_or_path or "\\" in name_or_path:
        raise InputError("no such folder", where=name_or_path, mend="check the path, or see harness datasets")
    return catalogue_entry(name_or_path).load()  # which raises, with near names


def check_order(order: str) -> Order:
    """`time` or `file`; `InputError` for anything else."""
    for known in ORDERS:
        if order == known:
            return known
    raise unknown_name("order", order, ORDERS, where="--order")


def read_folder(folder: Path, order: Order = "time") -> Dataset:
    """The data set in a folder; which layout it has is seen from its files."""
    found, name = _contents(folder)
    layout, *others = found
    dataset = layout.read(folder, name, order)
    if others:
        listed = ", ".join(other.name for other in others)
        dataset = replace(dataset, notes=(*dataset.notes, f"read in the {layout.name} layout; {listed} is there too"))
    return dataset


def folder_dataset(folder: Path) -> str:
    """What the data set in a folder is called, seen from the names of its files: they are not read."""
    return _contents(folder)[1]


def _contents(folder: Path) -> tuple[list[Layout], str]:
    """The layouts that a folder holds, the one that counts first, and the name of the data set in it."""
    found = [(layout, names) for layout in LAYOUTS if (names := layout.names(folder))]
    if not found:
        raise InputError(
            "no interactions file of a known layout",
            where=str(folder),
            mend="it needs NAME.inter.json (LC-Rec), NAME.inter (RecBole atomic), interactions.csv or "
            "interactions.parquet",
        )
    layout, names = found[0]
    own = folder.resolve().name
    if len(names) > 1 and own not in names:
        listed = ", ".join(f"{name}{layout.ending}" for name in names)
        mend = "keep one, or name the folder after the one that counts"
        raise InputError(f"{len(names)} interactions files ({listed})", where=str(folder), mend=mend)
    return [layout for layout, _ in found], own if own in names else names[0]
