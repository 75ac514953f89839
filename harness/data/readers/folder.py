"""Detects the layout of a folder and reads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from harness.data.dataset import ORDERS, Dataset, Order, filtered
from harness.data.names import is_hidden, safe_name
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
from harness.data.reading import INTERACTIONS_PARQUET, Reading
from harness.errors import InputError, unknown_name

KNOWN = (
    "NAME.inter.json (LC-Rec), NAME.inter (RecBole atomic), interactions.csv (.tsv, .jsonl, .gz), "
    "interactions.parquet, MovieLens' ratings.dat, a table of any name or a text of sequences (docs/data-formats.md)"
)
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Layout:
    """One way of laying out a folder. `names` are the data sets that it finds in one, by the names of files alone."""

    name: str
    names: Callable[[Path], list[str]]
    read: Callable[[Path, str, Order, Reading | None], Dataset]


def _ending(ending: str) -> Callable[[Path], list[str]]:
    """Names of a layout whose interactions file is NAME and an ending."""

    def names(folder: Path) -> list[str]:
        paths = chain(folder.glob(f"?*{ending}"), folder.glob(f"?*{ending}.gz"))
        found = {path.name.removesuffix(".gz") for path in paths if path.is_file() and not is_hidden(path)}
        problems = sorted(name.removesuffix(ending) for name in found)
        splits = {f"{name}{part}" for name in recbole_splits.names(folder) for part in recbole_splits.PARTS}
        return [name for name in problems if name not in splits]

    return names


def _file(*files: str) -> Callable[[Path], list[str]]:
    """The folder's name where it holds one of these files."""
    return lambda folder: [folder.resolve().name] if any((folder / file).is_file() for file in files) else []


def _csv(folder: Path) -> list[str]:
    return [folder.resolve().name] if csv_tables.named(folder, csv_tables.INTERACTIONS) else []


def _lone_table(folder: Path) -> list[str]:
    """The folder's name where it holds one table, besides one of items."""
    return [folder.resolve().name] if len(_tables(folder)) == 1 else []


def _tables(folder: Path) -> list[Path]:
    """Tables of the folder, or of a folder of parts that stands in it under the name of a table (Spark writes such)."""
    endings = (*table_files.ENDINGS, *parquet_tables.ENDINGS)
    paths = sorted(path for path in folder.iterdir() if path.name.lower().endswith(endings) and not is_hidden(path))
    tables = [path for path in paths if table_files.stem(path) not in (csv_tables.ITEMS, csv_tables.INTERACTIONS)]
    return [path for path in tables if path.is_file() and path.name not in parquet_tables.FILES]


def _read_lone_table(folder: Path, name: str, order: Order, reading: Reading | None) -> Dataset:
    return _read_table(_tables(folder)[0], name, order, reading)


def _read_table(path: Path, name: str, order: Order, reading: Reading | None, parts: Sequence[Path] = ()) -> Dataset:
    is_parquet = path.name.lower().endswith(parquet_tables.ENDINGS)
    return (parquet_tables if is_parquet else csv_tables).read_file(path, name, order, reading, parts=parts)


def _parts(folder: Path) -> list[str]:
    """The name of the table that the tables of the folder are parts of; the folder's where the parts have none."""
    name, files = table_files.parts_of(_tables(folder))
    return [name or folder.resolve().name] if files else []


def _read_parts(folder: Path, name: str, order: Order, reading: Reading | None) -> Dataset:
    _, files = table_files.parts_of(_tables(folder))
    return _read_table(files[0], name, order, reading, files)


