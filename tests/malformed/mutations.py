"""How a valid file becomes a malformed one: one kind of damage at a time, decided by a number alone."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

Random = random.Random
Change = Callable[[bytes, Random], bytes]

DEEP = 4000  # levels of nesting
LONG = 1 << 18  # characters of a long line
FAR_MORE = 1 << 27  # bytes that come out of a bomb
DIGITS = 5000  # of a number: more than Python reads
HOSTILE = (
    '"x"', "null", "true", "-1", "0", "1.5", "[]", "{}", "[[]]", '{"a": 1}', '""', '" "', "[null]", "1e999", "NaN",
    "Infinity", "-Infinity", "9" * DIGITS, "1e-400", "18446744073709551616", '"\\ud800"', '"\\u0000"', '"../../x"',
    '"/etc/passwd"', '"' + "x" * 5000 + '"', "[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP,
)  # fmt: skip
CELLS = (
    "", " ", "nan", "inf", "-inf", "-1", "1e999", "9" * DIGITS, "x", '"', '"a', "a\tb", "a,b", "\x00", "\ufeff",
    "1\r2", "٣", "2020-01-01", "true", "../../x", "x" * LONG, "0x10", "1_0", "\u2028", "[", '["a"', "=1+1",
)  # fmt: skip
YAML = (
    "&a [*a]", "!!python/object/apply:os.system ['x']", "!!timestamp soon", "!!int x", "!!float ''", "!!binary zz",
    "? [a]\n: b", "0x" + "f" * DIGITS, "<<: 1", "{a: 1, a: 2}", "*nobody", "[", "'", "\t- a", "%TAG ! x",
    "--- a\n--- b", "1:" * DIGITS + "1", "!!set {a}", "&a " + "[" * 400,
)  # fmt: skip
TOML = (
    "", "[[", "inf", "nan", "9" * DIGITS, "2020-01-01", "10:00:00", "[1, {}]", "{ a = 1, a = 2 }", '"""', "{ low = 1 }",
    "{ low = nan, high = 1 }", "{ low = 1, high = inf }", "{ low = 2, high = 1 }", "{ choices = [] }", "[" * 2000,
    "{ choices = [2020-01-01] }", "{ low = -1, high = 9, log = true }", "{ low = 1, high = 9, step = -1 }",
    "{ low = 99999999999999999999, high = 999999999999999999999 }", "true", "[]", '"\\ud800"',
)  # fmt: skip


def bomb() -> bytes:
    """YAML whose aliases stand for 10^12 values."""
    lines = ["a: &a [1,1,1,1,1,1,1,1,1,1]"]
    for name, previous in zip("bcdefghijkl", "abcdefghijk", strict=True):
        lines.append(f"{name}: &{name} [{','.join([f'*{previous}'] * 10)}]")
    return "\n".join(lines).encode()


def _cut(raw: bytes, rng: Random) -> bytes:
    return raw[: rng.randrange(len(raw))]


