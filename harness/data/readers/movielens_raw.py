"""Reader of MovieLens in GroupLens's formats: `u.data` with `u.item` (100K), `ratings.dat` with `movies.dat` (1M, 10M),
`ratings.csv` with `movies.csv` (20M and later, and the "latest" sets). Titles are UTF-8 or Latin-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.json_files import open_text
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.readers.csv_tables import columns_of, listed_categories
from harness.data.readers.interactions import Log, plain_ids
from harness.data.readers.table_files import read_table
from harness.data.reading import ITEM, RATING, TIMESTAMP, USER, BadLines, Reading
from harness.errors import InputError

FILES = {"ratings.dat": ("movies.dat", "::"), "u.data": ("u.item", "\t"), "ratings.csv": ("movies.csv", ",")}
GENRES_FILE = "u.genre"
FIRST_GENRE = 5  # field of u.item from which on each says whether the film is of a genre
NO_GENRE = "(no genres listed)"
FIELDS = (USER, ITEM, RATING, TIMESTAMP)


def names(folder: Path) -> list[str]:
    """The folder's name where it holds the files of one size; `ratings.csv` alone may be anybody's."""
    for ratings, (movies, _) in FILES.items():
        if (folder / ratings).is_file() and (ratings != "ratings.csv" or (folder / movies).is_file()):
            return [folder.resolve().name]
    return []


def read(folder: Path, name: str, order: Order = "time", reading: Reading | None = None) -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line)."""
    reading = reading or Reading()
    ratings = next(file for file in FILES if (folder / file).is_file())
    movies, separator = FILES[ratings]
    path = folder / ratings
    bad, lines = BadLines(ratings, reading), []
    columns: dict[str, list[str]] = {field: [] for field in FIELDS}
    if separator == ",":
        table = read_table(path, reading)
        places = columns_of(table, FIELDS, FIELDS, reading).places
        columns, lines, bad = {field: table.column(places[field]) for field in FIELDS}, table.lines, table.bad
    else:
        with open_text(path, "\n") as file:
            for number, line in enumerate(file, start=1):
                parts = line.rstrip("\r\n").split(separator)
                if len(parts) == len(FIELDS):
                    lines.append(number)
                    for field, part in zip(FIELDS, parts, strict=True):
                        columns[field].append(part)
                elif line.strip():
                    message = f"{len(parts)} fields where 4 are needed"
                    hint = "give the file as it is published"
                    bad.add(InputError(message, where=f"{path} line {number}", hint=hint, code="bad-line"), number)
    texts, item_file = _films(folder / movies, separator, reading)
    log = Log(
        path,
        columns[USER],
        columns[ITEM],
        columns[TIMESTAMP] if order == "time" else [],
        lines,
        order,
        ratings=columns[RATING],
        reading=reading,
        bad=bad,
        item_file=item_file,
    )
    return log.dataset(name, texts, f"MovieLens, {ratings}")


def _films(path: Path, separator: str, reading: Reading) -> tuple[dict[str, ItemText] | None, ItemFile | None]:
    if not path.is_file():
        return None, None
    texts: dict[str, ItemText] = {}
    if separator == ",":
        rows: Iterator[tuple[str, str, tuple[str, ...]]] = _csv_films(path, reading)
    else:
        rows = _plain_films(path, separator)
    for item, title, genres in rows:
        texts.setdefault(item.strip(), ItemText(title.strip(), categories=genres))
    return texts, ItemFile(path, tuple(texts))


def _csv_films(path: Path, reading: Reading) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    file = read_table(path, Reading(bad_lines=reading.bad_lines))
    places = columns_of(file, (ITEM, "title", "categories"), (ITEM, "title"), Reading()).places
    cells = (file.column(places.get(field)) for field in ("title", "categories"))
    for item, title, listed in zip(plain_ids(file.column(places[ITEM])), *cells, strict=True):
        yield item, title, () if listed == NO_GENRE else listed_categories(listed, bars=True)


def _plain_films(path: Path, separator: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    genres = [line.partition("|")[0] for line in utf8_or_latin1(path.with_name(GENRES_FILE)) if line.strip()]
    for number, line in enumerate(utf8_or_latin1(path), start=1):
        parts = line.split("::" if separator == "::" else "|")
        if not line.strip():
            continue
        if len(parts) < 2 or not parts[0].strip():
            message, hint = "no id and title of a film", "give the file as it is published"
            raise InputError(message, where=f"{path} line {number}", hint=hint, code="bad-line")
        if separator == "::":
            yield parts[0], parts[1], tuple(part for part in parts[-1].split("|") if part) if len(parts) > 2 else ()
        else:
            of = parts[FIRST_GENRE:]
            yield parts[0], parts[1], tuple(name for name, mark in zip(genres, of, strict=False) if mark == "1")


def utf8_or_latin1(path: Path) -> list[str]:
    """The lines of a file that is UTF-8, or, where it is not, Latin-1; none where the file is missing."""
    if not path.is_file():
        return []
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"the file cannot be read ({error.strerror})", where=str(path), code="unreadable-file"
        ) from error
    return decoded(raw).split("\n")


def decoded(raw: bytes) -> str:
    """Text that is UTF-8, or, where it is not, Latin-1.

    >>> decoded("Cité".encode()), decoded("Cité".encode("latin-1"))
    ('Cité', 'Cité')
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
