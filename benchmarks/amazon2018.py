"""Writes a raw set in the format of Amazon Reviews 2018 at the true size of Musical Instruments, from a seed.

1,500,000 ratings (`Ratings/Musical_Instruments.csv`), with `--reviews` the same as JSON lines
(`Review/Musical_Instruments.json.gz`), and 120,000 metadata lines (`Metadata/meta_Musical_Instruments.json.gz`), with
what makes the true files hard: whole-day timestamps, exact duplicates, repeated items, items without metadata, items
that stand twice, scraped page code, texts over 2,000 characters.

    python benchmarks/amazon2018.py FOLDER [--ratings 1500000] [--items 120000] [--reviews]
    python benchmarks/amazon2018.py FOLDER --prepare ratings|reviews

The second command measures `harness data prepare instruments` on a raw set in FOLDER: one JSON document with seconds,
peak memory by the operating system's count, and what is left. It runs in a process with a cache folder of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NAME = "Musical_Instruments"
DAY = 86_400
FIRST_DAY, LAST_DAY = 10_957, 17_800  # 2000-01-01 to 2018-09-26
CHUNK = 50_000
KIB = 1024 if sys.platform != "darwin" else 1  # the unit of ru_maxrss in bytes
SIGNS = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))


@dataclass(frozen=True)
class Size:
    """Lines of each file. By default those of the true files; about 60% as many users as ratings."""

    ratings: int = 1_500_000
    items: int = 120_000

    @property
    def users(self) -> int:
        return max(self.ratings * 3 // 5, 10)


def identifiers(prefix: str, length: int, count: int, rng: np.random.Generator) -> list[str]:
    """Distinct ids like `B00ABCDEF1` and `A2SUAM1J3GNN3B`."""
    found: dict[str, None] = {}
    while len(found) < count:
        letters = SIGNS[rng.integers(0, len(SIGNS), (count - len(found), length - len(prefix)))]
        found.update(dict.fromkeys(prefix + "".join(row) for row in letters.tolist()))
    return list(found)


def interactions(size: Size, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """User, item, rating and timestamp of every line: few users and items have many, most have one."""
    activity = np.minimum(1 + rng.pareto(1.95, size.users), 300).astype(np.int64)
    users = np.resize(np.repeat(np.arange(size.users), activity), size.ratings)
    rng.shuffle(users)
    popularity = np.minimum(0.3 + rng.pareto(1.05, size.items), 600)
    items = rng.choice(size.items, size.ratings, p=popularity / popularity.sum())
    days = FIRST_DAY + ((LAST_DAY - FIRST_DAY) * rng.beta(5, 1.3, size.ratings)).astype(np.int64)
    stars = rng.choice(np.arange(1, 6), size.ratings, p=[0.07, 0.05, 0.08, 0.17, 0.63])
    # People buy several things on one day; 2% of the lines stand twice, as in the true files.
    visits = rng.random(size.ratings) < 0.35
    order = np.lexsort((days, users))
    same = np.flatnonzero(visits[1:] & (users[order][1:] == users[order][:-1])) + 1
    days[order[same]] = days[order[same - 1]]
    twice = rng.choice(size.ratings, size.ratings // 50, replace=False)
    source = rng.integers(0, size.ratings, len(twice))
    for column in (users, items, days, stars):
        column[twice] = column[source]
    return users, items, stars, days * DAY


def sentences(rng: np.random.Generator, count: int = 20_000) -> list[str]:
    """A store of made-up sentences of 6 to 30 words."""
    syllables = ["gui", "tar", "am", "pli", "fier", "ca", "ble", "strap", "me", "tro", "nome", "reed", "drum", "pe"]
    words = ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(4_000)]
    words += ["the", "and", "with", "for", "of", "a", "&amp;", "<b>new</b>", "6&quot;", "quality"] * 40
    lengths = rng.integers(6, 31, count)
    places = rng.integers(0, len(words), int(lengths.sum()))
    ends = np.cumsum(lengths)
    parts = (places[end - length : end] for length, end in zip(lengths, ends, strict=True))
    return [" ".join(words[place] for place in part).capitalize() + "." for part in parts]


def metadata(items: list[str], store: list[str], rng: np.random.Generator) -> Iterator[bytes]:
    """One JSON line an item, about 3 KB, with the fields of the true file."""
    table = "<table>" + "<tr><th class='a-span5'>Item Weight</th><td>1.2 pounds</td></tr>" * 6 + "</table>"
    for number, item in enumerate(items):
        said = rng.integers(0, len(store), 16)
        related = [items[place] for place in rng.integers(0, len(items), int(rng.integers(0, 40)))]
        long = number % 97 == 0  # now and then a text that the released scripts blank
        record = {
            "category": ["Musical Instruments", "Guitars & Basses", f"Kind {int(said[0]) % 300}"],
            "tech1": table if number % 3 == 0 else "",
            "description": [store[place] for place in said[: 16 if long else 4]],
            "fit": "",
            "title": "var aPageStart = (new Date()).getTime();" if number % 4001 == 0 else store[said[4]][:90],
            "also_buy": related,
            "tech2": "",
            "brand": f"by\n    Maker {int(said[5]) % 900}" if number % 5 == 0 else f"Maker {int(said[5]) % 900}",
            "feature": [store[place] for place in said[6:11]],
            "rank": f">#{int(said[6]):,} in Musical Instruments (See top 100)",
            "also_view": related[::2],
            "main_cat": "Musical Instruments",
            "similar_item": table,
            "date": "July 23, 2013",
            "price": f"${int(said[7]) % 400}.99",
            "asin": item,
            "imageURL": [f"https://images-na.ssl-images-amazon.com/images/I/{item}._SS40_.jpg"],
            "imageURLHighRes": [f"https://images-na.ssl-images-amazon.com/images/I/{item}.jpg"],
        }
        yield json.dumps(record).encode() + b"\n"
        if number % 200 == 0:  # some items stand twice
            yield json.dumps(record).encode() + b"\n"


def write(folder: Path, size: Size, seed: int = 1, *, reviews: bool = False) -> None:
    """The files under their public names, in the folders that the published scripts expect."""
    rng = np.random.default_rng(seed)
    items, users = identifiers("B0", 10, size.items, rng), identifiers("A", 14, size.users, rng)
    user, item, stars, times = interactions(size, rng)
    store = sentences(rng)
    for inside in ("Ratings", "Metadata", "Review"):
        (folder / inside).mkdir(parents=True, exist_ok=True)
    with (folder / "Ratings" / f"{NAME}.csv").open("w", encoding="utf-8") as file:
        for begin in range(0, len(user), CHUNK):
            part = slice(begin, begin + CHUNK)
            columns = (column[part].tolist() for column in (item, user, stars, times))
            file.write(
                "".join(f"{items[i]},{users[u]},{star}.0,{time}\n" for i, u, star, time in zip(*columns, strict=True))
            )
    described = [raw for number, raw in enumerate(items) if number % 331]  # some items have no metadata
    with gzip.open(folder / "Metadata" / f"meta_{NAME}.json.gz", "wb", compresslevel=3) as file:
        file.writelines(metadata(described, store, rng))
    if reviews:
        with gzip.open(folder / "Review" / f"{NAME}.json.gz", "wb", compresslevel=1) as file:
            for u, i, star, time in zip(user.tolist(), item.tolist(), stars.tolist(), times.tolist(), strict=True):
                said = store[(u * 31 + i) % len(store)]
                line = f'{{"overall": {star}.0, "verified": true, "reviewerID": "{users[u]}", "asin": "{items[i]}", '
                line += f'"reviewText": "{said} {said}", "summary": "{said[:30]}", "unixReviewTime": {time}}}\n'
                file.write(line.encode())


def measure(folder: Path, source: str) -> dict[str, float | int | str]:
    """One preparation from scratch. `source`: `ratings` or `reviews`."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as raw:
        for inside in ("Metadata", "Ratings" if source == "ratings" else "Review"):
            (Path(raw) / inside).symlink_to((folder / inside).resolve())
        command = [sys.executable, "-m", "harness", "data", "prepare", "instruments", "--raw", raw, "--json"]
        environment = {**os.environ, "HARNESS_HOME": home}
        began = time.monotonic()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB
    story = json.loads(done.stdout)
    result = {key: story["result"][key] for key in ("users", "items", "interactions", "fingerprint")}
    return {
        "source": source,
        "seconds": round(seconds, 1),
        "peak_gib": round(peak / 2**30, 2),
        "rows": story["steps"][0]["interactions"],
        "metadata_lines": story["text"]["records"],
        **result,
    }


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ratings", type=int, default=Size.ratings)
    parser.add_argument("--items", type=int, default=Size.items)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reviews", action="store_true", help="the reviews too (1.5 million JSON lines)")
    parser.add_argument("--prepare", choices=("ratings", "reviews"), help="measure preparing these files of FOLDER")
    asked = parser.parse_args()
    if asked.prepare:
        print(json.dumps(measure(asked.folder, asked.prepare), indent=1))
        return
    write(asked.folder, Size(asked.ratings, asked.items), asked.seed, reviews=asked.reviews)


if __name__ == "__main__":
    main()
