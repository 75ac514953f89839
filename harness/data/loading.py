"""`load_dataset` loads the data set that `-d` names: a registered one, or a folder or file, whose layout is detected
from names of files. `import_folder` (`harness data import`) stores one as a named data set of this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np

from harness.core.json_files import open_text
from harness.data import local_store
from harness.data.catalog import catalogue_entries, catalogue_entry
from harness.data.dataset import ORDERS, Dataset, Order, filtered, safe_name
from harness.data.ragged import RaggedArray
from harness.data.raw.filters import HASH_RULE, tie_keys
from harness.data.raw.releases import named_sets
from harness.data.readers import csv_tables, lcrec, movielens, parquet_tables, recbole, sequences, table_files
from harness.data.readers.interactions import TIE_RULE
from harness.data.reading import PLAIN, Reading, is_hidden
from harness.errors import InputError, unknown_name

KNOWN = (
    "NAME.inter.json (LC-Rec), NAME.inter (RecBole atomic), interactions.csv (.tsv, .jsonl, .gz), "
    "interactions.parquet, MovieLens' ratings.dat, a table of any name or a text of sequences (docs/data-formats.md)"
)
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".tar.gz", ".bz2", ".xz", ".zst")
PART = re.compile(r"(?P<name>.*?)(?:^|[._-])(?P<part>train|training|valid|validation|val|dev|test)", re.IGNORECASE)
SHARD = re.compile(r"(?P<name>.*?)(?:^|[._-])(?:part-\d+\S*|\d{3,}-of-\d{3,})", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """One way of laying out a folder. `names` are the data sets that it finds in one, by the names of files alone.
    `told`: where a folder is read in another layout, a note says that this one is there too."""

    name: str
    names: Callable[[Path], list[str]]
    read: Callable[[Path, str, Order, Reading], Dataset]
    told: bool = True


def _ending(ending: str) -> Callable[[Path], list[str]]:
    """Names of a layout whose interactions file is NAME and an ending."""

    def names(folder: Path) -> list[str]:
        paths = chain(folder.glob(f"?*{ending}"), folder.glob(f"?*{ending}.gz"))
        file_names = {path.name.removesuffix(".gz") for path in paths if path.is_file() and not is_hidden(path)}
        splits = {f"{name}{part}" for name in recbole.split_names(folder) for part in recbole.PARTS}
        return sorted({name.removesuffix(ending) for name in file_names} - splits)

    return names


def _of_folder(has: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    """The folder's name where `has` finds the layout's files in it."""
    return lambda folder: [folder.resolve().name] if has(folder) else []


def _tables(folder: Path) -> list[Path]:
    """Tables of the folder, or of a folder of parts that stands in it under the name of a table (Spark writes such)."""
    endings = (*table_files.ENDINGS, *parquet_tables.ENDINGS)
    paths = sorted(path for path in folder.iterdir() if path.name.lower().endswith(endings) and not is_hidden(path))
    tables = [path for path in paths if table_files.stem(path) not in (csv_tables.ITEMS, csv_tables.INTERACTIONS)]
    return [path for path in tables if path.is_file() and path.name not in parquet_tables.FILES]


def _read_table(path: Path, name: str, order: Order, reading: Reading, parts: Sequence[Path] = ()) -> Dataset:
    is_parquet = path.name.lower().endswith(parquet_tables.ENDINGS)
    return (parquet_tables if is_parquet else csv_tables).read_file(path, name, order, reading, parts=parts)


def _parts(folder: Path) -> list[str]:
    """The name of the table that the tables of the folder are parts of; the folder's where the parts have none."""
    name, files = _parts_of(_tables(folder))
    return [name or folder.resolve().name] if files else []


def _read_tables(folder: Path, name: str, order: Order, reading: Reading) -> Dataset:
    """The table of a folder, or the tables that are its parts."""
    _, parts = _parts_of(_tables(folder))
    return _read_table((parts or _tables(folder))[0], name, order, reading, parts)


def _parts_of(paths: Sequence[Path]) -> tuple[str, list[Path]]:
    """The name and the files of a table that stands in several: a train, valid and test file, or shards
    (`part-00000.csv`, `NAME-00000-of-00002.parquet`). No files where `paths` are not those of one table."""
    parts = [PART.fullmatch(table_files.stem(path)) for path in paths]
    if len(paths) > 1 and all(parts):
        order = {part["part"].lower()[:2]: path for part, path in zip(parts, paths, strict=True) if part}
        names = {part["name"] for part in parts if part}
        if len(order) == len(paths) and len(names) == 1 and "tr" in order:
            ranks = {"tr": 0, "va": 1, "de": 1, "te": 2}
            return names.pop(), [order[key] for key in sorted(order, key=ranks.__getitem__)]
    shards = [SHARD.fullmatch(table_files.stem(path)) for path in paths]
    names = {shard["name"] for shard in shards if shard}
    return (names.pop(), sorted(paths)) if len(paths) > 1 and all(shards) and len(names) == 1 else ("", [])


