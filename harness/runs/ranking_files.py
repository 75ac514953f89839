"""Reads external ranking files into rows: tables (commas, semicolons, tabs), TREC runs, JSON, ranx's LZ4 files,
Parquet.

Ids are not converted; `harness.runs.rankings` interprets the rows.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.json_files import open_text, parse_json, read_json, room
from harness.data.readers.interactions import written_list
from harness.data.readers.parquet_tables import is_list, read_parquet
from harness.data.readers.table_files import first_line, read_table, separator_of
from harness.data.reading import ITEM, RANK, SCORE, USER, Reading, normalized
from harness.errors import InputError
from harness.store.record import COLUMNS as OURS

ALIASES: dict[str, tuple[str, ...]] = {
    USER: ("user", "user_id", "userid", "uid", "query", "query_id", "q_id", "qid", "customer", "customer_id"),
    ITEM: (
        *("item", "item_id", "itemid", "iid", "doc", "doc_id", "docid", "document_id"),
        *("product", "product_id", "movie", "movie_id", "asin", "sku"),
    ),
    SCORE: ("score", "scores", "prediction", "pred", "similarity", "logit"),
    RANK: ("rank", "position"),
}
ROLES = {normalized(name): role for role, names in ALIASES.items() for name in names}
# Of a file that has neither a score nor a rank by those names.
FALLBACK_ALIASES = {
    SCORE: ("rating", "predicted_rating", "predicted_score", "relevance", "probability", "prob", "confidence", "est"),
    RANK: ("distance", "dist"),
}
LISTS = ("items", "item_ids", "item_list", "predictions", "recommendations", "ranking", "topk", "recommended_items")
TABLE_NAMES = (".csv", ".tsv")
EXPECTED = "begin with a header such as user,item,score (or rank in place of score)"
MAPPING = "give {user: {item: score}} or {user: [item, …]}, best first"
TREC_FIELDS = 6
LZ4_LAYERS = 2  # ranx compresses twice


@dataclass(frozen=True)
class Listed:
    """Rows of one file, in its order. `users` and `items`: raw ids; `scores` (larger is better) and `ranks` (smaller is
    better): float64, None if the file has none. `empty`: users with an explicit empty list. `whole`: a user without
    rows has an empty list, as in `predictions.parquet`. `place(n)`: location of row n for messages; `notes`: on its
    columns."""

    layout: str
    users: Sequence[str]
    items: Sequence[str]
    scores: np.ndarray | None
    ranks: np.ndarray | None
    place: Callable[[int], str]
    empty: frozenset[str] = frozenset()
    whole: bool = False
    notes: tuple[str, ...] = ()


def read_listed(path: Path) -> Listed:
    """The rows of a file, whose format is detected by its name (.json, .lz4, .parquet, .csv, .tsv), else by its first
    line. Raises `InputError` for invalid files."""
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    try:
        if kind == ".json":
            content = _flat(read_json(path))
            return _records(content, path, "JSON") if _is_records(content) else _mapping(content, path, "JSON")
        if kind in (".jsonl", ".ndjson"):
            with open_text(path, "\n") as file:
                rows = [parse_json(line, f"{path} line {n}") for n, line in enumerate(file, 1) if line.strip()]
            return _records(rows, path, "JSON lines")
        if kind == ".lz4":
            return _mapping(_lz4(path), path, "ranx LZ4")
        if kind in (".parquet", ".parq", ".pq"):
            return _parquet(path)
        with open_text(path) as file:
            skipped, header = first_line(file)
        mark = separator_of(header.rstrip("\r\n"))
        if kind in TABLE_NAMES or {USER, ITEM} <= set(map(_role, header.split(mark))):
            return _table(path, mark, f"{path} line {skipped + 1}")
        return _trec(path)
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", where=path, hint="correct the quotes") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise InputError(f"cannot be read: {reason}", where=path) from error


def _role(name: str) -> str:
    """Role of a column by its name; "" if unknown. RecBole's types after a colon are ignored.

    >>> _role("user_id:token"), _role(" Item "), _role("price")
    ('user', 'item', '')
    """
    return ROLES.get(normalized(name), "")


def _columns(names: Sequence[str], location: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """Position of each role's column; notes on the other columns, and on one that is a score by its meaning alone."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        role = _role(name)
        if role in places:
            message = f"columns {names[places[role]]!r} and {name!r} both name the {role}"
            raise InputError(message, where=location, hint="keep one of the two")
        if role:
            places[role] = place
    if missing := [role for role in (USER, ITEM) if role not in places]:
        raise InputError(f"no column {missing[0]!r}", where=location, hint=EXPECTED)
    notes: list[str] = []
    if SCORE not in places and RANK not in places:
        plain = [normalized(name) for name in names]
        fallbacks = [
            (role, name) for role, alias in FALLBACK_ALIASES.items() for name in map(normalized, alias) if name in plain
        ]
        places |= {role: plain.index(name) for role, name in fallbacks[:1]}
        notes = [f"column {names[places[role]]!r} is read as the {role}" for role, _ in fallbacks[:1]]
    unread = ", ".join(name for place, name in enumerate(names) if place not in places.values() and name)
    return places, (*notes, *([f"ignored columns: {unread}"] if unread else []))


