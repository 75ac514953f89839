"""Small raw files in the true format of each release."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.data.raw.reference import Row

DAY = 86_400
START = 16_000 * DAY  # in 2013: a time that every Amazon release has


def core_rows(users: int = 5, items: int = 5) -> list[Row]:
    """Everybody buys everything, one thing a day: a 5-core by itself."""
    return [(f"U{u}", f"I{i}", 5.0, START + DAY * i) for u in range(users) for i in range(items)]


def random_set(seed: int) -> tuple[list[Row], set[str]]:
    """Rows in no order, and the items that have metadata: ties in time, exact duplicates, repeated items, chains of
    users and items of which each is too rare once the one before it is gone, items without metadata."""
    rng = random.Random(seed)
    users, items = ([f"{kind}{n}" for n in range(rng.randint(7, 10))] for kind in ("U", "I"))
    pairs = {(user, item) for user in users for item in items if rng.random() < 0.85}
    for link in range(rng.randint(0, 3)):  # Y is bought by 3 and both its neighbours X; the first X has too few
        pairs |= {(f"X{n}", f"Y{link}") for n in (link, link + 1)}
        pairs |= {(user, f"Y{link}") for user in users[:3]}
        pairs |= {(f"X{link + 1}", item) for item in items[:4]}
    rows = [(user, item, float(rng.randint(1, 5)), START + DAY * rng.randint(0, 4)) for user, item in sorted(pairs)]
    rows += [(user, item, rating, time + DAY * rng.randint(0, 2)) for user, item, rating, time in rng.sample(rows, 12)]
    rows += rng.sample(rows, 6)
    rng.shuffle(rows)
    missing = rng.sample(items, rng.randint(0, 2))
    return rows, {item for _, item in pairs} - set(missing)


def ratings_2018(folder: Path, rows: Iterable[Row], name: str = "Musical_Instruments") -> Path:
    """`item,user,rating,time`, without a header."""
    lines = [f"{item},{user},{rating},{time}\n" for user, item, rating, time in rows]
    return put(folder / f"{name}.csv", "".join(lines))


def metadata_2018(folder: Path, items: Iterable[str], name: str = "Musical_Instruments", **fields: Any) -> Path:
    """JSON lines."""
    records = [{"asin": item, "title": f"Title {item}", "tech1": "", "main_cat": "Music", **fields} for item in items]
    return put(folder / f"meta_{name}.json.gz", json_lines(records))


def reviews_2014(folder: Path, rows: Iterable[Row], name: str = "Beauty") -> Path:
    """The 5-core reviews: JSON lines."""
    records = [
        {"reviewerID": user, "asin": item, "helpful": [0, 0], "overall": rating, "unixReviewTime": time}
        for user, item, rating, time in rows
    ]
    return put(folder / f"reviews_{name}_5.json.gz", json_lines(records))


def metadata_2014(folder: Path, items: Iterable[str], name: str = "Beauty", **fields: Any) -> Path:
    """Python literals, a line each."""
    records = [{"asin": item, "title": f"Bob's {item}", "imUrl": "x", **fields} for item in items]
    return put(folder / f"meta_{name}.json.gz", "".join(f"{record!r}\n" for record in records))


def json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def put(path: Path, content: str | bytes) -> Path:
    """Written as it is, or compressed where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return path


def set_2018(folder: Path, rows: Iterable[Row] | None = None) -> Path:
    """A whole raw set of `instruments`; the folder."""
    listed = core_rows() if rows is None else list(rows)
    ratings_2018(folder, listed)
    metadata_2018(folder, sorted({row[1] for row in listed}))
    return folder