def _is_json_table(path: Path) -> bool:
    """Whether a JSON file holds rows: it begins with two lines that are an object each, or it is a list of objects."""
    with open_text(path, "\n") as file:
        lines = [line.strip() for line, _ in zip(filter(str.strip, file), range(2), strict=False)]
    objects = len(lines) == 2 and all(line.startswith("{") and line.endswith("}") for line in lines)
    return objects or bool(lines and lines[0].startswith("["))


LAYOUTS = (  # where a folder holds several, the first one counts, and the data set's notes say so
    Layout("LC-Rec", _ending(lcrec.INTERACTIONS), lcrec.read),
    Layout("RecBole atomic", _ending(recbole.INTERACTIONS), recbole.read),
    Layout("CSV", _of_folder(lambda folder: csv_tables.named(folder, csv_tables.INTERACTIONS)), csv_tables.read),
    Layout(
        "Parquet",
        _of_folder(lambda folder: (folder / parquet_tables.INTERACTIONS).is_file()),
        lambda folder, *rest: parquet_tables.read_file(folder / parquet_tables.INTERACTIONS, *rest),
    ),
    Layout("RecBole split", recbole.split_names, recbole.read_split),
    Layout("MiniOneRec", sequences.minionerec_names, sequences.read_minionerec),
    Layout("MovieLens", movielens.names, movielens.read_folder),
    Layout("table", _of_folder(lambda folder: len(_tables(folder)) == 1), _read_tables, told=False),
    Layout("table in parts", _parts, _read_tables, told=False),
    Layout("sequences", sequences.files, sequences.read, told=False),
)


def check_order(order: str) -> Order:
    """`time` or `file`; `InputError` for anything else."""
    for order_name in ORDERS:
        if order == order_name:
            return order_name
    raise unknown_name("order", order, ORDERS, where="--order")


def read_folder(folder: Path, order: Order = "time", reading: Reading = PLAIN) -> Dataset:
    """The data set in a folder; which layout it has is seen from its files."""
    layouts, name = _contents(folder)
    layout, *alternatives = layouts
    dataset = layout.read(folder, name, order, reading)
    if listed := ", ".join(other.name for other in alternatives if other.told):
        dataset = _noted(dataset, f"read in the {layout.name} layout; {listed} is there too")
    unread = [path.name for path in _tables(folder) if path.name not in " ".join((dataset.source, *dataset.notes))]
    if dataset.text is None and unread:
        files = f"{csv_tables.ITEMS}.csv (.tsv, .jsonl)"
        dataset = _noted(dataset, f"item text is read from {files}; not read: {', '.join(unread)}")
    return _with_safe_name(filtered(dataset, reading))


def read_file(path: Path, order: Order = "time", reading: Reading = PLAIN) -> Dataset:
    """The data set of one file, with what lies beside it for its layout; the file's name says which one it has."""
    return _with_safe_name(filtered(_read_file(path, _file_name(path), order, reading), reading))


def _read_file(path: Path, name: str, order: Order, reading: Reading) -> Dataset:
    folder, lower, plain = path.parent, path.name.lower(), path.name.removesuffix(".gz")
    if plain.endswith(lcrec.INTERACTIONS) and plain != lcrec.INTERACTIONS:
        return lcrec.read(folder, name, order, reading)
    if plain.endswith(recbole.INTERACTIONS) and plain != recbole.INTERACTIONS:
        is_split = plain != f"{name}{recbole.INTERACTIONS}"
        return (recbole.read_split if is_split else recbole.read)(folder, name, order, reading)
    if (cases := sequences.minionerec_name(path)) is not None:
        return sequences.read_minionerec(folder.parent, cases, order, reading)
    if path.name in movielens.FILES and movielens.names(folder):
        return movielens.read_folder(folder, name, order, reading)
    if path.name.endswith(".json") and not _is_json_table(path):
        return lcrec.read(folder, name, order, reading)
    if lower.endswith((*parquet_tables.ENDINGS, *table_files.ENDINGS, ".json")):
        return _read_table(path, name, order, reading, _split_of(path)[1])
    if lower.endswith(table_files.TEXT_ENDINGS) and (reading.columns or csv_tables.has_header(path)):
        return csv_tables.read_file(path, name, order, reading)
    if lower.endswith(sequences.ENDINGS):
        return sequences.read_file(path, name, order, reading)
    hint = f"give one of {KNOWN}, or its folder"
    if lower.endswith(ARCHIVES):
        hint = "unpack it, and give what is in it"
    elif lower.endswith(table_files.TEXT_ENDINGS):
        hint = "say which columns are which: --columns user=1,item=2,timestamp=4 (numbers, or names of a header)"
    raise InputError("a file of no known layout", where=str(path), hint=hint, code="bad-file")