def _table(path: Path, mark: str, header: str) -> Listed:
    """A header, then one row an item, or one with a list of items; a row without an item is an empty list. `mark`
    separates the fields, `header` is where the header is."""
    table = read_table(path, Reading(bad_lines=0))
    names = table.columns
    if any(normalized(name) in map(normalized, LISTS) for name in names) and ITEM not in map(_role, names):
        return _records([_cells(names, row) for row in table.rows], path, "CSV")
    places, notes = _columns(names, header)
    layout = {"\t": "table (tabs)", ";": "table (semicolons)"}.get(mark, "CSV")
    cells = {role: [row[place].strip() for row in table.rows] for role, place in places.items()}
    for role in {SCORE, RANK} & cells.keys() if mark == ";" else ():
        cells[role] = [cell.replace(",", ".") for cell in cells[role]]  # such tables have decimal commas
    return _listed(layout, cells, lambda n: f"{path} line {table.lines[n]}", (*notes, *table.notes))


def _cells(names: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
    """A row by name, lists parsed."""
    cells = zip(names, row, strict=False)
    return {name: written_list(cell) if cell.strip().startswith("[") else cell for name, cell in cells}


def _trec(path: Path) -> Listed:
    """Lines of user, Q0, item, rank, score and tag."""
    rows, lines = [], []
    with open_text(path, "\n") as file:
        for number, line in enumerate(file, start=1):
            if not (fields := line.split()):
                continue
            if len(fields) != TREC_FIELDS:
                message = f"{len(fields)} fields, a TREC run has {TREC_FIELDS}"
                hint = f"give user Q0 item rank score tag, or {EXPECTED}"
                raise InputError(message, where=f"{path} line {number}", hint=hint)
            rows.append(fields)
            lines.append(number)
    cells = {role: [row[place] for row in rows] for role, place in ((USER, 0), (ITEM, 2), (RANK, 3), (SCORE, 4))}
    return _listed("TREC run", cells, lambda n: f"{path} line {lines[n]}", ())


def _parquet(path: Path) -> Listed:
    """One row an item, as in a table; `predictions.parquet` of a run is detected by its columns."""
    table = read_parquet(path)
    names = table.column_names
    if any(is_list(kind) for kind in table.schema.types):
        return _records(table.to_pylist(), path, "Parquet")
    places, notes = _columns(names, f"{path} (columns {', '.join(names)})")
    cells: dict[str, list[Any]] = {}
    for role, place in places.items():
        column = table.column(place).to_pylist()
        cells[role] = ["" if value is None or (role == ITEM and value != value) else value for value in column]
    for role in (USER, ITEM):
        location = f"{path} field {names[places[role]]!r}"
        cells[role] = [value if value == "" else _id(value, location) for value in cells[role]]
    is_ours = tuple(names) == OURS
    layout = "predictions.parquet" if is_ours else "Parquet"
    return _listed(layout, cells, lambda n: f"{path} row {n + 1}", notes, is_whole=is_ours)


def _listed(
    layout: str,
    cells: Mapping[str, list[Any]],
    place: Callable[[int], str],
    notes: tuple[str, ...],
    *,
    is_whole: bool = False,
) -> Listed:
    """Columns by role, validated; rows without an item removed."""
    values = [n for n, item in enumerate(cells[ITEM]) if item != ""]
    empty = {cells[USER][n] for n, item in enumerate(cells[ITEM]) if item == ""}
    rows = {role: [column[n] for n in values] for role, column in cells.items()}

    def where(n: int) -> str:
        return place(values[n])

    if contradictory := empty & set(rows[USER]):
        n = next(n for n, item in enumerate(cells[ITEM]) if item == "" and cells[USER][n] in contradictory)
        message = f"user {cells[USER][n]!r} has items and a row without an item"
        raise InputError(message, where=place(n), hint="remove the empty row")
    scores, ranks = (None if role not in rows else _numbers(rows[role], role, where) for role in (SCORE, RANK))
    return Listed(layout, rows[USER], rows[ITEM], scores, ranks, where, frozenset(empty), is_whole, notes)


def _flat(content: Any) -> Any:
    """{user: [{"item": …, "score": …}, …]} as rows, and anything else as it is."""
    if not isinstance(content, Mapping) or not all(isinstance(ranked, list) for ranked in content.values()):
        return content
    entries = [entry for ranked in content.values() for entry in ranked]
    if not _is_records(entries):
        return content
    empty = {name: "" for name in entries[0]}
    return [{**entry, USER: user} for user, ranked in content.items() for entry in (ranked or [empty])]


def _is_records(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(row, Mapping) for row in content)


def _records(rows: Sequence[Any], path: Path, layout: str) -> Listed:
    """Objects with a user and an item, or with a user and a list of items, best first, and perhaps one of scores."""
    if not _is_records(rows):
        raise InputError("no rows of objects", where=path, hint='write {"user": …, "item": …, "score": …} a line')
    names = [name for name, value in rows[0].items() if _role(name) or (name in LISTS and isinstance(value, list))]
    places = {"item" if name in LISTS else _role(name): name for name in names}
    if missing := [role for role in (USER, ITEM) if role not in places]:
        message = f"no column {missing[0]!r} (it has {', '.join(rows[0])})"
        raise InputError(message, where=f"{path} row 1", hint=EXPECTED)
    cells: dict[str, list[Any]] = {role: [] for role in places}
    owners: list[int] = []
    for number, row in enumerate(rows, start=1):
        values = {role: row.get(name) for role, name in places.items()}
        size = len(values[ITEM]) if isinstance(values[ITEM], list) else 1
        if size == 0:
            values[ITEM], size = "", 1
        for role, value in values.items():
            listed = value if isinstance(value, list) else [value] * size
            if len(listed) != size:
                raise InputError(f"{len(listed)} {role}s for {size} items", where=f"{path} row {number}", hint=EXPECTED)
            cells[role] += listed
        owners += [number] * size
    if SCORE not in cells and RANK not in cells:
        cells[RANK] = [n + 1 for n in range(len(owners))]  # best first
    for role in (USER, ITEM):
        cells[role] = [
            "" if v in ("", None) else _id(v, f"{path} row {n}") for v, n in zip(cells[role], owners, strict=True)
        ]
    return _listed(layout, cells, lambda n: f"{path} row {owners[n]}", ())


def _mapping(content: Any, path: Path, layout: str) -> Listed:
    """{user: {item: score}}, {user: [item, …]} or {user: [[item, score], …]}, one form for all users; an empty list
    fits both."""
    if not isinstance(content, Mapping):
        raise InputError("is not a mapping of users", where=path, hint=MAPPING)
    kinds: set[str] = set()
    rows: list[tuple[str, str, Any, int]] = []
    for user, ranked in content.items():
        location = f"{path} user {user!r}"
        pairs, kind = _ranked(ranked, location)
        kinds |= {kind} if pairs else set()
        if len(kinds) > 1:
            raise InputError("has scores for some users only", where=location, hint=MAPPING)
        rows += [(str(user), _id(item, location), score, place) for place, (item, score) in enumerate(pairs, start=1)]

    def place(n: int) -> str:
        return f"{path} user {rows[n][0]!r}"

    empty = frozenset(str(user) for user, ranked in content.items() if not ranked)
    columns: Iterable[tuple[Any, ...]] = zip(*rows, strict=True) if rows else [()] * 4
    users, items, values, places = map(list, columns)
    listed = kinds == {"list"}
    scores = None if listed else _numbers(values, SCORE, lambda n: f"{place(n)} item {items[n]!r}", texts=False)
    ranks = np.array(places, dtype=np.float64) if listed else None
    return Listed(f"{layout} (lists)" if listed else layout, users, items, scores, ranks, place, empty)


def _ranked(ranked: Any, location: str) -> tuple[list[tuple[Any, Any]], str]:
    """Items with their scores, and the form: `scores` or `list`."""
    if isinstance(ranked, Mapping):
        return list(ranked.items()), "scores"
    if not isinstance(ranked, list):
        raise InputError("is neither a mapping of items to scores nor a list of items", where=location, hint=MAPPING)
    if ranked and all(isinstance(entry, list) and len(entry) == 2 for entry in ranked):
        return [(item, score) for item, score in ranked], "scores"
    return [(item, None) for item in ranked], "list"


def _id(item: Any, location: str) -> str:
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    if type(item) not in (str, int):
        raise InputError(f"{str(item)[:40]!r} is not an item", where=location, hint="write items as text or integers")
    return str(item)


def _lz4(path: Path) -> Any:
    """Content of a .lz4 file of ranx's `Run.save`."""
    import io

    import cbor2
    import lz4.frame

    try:
        raw, limit = path.read_bytes(), room()
        for _ in range(LZ4_LAYERS):
            with lz4.frame.LZ4FrameFile(io.BytesIO(raw)) as file:
                raw = bytes(file.read(limit + 1))
            if len(raw) > limit:
                raise InputError("too large for this machine's memory", where=path)
        return cbor2.loads(raw)
    except (RuntimeError, EOFError, ValueError, MemoryError, RecursionError, cbor2.CBORError) as error:
        raise InputError("not a file of ranx's Run.save", where=path, hint="save it again with Run.save") from error


def _numbers(values: Sequence[Any], role: str, location: Callable[[int], str], *, texts: bool = True) -> np.ndarray:
    """float64; `texts`: numbers may be text. Raises `InputError` for values that are not finite numbers."""
    positions = np.array([_number(value, texts=texts) for value in values], dtype=np.float64)
    if len(wrong := np.flatnonzero(~np.isfinite(positions))):
        n = int(wrong[0])
        hint = "give a number, larger is better" if role == SCORE else "give a number, 1 is the best"
        raise InputError(f"{role} {repr(values[n])[:60]} is not a finite number", where=location(n), hint=hint)
    return positions


def _number(value: Any, *, texts: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, *((str,) if texts else ()))):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