LAYOUTS = (  # where a folder holds several, the first one counts, and the data set's notes say so
    Layout("LC-Rec", _ending(lcrec.INTERACTIONS), lcrec.read),
    Layout("RecBole atomic", _ending(recbole_atomic.INTERACTIONS), recbole_atomic.read),
    Layout("CSV", _csv, csv_tables.read),
    Layout("Parquet", _file(INTERACTIONS_PARQUET), parquet_tables.read),
    Layout("RecBole split", recbole_splits.names, recbole_splits.read),
    Layout("MiniOneRec", minionerec.names, minionerec.read),
    Layout("MovieLens", movielens_raw.names, movielens_raw.read),
    Layout("table", _lone_table, _read_lone_table),
    Layout("table in parts", _parts, _read_parts),
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
    others = [other for other in others if other.name not in ("table", "table in parts", "sequences")]
    if others:
        listed = ", ".join(other.name for other in others)
        dataset = replace(dataset, notes=(*dataset.notes, f"read in the {layout.name} layout; {listed} is there too"))
    return _named(filtered(_with_unread(dataset, folder), reading or Reading()))


def _with_unread(dataset: Dataset, folder: Path) -> Dataset:
    """A note on tables beside the interactions, where one of them may hold the text that the data set lacks."""
    unread = [path.name for path in _tables(folder) if path.name not in " ".join((dataset.source, *dataset.notes))]
    if dataset.text is not None or not unread:
        return dataset
    note = f"item text is read from {csv_tables.ITEMS}.csv (.tsv, .jsonl); not read: {', '.join(unread)}"
    return replace(dataset, notes=(*dataset.notes, note))


def read_file(path: Path, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """The data set of one file, with what lies beside it for its layout; the file's name says which one it has."""
    return _named(filtered(_read_file(path, order, reading), reading or Reading()))


def _read_file(path: Path, order: Order, reading: Reading | None) -> Dataset:
    folder, name = path.parent, path.name
    plain, lower = name.removesuffix(".gz"), name.lower()
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
    if lower.endswith((*parquet_tables.ENDINGS, *table_files.ENDINGS, ".json")):
        whole, parts = table_files.parts_of(_tables(folder))
        if len(parts) == len(table_files.PARTS) and path.name in [part.name for part in parts]:
            return _read_table(path, whole or folder.resolve().name, order, reading, parts)
        return _read_table(path, own, order, reading)
    if lower.endswith(table_files.TEXT_ENDINGS) and _is_table(path, reading):
        return csv_tables.read_file(path, own, order, reading)
    if lower.endswith(sequences.ENDINGS):
        return sequences.read_file(path, name.partition(".txt")[0], order, reading)
    hint = f"give one of {KNOWN}, or its folder"
    if lower.endswith(ARCHIVES):
        hint = "unpack it, and give what is in it"
    elif lower.endswith(table_files.TEXT_ENDINGS):
        hint = "say which columns are which: --columns user=1,item=2,timestamp=4 (numbers, or names of a header)"
    raise InputError("a file of no known layout", where=str(path), hint=hint, code="bad-file")


def _is_table(path: Path, reading: Reading | None) -> bool:
    """Whether a text file without the ending of a table is one: its columns are given, or its header has known ones."""
    return bool(reading and reading.columns) or csv_tables.has_header(path)


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


def _inside(folder: Path) -> str:
    """A hint at a folder or an archive in the folder that may be the data set; empty where there is none."""
    for path in sorted(path for path in folder.iterdir() if not is_hidden(path)):
        if path.is_dir() and os.access(path, os.R_OK | os.X_OK) and any(layout.names(path) for layout in LAYOUTS):
            return f"its folder {path.name} has one: give {path}"
        if path.name.lower().endswith(ARCHIVES):
            return f"unpack {path.name}, and give what is in it"
    return ""


def _contents(folder: Path) -> tuple[list[Layout], str]:
    """The layouts that a folder holds, the one that counts first, and the name of the data set in it."""
    results = [(layout, names) for layout in LAYOUTS if (names := layout.names(folder))]
    if not results:
        message, tabled = "no interactions file of a known layout", _tables(folder)
        hint = f"it needs {KNOWN}"
        if len(tabled) > 1:
            message += f" ({', '.join(path.name for path in tabled[:4])}: give one of them in place of the folder)"
        elif inner := _inside(folder):
            hint = inner
        raise InputError(message, where=str(folder), hint=hint, code="bad-file")
    names = results[0][1]
    own = folder.resolve().name
    if len(names) > 1 and own not in names:
        listed = ", ".join(names)
        hint = "keep one, give its file, or name the folder after the one that counts"
        message = f"{len(names)} interactions files ({listed})"
        raise InputError(message, where=str(folder), hint=hint, code="bad-file")
    return [layout for layout, _ in results], own if own in names else names[0]