def folder_dataset(path: Path) -> str:
    """What the data set in a folder, or of a file, is called, seen from the names of its files: they are not read."""
    return safe_name(_contents(path)[1] if path.is_dir() else _file_name(path))


def _file_name(path: Path) -> str:
    """The name of a file's data set, before `safe_name`."""
    plain, folder = path.name.removesuffix(".gz"), path.parent
    for ending in (lcrec.INTERACTIONS, recbole.INTERACTIONS):
        if plain.endswith(ending) and plain != ending:
            base = plain.removesuffix(ending)
            stem, _, part = base.rpartition(".")
            return stem if f".{part}" in recbole.PARTS and stem in recbole.split_names(folder) else base
    if path.name in movielens.FILES and movielens.names(folder):
        return folder.resolve().name
    whole, parts = _split_of(path)
    stem = table_files.stem(path)
    if parts or stem == csv_tables.INTERACTIONS:
        return whole or folder.resolve().name
    return stem.partition(".txt")[0]


def _split_of(path: Path) -> tuple[str, list[Path]]:
    """The name and the files of the train, valid and test table of which this is one; no files where it is none."""
    name, parts = _parts_of(_tables(path.parent))
    is_part = len(parts) == len(table_files.PARTS) and path.name in [part.name for part in parts]
    return (name, parts) if is_part else ("", [])


def _noted(dataset: Dataset, note: str) -> Dataset:
    return replace(dataset, notes=(*dataset.notes, note))


def _with_safe_name(dataset: Dataset) -> Dataset:
    """Under a name that can be a folder of results; a note says so where that is another one."""
    name = safe_name(dataset.name)
    if name == dataset.name:
        return dataset
    return replace(_noted(dataset, f"called {name} in results, for {dataset.name!r}"), name=name)


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
        message, hint, tables = "no interactions file of a known layout", f"it needs {KNOWN}", _tables(folder)
        if len(tables) > 1:
            message += f" ({', '.join(path.name for path in tables[:4])}: give one of them in place of the folder)"
        else:
            hint = _inside(folder) or hint
        raise InputError(message, where=str(folder), hint=hint, code="bad-file")
    names, folder_name = results[0][1], folder.resolve().name
    if len(names) > 1 and folder_name not in names:
        hint = "keep one, give its file, or name the folder after the one that counts"
        message = f"{len(names)} interactions files ({', '.join(names)})"
        raise InputError(message, where=str(folder), hint=hint, code="bad-file")
    return [layout for layout, _ in results], folder_name if folder_name in names else names[0]


def load_dataset(name_or_path: str, order: str = "time", reading: Reading | None = None) -> Dataset:
    """A registered name, else a folder or file in a supported layout. With `order="file"` the lines of files define the
    order, not their timestamps; `reading` selects columns and rows.

    Raises `InputError` for an unknown name (with similar names), an unknown layout, or invalid files.
    """
    by, reading = check_order(order), reading or PLAIN
    path, registered = Path(name_or_path).expanduser(), catalogue_entries()
    entry = registered.get(name_or_path) or (None if path.exists() else registered.get(safe_name(name_or_path)))
    if entry is not None:
        if by == "file" or reading.of_files:
            option, has_value = ("--order file", "order") if by == "file" else (reading.options()[0], "columns")
            message = f"{option} is for folders and files: a registered data set has its {has_value} already"
            hint = f"leave {option} out, or give the folder"
            raise InputError(message, where=name_or_path, hint=hint, code="conflicting-options")
        return filtered(entry.load(), reading)
    if name_or_path and path.exists():  # "" would be the working directory
        return (read_folder if path.is_dir() else read_file)(path, by, reading)
    if "/" in name_or_path or "\\" in name_or_path:
        hint = "check the path, or see harness datasets"
        raise InputError("no such folder", where=name_or_path, hint=hint, code="missing-file")
    return filtered(catalogue_entry(name_or_path).load(), reading)  # raises with similar names


