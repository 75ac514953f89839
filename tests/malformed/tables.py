"""Valid Parquet files and raw files of the releases, and how binary files claim other columns and sizes."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests import toys
from tests.data.raw.files import core_rows
from tests.malformed.mutations import BYTES, Change, Random

DATA = toys.cycle(users=6, items=8, length=5)


def write_tables(folder: Path) -> None:
    """The three tables of the Parquet layout."""
    rows = [(DATA.users[u], DATA.items[i], 10.0 * t) for u, row in enumerate(DATA.sequences) for t, i in enumerate(row)]
    users, items, times = zip(*rows, strict=True)
    pq.write_table(pa.table({"user": users, "item": items, "timestamp": times}), folder / "interactions.parquet")
    texts = {"item": DATA.items, "title": [f"T {i}" for i in DATA.items], "categories": [["a"]] * len(DATA.items)}
    pq.write_table(pa.table(texts), folder / "items.parquet")
    said = {"user": users[:3], "item": items[:3], "review": ["good"] * 3}
    pq.write_table(pa.table(said), folder / "reviews.parquet")


def _types(rows: int) -> list[pa.Array]:
    return [
        pa.nulls(rows),
        pa.array([True] * rows),
        pa.array([b"\xff\xfe"] * rows),
        pa.array([[1]] * rows),
        pa.array([{"a": 1}] * rows),
        pa.array([float("nan")] * rows),
        pa.array([float("inf")] * rows),
        pa.array([-1] * rows),
        pa.array([2**62] * rows),
        pa.array([0] * rows),
        pa.array([""] * rows),
        pa.array(["x" * (1 << 16)] * rows),
        pa.array([None, *["x"] * (rows - 1)], pa.string()),
        pa.array([["a", None]] * rows),
        pa.array(["u0"] * rows).dictionary_encode(),
        pa.array([10**18] * rows, pa.timestamp("ns")),
        pa.array([1] * rows, pa.date32()),
        pa.array([1] * rows, pa.duration("s")),
        pa.array([1] * rows, pa.int8()),
        pa.array([1.0] * rows, pa.float16()),
    ]


def _column(raw: bytes, rng: Random) -> bytes:
    """One column of another type, by another name, twice, or not there; or no rows."""
    table = pq.read_table(pa.BufferReader(raw))
    place, how = rng.randrange(table.num_columns), rng.randrange(8)
    name = table.column_names[place]
    if how == 0:
        table = table.drop_columns([name])
    elif how == 1:
        table = table.append_column(name, table.column(place))
    elif how == 2:
        table = table.slice(0, 0)
    elif how == 3:
        table = pa.concat_tables([table, table])
    else:
        table = table.set_column(place, name, rng.choice(_types(len(table))))
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _bad_text(raw: bytes, rng: Random) -> bytes:
    """Text that is not UTF-8 in a column that says it is."""
    table = pq.read_table(pa.BufferReader(raw))
    place = rng.choice([n for n, field in enumerate(table.schema) if pa.types.is_string(field.type)])
    values = pa.array([b"a\xff\xfe"] * len(table)).view(pa.string())
    out = io.BytesIO()
    pq.write_table(table.set_column(place, table.column_names[place], values), out)
    return out.getvalue()


def _far_more(raw: bytes, rng: Random) -> bytes:
    """A few bytes that stand for 10^8 rows."""
    table = pq.read_table(pa.BufferReader(raw))
    once = pa.table({name: pa.DictionaryArray.from_arrays(pa.array([0] * 10**6, pa.int8()), ["u0"])
                     for name in table.column_names})  # fmt: skip
    out = io.BytesIO()
    with pq.ParquetWriter(out, once.schema, compression="zstd") as writer:
        for _ in range(3):
            writer.write_table(once)
    return out.getvalue()


def npy(raw: bytes, rng: Random) -> bytes:
    """Another header: more than is there, other types, a pickle."""
    shapes = ["(1000000000, 64)", "(10, 99999999999999)", "(-1, 3)", "()", "(8,)", "(0, 0)", "(8, 4, 1)", "'x'", "(8"]
    kinds = ["<f8", "<f4", "|O", "<U8", "<c8", "<M8[s]", "|V4", "<f2", "[('a', '<f4')]", "garbage"]
    head = f"{{'descr': '{rng.choice(kinds)}', 'fortran_order': False, 'shape': {rng.choice(shapes)}, }}"
    body = raw[128:]
    packed_head = head.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(packed_head).to_bytes(2, "little") + packed_head + body


PARQUET: dict[str, Change] = {
    **BYTES,
    "another column": _column,
    "text that is none": _bad_text,
    "far more rows than bytes": _far_more,
}


class Raw(dict[str, tuple[str, str, str]]):
    """File → its data set, how the release's file is written, and its member of an archive."""

    def content(self, name: str) -> bytes:
        """A valid file."""
        rows = core_rows(2, 2)
        if name == "ratings.csv":
            return "".join(f"{item},{user},{rating},{time}\n" for user, item, rating, time in rows).encode()
        if name == "ml.zip":
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(
                    self[name][2], "".join(f"{u}::{i}::5::97830{u}{i}60\n" for u in (1, 2) for i in (1, 2))
                )
            return out.getvalue()
        if name == "reviews.json.gz":
            lines = [
                json.dumps(
                    {"reviewerID": user, "asin": item, "helpful": [0, 0], "overall": rating, "unixReviewTime": time}
                )
                for user, item, rating, time in rows
            ]
        else:
            shown = json.dumps if name == "meta.json.gz" else repr
            mark = {"tech1": ""} if name == "meta.json.gz" else {"imUrl": "x"}
            lines = [shown({"asin": f"I{n}", "title": f"T {n}", "description": "d", **mark}) for n in range(3)]
        return gzip.compress("\n".join([*lines, ""]).encode(), mtime=0)


RAW = Raw(
    {
        "ratings.csv": ("instruments", "csv", ""),
        "reviews.json.gz": ("amazon2014:Beauty", "json", ""),
        "meta.json.gz": ("instruments", "json", ""),
        "literal.json.gz": ("amazon2014:Beauty", "literal", ""),
        "ml.zip": ("ml-1m", "colons", "ml-1m/ratings.dat"),
    }
)