def _delete(raw: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + raw[at + rng.randint(1, 8) :]


def _double(raw: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(raw))
    part = raw[at : at + rng.randint(1, 40)]
    return raw[:at] + part + raw[at:]


def _swap(raw: bytes, rng: Random) -> bytes:
    one, two = sorted(rng.randrange(len(raw)) for _ in range(2))
    changed = bytearray(raw)
    changed[one], changed[two] = changed[two], changed[one]
    return bytes(changed)


def _insert(raw: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + rng.randbytes(rng.randint(1, 8)) + raw[at:]


def _flip(raw: bytes, rng: Random) -> bytes:
    changed = bytearray(raw)
    changed[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _at(part: bytes) -> Change:
    def insert(raw: bytes, rng: Random) -> bytes:
        at = rng.randrange(len(raw) + 1)
        return raw[:at] + part + raw[at:]

    return insert


BYTES: dict[str, Change] = {
    "cut off": _cut,
    "bytes deleted": _delete,
    "bytes doubled": _double,
    "bytes swapped": _swap,
    "bytes inserted": _insert,
    "a bit flipped": _flip,
    "empty": lambda raw, rng: b"" if rng.random() < 0.5 else b" \r\n" * rng.randint(1, 9),
    "random bytes": lambda raw, rng: rng.randbytes(rng.randint(1, 400)),
}
TEXT: dict[str, Change] = {
    **BYTES,
    "byte order mark": lambda raw, rng: rng.choice([b"\xef\xbb\xbf\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]) + raw,
    "line ends": lambda raw, rng: raw.replace(b"\n", rng.choice([b"\r\r\n", b"\r", b"\x0b", b""])),
    "NUL": _at(b"\x00"),
    "not UTF-8": _at(b"\xff"),
    "other encoding": lambda raw, rng: raw.decode().encode(rng.choice(["utf-16", "utf-32", "utf-16-le"])),
    "long line": _at(b"x" * LONG),
}


def _paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    result = [above]
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        result += _paths(part, (*above, key))
    return result


MARK = "@@here@@"


def _json_value(raw: bytes, rng: Random) -> bytes:
    """Another value at a random place of the document."""
    document = json.loads(raw)
    path = rng.choice(_paths(document))
    if not path:
        return rng.choice(HOSTILE).encode()
    part = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = MARK
    return json.dumps(document).replace(f'"{MARK}"', rng.choice(HOSTILE)).encode()


def _json_key(raw: bytes, rng: Random) -> bytes:
    """A key that is taken out, renamed, doubled or added."""
    document = json.loads(raw)
    tables = [path for path in _paths(document) if isinstance(_of(document, path), dict) and _of(document, path)]
    table = _of(document, rng.choice(tables))
    key, how = rng.choice(sorted(table)), rng.randrange(4)
    name = {0: None, 1: rng.choice(["", " ", "x", "../x", "\ud800", "('a',)", "schema"]), 2: key, 3: "extra"}[how]
    if how in (0, 1):
        value = table.pop(key)
        if name is not None:
            table[name] = value
        return json.dumps(document).encode()
    table[MARK] = table[key]
    return json.dumps(document).replace(f'"{MARK}"', json.dumps(name)).encode()


def _of(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


JSON: dict[str, Change] = {**TEXT, "another value": _json_value, "another key": _json_key}


def lines(change: Change) -> Change:
    """A change of one line of many."""

    def changed(raw: bytes, rng: Random) -> bytes:
        parts = raw.splitlines()
        at = rng.randrange(len(parts))
        parts[at] = change(parts[at], rng)
        return b"\n".join(parts) + b"\n"

    return changed


JSON_LINES: dict[str, Change] = {
    **TEXT,
    "another value": lines(_json_value),
    "another key": lines(_json_key),
    "a line taken out": lambda raw, rng: b"\n".join(raw.splitlines()[: rng.randrange(3)]),
}


def cells(separator: bytes) -> dict[str, Change]:
    """Of a table of text."""

    def cell(raw: bytes, rng: Random) -> bytes:
        rows = [line.split(separator) for line in raw.splitlines()]
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = rng.choice(CELLS).encode()
        return b"\n".join(separator.join(row) for row in rows) + b"\n"

    def column(raw: bytes, rng: Random) -> bytes:
        rows = [line.split(separator) for line in raw.splitlines()]
        place, how = rng.randrange(len(rows[0])), rng.randrange(3)
        for row in rows if how else [rng.choice(rows)]:
            if how == 2:
                row.insert(place, row[place])
            else:
                del row[place]
        return b"\n".join(separator.join(row) for row in rows) + b"\n"

    return {**TEXT, "another cell": cell, "another column": column, "rows doubled": lambda raw, rng: raw + raw}


def _part(texts: tuple[str, ...], sign: bytes) -> Change:
    """Another value behind one `sign` of a configuration."""

    def changed(raw: bytes, rng: Random) -> bytes:
        parts = raw.splitlines()
        at = rng.choice([number for number, part in enumerate(parts) if sign in part] or [0])
        parts[at] = parts[at].partition(sign)[0] + sign + b" " + rng.choice(texts).encode("utf-8", "surrogatepass")
        return b"\n".join(parts) + b"\n"

    return changed


def _repeated(raw: bytes, rng: Random) -> bytes:
    return raw + rng.choice(raw.splitlines()) + b"\n" + raw


def setting(raw: bytes, rng: Random) -> bytes:
    """Another value, or another way to name a setting."""
    name, _ = raw.split(b"=", 1)
    if rng.random() < 0.3:
        name = rng.choice([b"", b".", b"tiger", b"tiger." + b"a." * DEEP + b"a", b"x.y", b"tiger..batch", name + b".a"])
    return name + b"=" + rng.choice((*HOSTILE, *YAML)).encode("utf-8", "surrogatepass")


YAML_FILE: dict[str, Change] = {
    **TEXT,
    "another value": _part(HOSTILE, b":"),
    "tags and aliases": _part(YAML, b":"),
    "aliases without end": lambda raw, rng: bomb() + b"\n" + raw,
    "keys doubled": _repeated,
}
TOML_FILE: dict[str, Change] = {
    **TEXT,
    "another value": _part(HOSTILE, b"="),
    "another table": _part(TOML, b"="),
    "keys doubled": _repeated,
}


@cache
def _gzip_bomb() -> bytes:
    return gzip.compress(bytes(FAR_MORE), 9, mtime=0)


@cache
def _zip_bomb(raw: bytes) -> bytes:
    return _again(raw, lambda name, content: (name, bytes(FAR_MORE)))


def packed(inner: Mapping[str, Change]) -> dict[str, Change]:
    """Of a gzip file: its bytes, or what is in it; and one of which far more comes out than goes in."""

    def inside(change: Change) -> Change:
        return lambda raw, rng: gzip.compress(change(gzip.decompress(raw), rng), 1, mtime=0)

    return {
        **{f"gzip: {name}": change for name, change in BYTES.items()},
        **{name: inside(change) for name, change in inner.items()},
        "bomb": lambda raw, rng: _gzip_bomb(),
    }


def _again(raw: bytes, change: Callable[[str, bytes], tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return out.getvalue()


def zipped(inner: Mapping[str, Change]) -> dict[str, Change]:
    """Of a zip archive: its bytes, or one of its members; other names, ways out, and a bomb."""

    def inside(change: Change) -> Change:
        return lambda raw, rng: _again(raw, lambda name, content: (name, change(content, rng)))

    return {
        **{f"zip: {name}": change for name, change in BYTES.items()},
        **{name: inside(change) for name, change in inner.items()},
        "other names": lambda raw, rng: _again(
            raw, lambda name, content: (rng.choice(["../../x", "/etc/x", "x"]) + name, content)
        ),
        "bomb": lambda raw, rng: _zip_bomb(raw),
    }


def mutated(raw: bytes, kinds: Mapping[str, Change], kind: str, seed: int) -> bytes:
    """The malformed file that `kind` and `seed` stand for."""
    return kinds[kind](raw, random.Random(f"{kind}/{seed}"))
