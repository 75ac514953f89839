"""RecBole's atomic files: `NAME.inter` with a timestamp and, optionally, `NAME.item`.

Tab separated, no quotes; the header gives each field as `name:type`. A sequence of tokens is parted by spaces, or by
commas where it has some.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.data.columns import ATOMIC_ITEM, ATOMIC_TEXT, ATOMIC_TYPES, ATOMIC_USER, ATOMIC_YEAR, CATEGORIES, TIMESTAMP
from harness.data.dataset import Dataset, ItemText, Order
from harness.data.readers.files import open_text, read_text
from harness.data.readers.log import WITHOUT_TIME, Log
from harness.errors import InputError

INTERACTIONS = ".inter"
ITEMS = ".item"


@dataclass(frozen=True)
class AtomicFile:
    """Fields with their types, and the rows in file order; `lines[n]` is where row `n` stands."""

    path: Path
    types: dict[str, str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, field: str) -> list[str]:
        place = list(self.types).index(field)
        return [row[place] for row in self.rows]


def read(folder: Path, name: str, order: Order = "time") -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line). With the order
    `file` the rows stand as they do, and the timestamp may be missing."""
    path = folder / f"{name}{INTERACTIONS}"
    timed = {TIMESTAMP: "float"} if order == "time" else {}
    file = read_atomic(path, {ATOMIC_USER: "token", ATOMIC_ITEM: "token", **timed})
    times = file.column(TIMESTAMP) if timed else []
    log = Log(path, file.column(ATOMIC_USER), file.column(ATOMIC_ITEM), times, file.lines, order)
    described = folder / f"{name}{ITEMS}"
    text = _texts(described) if described.exists() else None
    return log.dataset(name, text, f"RecBole atomic files, {path.name}")


def read_atomic(path: Path, needed: dict[str, str]) -> AtomicFile:
    """One atomic file that must have the fields `needed`, each of its type."""
    rows, lines = [], []
    with open_text(path, "\n") as file:  # parted by "\n" alone: a title may hold other line separators
        header = file.readline()
        if not header.strip():
            read_text(path)  # which says so where the file is empty
        types = _types(path, header.rstrip("\r\n"))
        for field, kind in needed.items():
            if types.get(field) != kind:
                has = ", ".join(f"{name}:{of}" for name, of in types.items())
                mend = f"add a field {field}:{kind} (it has {has})" + (WITHOUT_TIME if field == TIMESTAMP else "")
                raise InputError(f"the header lacks {field}:{kind}", where=f"{path} line 1", mend=mend)
        for number, line in enumerate(file, start=2):
            line = line.rstrip("\r\n")
            if not line:
                continue
            row = line.split("\t")
            if len(row) != len(types):
                what = f"{len(row)} fields where the header has {len(types)}"
                raise InputError(what, where=f"{path} line {number}", mend="part fields by one tab each")
            rows.append(row)
            lines.append(number)
    if not rows:
        raise InputError("no rows after the header", where=str(path), mend="write the data to it again")
    return AtomicFile(path, types, rows, lines)


def _types(path: Path, header: str) -> dict[str, str]:
    types: dict[str, str] = {}
    for part in header.split("\t"):
        name, _, kind = part.partition(":")
        if not name or kind not in ATOMIC_TYPES:
            mend = f"write name:type, parted by tabs, type one of {', '.join(ATOMIC_TYPES)}"
            raise InputError(f"header field {part!r} has no known type", where=f"{path} line 1", mend=mend)
        if name in types:
            raise InputError(f"field {name!r} stands twice", where=f"{path} line 1", mend="keep one of the two")
        types[name] = kind
    return types


def _texts(path: Path) -> dict[str, ItemText]:
    file = read_atomic(path, {ATOMIC_ITEM: "token"})
    found = {}
    for text, names in ATOMIC_TEXT.items():
        for name in names:
            if name in file.types:
                found[text] = file.column(name)
                break
    years = file.column(ATOMIC_YEAR) if ATOMIC_YEAR in file.types else [""] * len(file.rows)
    texts: dict[str, ItemText] = {}
    for row, item in enumerate(file.column(ATOMIC_ITEM)):
        where = f"{path} line {file.lines[row]} field {ATOMIC_ITEM!r}"
        if not item.strip():
            raise InputError("empty item id", where=where, mend="give every row one")
        if item in texts:
            raise InputError(f"item {item!r} stands twice", where=where, mend="keep one row an item")
        fields = {text: column[row].strip() for text, column in found.items()}
        listed = fields.pop(CATEGORIES, "")
        year = years[row].strip()
        if year and fields.get("title"):
            fields["title"] = f"{fields['title']} ({year})"
        texts[item] = ItemText(**fields, categories=_sequence(listed))
    return texts


def _sequence(text: str) -> tuple[str, ...]:
    parts = text.split(",") if "," in text else text.split(" ")
    return tuple(part.strip() for part in parts if part.strip())