def import_folder(
    folder: Path,
    name: str,
    order: str = "time",
    reading: Reading = PLAIN,
    *,
    tie_seed: int | None = None,
    repeat: bool = False,
) -> tuple[local_store.StoredDataset, Dataset]:
    """Reads a folder or file and stores its content under `name`; the source is not needed afterwards. `tie_seed`
    orders equal timestamps by a hash instead of by line.

    A name that is not valid as a folder of results is converted (`safe_name`). Equal content under the same name is
    reused; other content needs `repeat`. The name of a public data set is for data with its published numbers of users,
    items and interactions. Raises `InputError` for an invalid or used name, and errors of the readers.
    """
    if not name.strip() or "/" in name or "\\" in name:
        hint = "use letters, digits, blanks and . _ + @ -"
        raise InputError(f"{name!r} is no name for a data set", where="--name", hint=hint, code="bad-setting")
    name = safe_name(name)
    stored_dataset = local_store.find(name)
    if stored_dataset is None and name in catalogue_entries() and name not in named_sets():
        raise _taken(f"{name!r} is a registered data set already")
    place = folder.expanduser()
    if not place.exists():
        raise InputError("no such folder or file", where=str(folder), hint="check the path", code="missing-file")
    dataset = (read_folder if place.is_dir() else read_file)(place, check_order(order), reading)
    if tie_seed is not None:
        dataset = reorder_ties(dataset, tie_seed)
    if stored_dataset is None and name in named_sets():
        _check_published_counts(name, dataset)
    source = dataset.source
    dataset = replace(_noted(dataset, f"imported from {dataset.name} ({source})"), name=name)
    if stored_dataset is not None and stored_dataset.fingerprint != dataset.fingerprint and not repeat:
        difference = f"({stored_dataset.fingerprint}, not {dataset.fingerprint})"
        raise _taken(f"{name!r} is kept already, with another content {difference}", ", or say --replace")
    story = {
        "made_by": "harness data import",
        "files": sorted(path.name for path in place.iterdir() if path.is_file()) if place.is_dir() else [place.name],
        "reading": reading.document(),
        "source": source,
        "order": dataset.order,
        "tie_seed": tie_seed,
        "fingerprint": dataset.fingerprint,
        "lost": dict(dataset.lost),
        "notes": list(dataset.notes),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    licence, description = "as its owner says", f"imported, {source}"
    return local_store.save_dataset(dataset, story, licence=licence, description=description), dataset


def _taken(message: str, otherwise: str = "") -> InputError:
    hint = f"choose another name{otherwise}"
    return InputError(message, where="--name", hint=hint, code="already-exists")


def _check_published_counts(name: str, dataset: Dataset) -> None:
    """Raises `InputError` if none of the published counts of the public data set `name` are those of `dataset`."""
    counts = (len(dataset.users), len(dataset.items), dataset.interactions)
    published = [(entry.users, entry.items, entry.interactions) for entry in named_sets()[name].published]
    if counts not in published:
        options = " or ".join(
            f"{users:,}, {items:,}, {rows:,}" for users, items, rows in published if users and items and rows
        )
        expected = f"{options or 'an unpublished number of'} users, items and interactions"
        sizes = f"these are {counts[0]:,}, {counts[1]:,} and {counts[2]:,}"
        raise _taken(f"{name!r} is a public data set with {expected}; {sizes}")


def reorder_ties(dataset: Dataset, seed: int) -> Dataset:
    """The data set with equal timestamps of a user ordered by a hash, as in `harness data prepare`; ids are unchanged.
    Raises `InputError` without timestamps."""
    if dataset.timestamps is None:
        message, hint = "there are no timestamps, so nothing is tied", "leave it out, or give data with timestamps"
        raise InputError(message, where="--tie-seed", hint=hint, code="conflicting-options")
    rows, values = dataset.sequences.rows(), dataset.sequences.values
    keys = tie_keys(dataset.users, dataset.items, seed, rows, values)
    order = np.lexsort((keys, dataset.timestamps, rows))
    notes = (HASH_RULE.format(seed=seed), *(note for note in dataset.notes if note != TIE_RULE))
    sequences = RaggedArray(values[order], dataset.sequences.offsets)
    return replace(dataset, sequences=sequences, timestamps=dataset.timestamps[order], notes=notes)
