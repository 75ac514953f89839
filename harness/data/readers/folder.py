"""Detects the layout of a folder and reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.columns import INTERACTIONS_PARQUET
from harness.data.dataset import ORDERS, Dataset, Order
from harness.data.filters import filtered
from harness.data.names import safe_name
from harness.data.readers import (
    csv_tables,
    lcrec,
    minionerec,
    movielens_raw,
    parquet_tables,
    recbole_atomic,
    recbole_splits,
    sequences,
    table_files,
)
from harness.data.reading import Reading
from harness.errors import InputError, unknown_name

KNOWN = (
    "NAME.inter.json (LC-Rec), NAME.inter (RecBole atomic), interactions.csv (.tsv, .jsonl, .gz), "
    "interactions.parquet, MovieLens' ratings.dat, a table of any name or a text of sequences (docs/data-formats.md)"
)


@dataclass(frozen=True)
class Layout:
    """One way of laying out a folder. `names` are the data sets that it finds in one, by the names of files alone."""

    name: str
    names: Callable[[Path], list[str]]
    read: Callable[[Path, str, Order, Reading | None], Dataset]


def _ending(ending: str) -> Callable[[Path], list[str]]:
    """Names of a layout whose interactions file is NAME and an ending."""

    def names(folder: Path) -> list[str]:
        problems = sorted(path.name.removesuffix(ending) for path in folder.glob(f"?*{ending}") if path.is_file())
        splits = {f"{name}{part}" for name in recbole_splits.names(folder) for part in recbole_splits.PARTS}
        return [name for name in problems if name not in splits]

    return names


def _file(*files: str) -> Callable[[Path], list[str]]:
    """The folder's name where it holds one of these files."""
    return lambda folder: [folder.resolve().name] if any((folder / file).is_file() for file in files) else []


def _lone_table(folder: Path) -> list[str]:
    """The folder's name where it holds one table, besides one of items."""
    return [folder.resolve().name] if len(_tables(folder)) == 1 else []


def _tables(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.name.endswith(table_files.ENDINGS) and path.is_file())
    return [path for path in paths if table_files.stem(path) not in (csv_tables.ITEMS, csv_tables.INTERACTIONS)]


def _read_lone_table(folder: Path, name: str, order: Order, reading: Reading | None) -> Dataset:
    return csv_tables.read_file(_tables(folder)[0], name, order, reading)


TABLES = [f"{csv_tables.INTERACTIONS}{ending}" for ending in table_files.ENDINGS]


LAYOUTS = (  # where a folder holds several, the first one counts, and the data set's notes say so
    Layout("LC-Rec", _ending(lcrec.INTERACTIONS), lcrec.read),
    Layout("RecBole atomic", _ending(recbole_atomic.INTERACTIONS), recbole_atomic.read),
    Layout("CSV", _file(*TABLES), csv_tables.read),
    Layout("Parquet", _file(INTERACTIONS_PARQUET), parquet_tables.read),
    Layout("RecBole split", recbole_splits.names, recbole_splits.read),
    Layout("MiniOneRec", minionerec.names, minionerec.read),
    Layout("MovieLens", movielens_raw.names, movielens_raw.read),
    Layout("table", _lone_table, _read_lone_table),
    Layout("sequences", sequences.files, sequences.read),
)


def check_order(order: str) -> Order:
    """`time` or `file`; `InputError` for anything else."""
    for current_order in ORDERS:
        if order == current_order:
            return current_order
    raise unknown_name("order", order, ORDERS, where="--order")


