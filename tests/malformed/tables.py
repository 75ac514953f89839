"""Valid Parquet files and raw files of the releases, and how binary files claim other columns and sizes."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import cbor2
import lz4.frame
import numpy as np
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
    message = {"user": users[:3], "item": items[:3], "review": ["good"] * 3}
    pq.write_table(pa.table(message), folder / "reviews.parquet")


def write_ranked(folder: Path) -> None:
    """Rankings made elsewhere: three items a user."""
    rows = [(user, item, place) for user in DATA.users for place, item in enumerate(DATA.items[:3], start=1)]
    users, items, places = zip(*rows, strict=True)
    columns = {"user_id": users, "item_id": items, "rank": places, "score": [1 / place for place in places]}
    pq.write_table(pa.table(columns), folder / "r.parquet")


def by_ranx(content: object) -> bytes:
    """What ranx' `Run.save` writes as .lz4."""
    return _twice(cbor2.dumps(content))


def _twice(raw: bytes) -> bytes:
    return lz4.frame.compress(lz4.frame.compress(raw))


CBOR = (
    b"\x81" * 100_000, b"\x9b" + b"\xff" * 8, b"\xbb\x00\x00\xff\xff\xff\xff\xff\xff", b"\x7b\x7f" + b"\xff" * 7,
    b"\xc2\x5a\x00\x0f\xff\xff" + b"\x01" * 0xFFFFF, b"\xd8\x23\x68((a+)+)$", b"\xa1\x80\x01", b"\xa1\xa0\x01",
    b"\xf6", b"", b"\xa1\x62u0\xa1\x62i0\xf9\x7e\x00", b"\xa1\x62u0\xa1\x62i0\xc0\x60", b"\xa1\x62u0\xa1\xf6\x01",
    b"\xa1\x01\x82\x01\x01", b"\xd8\x1c\x81\xd8\x1d\x00", b"\xa1\x62u0\xd8\x1c\x81\xd8\x1d\x00", b"\x00" * (1 << 27),
)  # fmt: skip


def _cbor(raw: bytes, rng: Random) -> bytes:
    """Another document inside, damaged or hostile."""
    if rng.random() < 0.5:
        return _twice(rng.choice(CBOR))
    inner = lz4.frame.decompress(lz4.frame.decompress(raw))
    return _twice(BYTES[rng.choice(sorted(BYTES))](inner, rng))


LZ4: dict[str, Change] = {**BYTES, "another document": _cbor}


def write_vectors(folder: Path) -> None:
    """Ready vectors in every form that names its items."""
    values = np.random.default_rng(1).normal(size=(len(DATA.items), 4)).astype(np.float32)
    np.save(folder / "v.npy", values)
    (folder / "v.ids.txt").write_text("\n".join(DATA.items))
    np.savez(folder / "v.npz", ids=np.array(DATA.items), vectors=values)
    pq.write_table(pa.table({"item": DATA.items, "vector": values.tolist()}), folder / "v.parquet")


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
    single = pa.table({name: pa.DictionaryArray.from_arrays(pa.array([0] * 10**6, pa.int8()), ["u0"])
                     for name in table.column_names})  # fmt: skip
    out = io.BytesIO()
    with pq.ParquetWriter(out, single.schema, compression="zstd") as writer:
        for _ in range(3):
            writer.write_table(single)
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
            output = json.dumps if name == "meta.json.gz" else repr
            mark = {"tech1": ""} if name == "meta.json.gz" else {"imUrl": "x"}
            lines = [output({"asin": f"I{n}", "title": f"T {n}", "description": "d", **mark}) for n in range(3)]
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