def read_folder(folder: Path, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """The data set in a folder; which layout it has is seen from its files."""
    layouts, name = _contents(folder)
    layout, *others = layouts
    dataset = layout.read(folder, name, order, reading)
    others = [other for other in others if other.name not in ("table", "sequences")]
    if others:
        listed = ", ".join(other.name for other in others)
        dataset = replace(dataset, notes=(*dataset.notes, f"read in the {layout.name} layout; {listed} is there too"))
    return _named(filtered(dataset, reading or Reading()))


def read_file(path: Path, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """The data set of one file, with what lies beside it for its layout; the file's name says which one it has."""
    return _named(filtered(_read_file(path, order, reading), reading or Reading()))


def _read_file(path: Path, order: Order, reading: Reading | None) -> Dataset:
    folder, name = path.parent, path.name
    plain = name.removesuffix(".gz")
    for ending, read in ((lcrec.INTERACTIONS, lcrec.read), (recbole_atomic.INTERACTIONS, recbole_atomic.read)):
        if plain.endswith(ending) and plain != ending:
            own = plain.removesuffix(ending)
            stem, _, part = own.rpartition(".")
            if f".{part}" in recbole_splits.PARTS and stem in recbole_splits.names(folder):
                return recbole_splits.read(folder, stem, order, reading)
            return read(folder, own, order, reading)
    if (cases := minionerec.of_file(path)) is not None:
        return minionerec.read(folder.parent, cases, order, reading)
    if name in movielens_raw.FILES and movielens_raw.names(folder):
        return movielens_raw.read(folder, folder.resolve().name, order, reading)
    if name.endswith(".json") and not table_files.is_json_table(path):
        return lcrec.read(folder, name.removesuffix(".json"), order, reading)
    own = folder.resolve().name if table_files.stem(path) == csv_tables.INTERACTIONS else table_files.stem(path)
    if path.suffix in (".parquet", ".pq"):
        return parquet_tables.read_file(path, own, order, reading)
    if name.endswith((*table_files.ENDINGS, ".json")):
        return csv_tables.read_file(path, own, order, reading)
    if name.endswith(sequences.ENDINGS):
        return sequences.read_file(path, name.partition(".txt")[0], order, reading)
    raise InputError(
        "a file of no known layout", where=str(path), hint=f"give one of {KNOWN}, or its folder", code="bad-file"
    )


def folder_dataset(path: Path) -> str:
    """What the data set in a folder, or of a file, is called, seen from the names of its files: they are not read."""
    if path.is_dir():
        return safe_name(_contents(path)[1])
    return safe_name(_file_name(path))


def _file_name(path: Path) -> str:
    plain = path.name.removesuffix(".gz")
    for ending in (lcrec.INTERACTIONS, recbole_atomic.INTERACTIONS):
        if plain.endswith(ending):
            own = plain.removesuffix(ending)
            stem, _, part = own.rpartition(".")
            return stem if f".{part}" in recbole_splits.PARTS else own
    of_folder = table_files.stem(path) == csv_tables.INTERACTIONS or path.name in movielens_raw.FILES
    return path.parent.resolve().name if of_folder else table_files.stem(path).partition(".txt")[0]


def _named(dataset: Dataset) -> Dataset:
    """Under a name that can be a folder of results; a note says so where that is another one."""
    name = safe_name(dataset.name)
    if name == dataset.name:
        return dataset
    return replace(dataset, name=name, notes=(*dataset.notes, f"called {name} in results, for {dataset.name!r}"))


def _contents(folder: Path) -> tuple[list[Layout], str]:
    """The layouts that a folder holds, the one that counts first, and the name of the data set in it."""
    results = [(layout, names) for layout in LAYOUTS if (names := layout.names(folder))]
    if not results:
        message, tabled = "no interactions file of a known layout", _tables(folder)
        if len(tabled) > 1:
            message += f" ({', '.join(path.name for path in tabled[:4])}: give one of them in place of the folder)"
        raise InputError(message, where=str(folder), hint=f"it needs {KNOWN}", code="bad-file")
    names = results[0][1]
    own = folder.resolve().name
    if len(names) > 1 and own not in names:
        listed = ", ".join(names)
        hint = "keep one, give its file, or name the folder after the one that counts"
        message = f"{len(names)} interactions files ({listed})"
        raise InputError(message, where=str(folder), hint=hint, code="bad-file")
    return [layout for layout, _ in results], own if own in names else names[0]
