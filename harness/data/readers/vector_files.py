"""Precomputed item vectors with item ids: Parquet, `.npz`, or `.npy` or `.safetensors` with a list of ids.

Handles the file formats and matches rows to items by id.
"""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import pyarrow as pa

from harness.core.json_files import read_text
from harness.data.readers.parquet_tables import is_list, read_parquet
from harness.data.reading import normalized
from harness.errors import InputError, truncate

ID_NAMES = (
    "item", "item_id", "items", "item_ids", "id", "ids", "asin", "parent_asin", "iid", "product_id", "product",
    "movie_id", "article_id", "sku",
)  # fmt: skip
VECTOR_NAMES = ("vector", "vectors", "embedding", "embeddings", "emb", "values", "features")
IDS_ENDING = ".ids.txt"
UNFOLDED, UNFOLDS = 1 << 26, 1100  # bytes that any .npz may unfold to; of a larger one, so many a byte (deflate's own)
EXAMPLES = 3
FORMATS = (
    "give Parquet or .npz with an id column and a vector column, or FILE.ids.txt with one item id a line beside "
    "FILE.npy (harness data items DATASET lists the ids)"
)


@dataclass(frozen=True, eq=False)
class VectorTable:
    """`values` is (rows, dim), of any number type. `ids[n]` is the raw item id of row `n`, None for a bare `.npy`;
    `named_by` says where the ids stand."""

    values: np.ndarray
    ids: tuple[str, ...] | None
    named_by: str = ""


def read_vectors(path: Path) -> VectorTable:
    """The rows of a file of vectors. Raises `InputError` for a file that cannot be read, an id column that is missing
    or does not fit the rows, and anything that is not a table of numbers."""
    kind = path.suffix.lower()
    try:
        if kind in (".parquet", ".pq"):
            table = _from_parquet(path)
        elif kind == ".npz":
            table = _from_npz(path)
        elif kind in (".npy", ".safetensors", ""):
            table = _from_array(path)
        else:
            raise ValueError(f"a file that ends in {kind}")
    except (OSError, ValueError, EOFError, MemoryError, KeyError, zipfile.BadZipFile) as error:
        message = f"no vectors can be read from it ({truncate(str(error))})"
        raise InputError(message, where=str(path), hint=FORMATS, code="bad-file") from error
    values = table.values
    is_number = np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)
    if values.ndim != 2 or not values.size or not is_number:
        raise InputError("not a table of numbers", where=str(path), hint=FORMATS, code="bad-file")
    if table.ids is not None and len(table.ids) != len(values):
        message = f"{len(values):,} vectors and {len(table.ids):,} ids ({table.named_by})"
        hint = "give one id a vector, in the order of the vectors"
        raise InputError(message, where=str(path), hint=hint, code="incompatible")
    return table


def ids_file(path: Path) -> Path | None:
    """The list of ids beside a `.npy` or `.safetensors` file, None where there is none.

    `vectors.npy` goes with `vectors.ids.txt` or `vectors.npy.ids.txt`."""
    if path.suffix.lower() not in (".npy", ".safetensors"):
        return None
    for name in (f"{path.stem}{IDS_ENDING}", f"{path.name}{IDS_ENDING}"):
        if (neighbours := path.with_name(name)).is_file():
            return neighbours
    return None


def input_files(path: Path) -> tuple[Path, ...]:
    """All files that `read_vectors` reads."""
    neighbours = ids_file(path)
    return (path,) if neighbours is None else (path, neighbours)


def matched(table: VectorTable, items: Sequence[str], location: str) -> tuple[np.ndarray, int]:
    """One row an item, in the order of `items`, float32; and how many rows belong to no item of the catalogue.

    Raises `InputError` for duplicate ids and for items without a vector, with their number and examples.
    """
    assert table.ids is not None
    places = {raw: row for row, raw in enumerate(table.ids)}
    if len(places) < len(table.ids):
        names = [raw for raw, times in Counter(table.ids).items() if times > 1]
        message = f"{len(names):,} ids stand twice ({_some(names)})"
        raise InputError(message, where=location, hint="keep one row an item", code="duplicate")
    if missing := [raw for raw in items if raw not in places]:
        message = f"{len(missing):,} of {len(items):,} items have no vector ({_some(missing)})"
        message += f"; its ids are {_some(table.ids)}" if table.ids else ""
        hint = "name every item by its id in the data set (harness data items DATASET lists them)"
        if len(missing) == len(items) and list(table.ids) == [str(row) for row in range(len(table.ids))]:
            hint += "; these are row numbers, which say nothing of the items"
        raise InputError(message, where=location, hint=hint, code="incompatible")
    rows = np.fromiter((places[raw] for raw in items), dtype=np.int64, count=len(items))
    return table.values[rows].astype(np.float32), len(places) - len(items)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:EXAMPLES]) + (", …" if len(names) > EXAMPLES else "")


def _from_array(path: Path) -> VectorTable:
    """`.npy` or `.safetensors`, with the list of ids beside it if there is one, which may have a header."""
    values = _from_safetensors(path) if path.suffix.lower() == ".safetensors" else read_npy(path)
    if (listed := ids_file(path)) is None:
        return VectorTable(values, None)
    ids = tuple(line.partition("\t")[0].strip() for line in read_text(listed).rstrip().splitlines())
    if len(ids) == len(values) + 1 and normalized(ids[0]) in map(normalized, ID_NAMES):
        ids = ids[1:]
    return VectorTable(values, ids, listed.name)


def _from_parquet(path: Path) -> VectorTable:
    """One id column, and either one column of lists or one number column a dimension."""
    table = read_parquet(path)
    name = _named(path, table.column_names, ID_NAMES, "id column")
    columns = [column for column in table.column_names if column != name]
    lists = [column for column in columns if is_list(table.column(column).type)]
    if lists:
        selected = lists[0] if len(lists) == 1 else _named(path, lists, VECTOR_NAMES, "vector column")
        column = table.column(selected).combine_chunks()
        lengths = {len(row) for row in column if row.is_valid}
        if column.null_count:
            raise ValueError(f"{column.null_count:,} rows without a vector in column {selected!r}")
        if len(lengths) != 1:
            text = ", ".join(map(str, sorted(lengths)[:EXAMPLES]))
            raise ValueError(f"vectors of unequal length in column {selected!r}: {text}")
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), lengths.pop())
    else:
        types = {column: table.column(column).type for column in columns}
        numbers = [column for column, kind in types.items() if pa.types.is_floating(kind) or pa.types.is_integer(kind)]
        # 0, dim_1, …: other numbers say other things
        numbers = [column for column in numbers if column[-1:].isdigit()] or numbers
        if not numbers:
            raise ValueError(f"no column of vectors among {', '.join(table.column_names)}")
        values = np.stack([table.column(column).to_numpy() for column in numbers], axis=1)
    return VectorTable(values, _texts(table.column(name).to_pylist()), f"column {name!r}")


def _from_npz(path: Path) -> VectorTable:
    """One array of ids and one of vectors."""
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        unfolded = sum(member.file_size for member in archive.infolist())
        if unfolded > UNFOLDED + UNFOLDS * path.stat().st_size:
            raise ValueError(f"{unfolded:,} bytes come out of {path.stat().st_size:,}")
        for member in archive.infolist():
            with archive.open(member) as stream:
                arrays[member.filename.removesuffix(".npy")] = _array(stream, member.file_size)
    name = _named(path, arrays, ID_NAMES, "array of ids")
    tables = [key for key, array in arrays.items() if key != name and array.ndim == 2]
    if not tables:
        raise ValueError(f"no table of vectors among {', '.join(arrays)}")
    selected = tables[0] if len(tables) == 1 else _named(path, tables, VECTOR_NAMES, "array of vectors")
    return VectorTable(arrays[selected], _texts(arrays[name].reshape(-1).tolist()), f"array {name!r}")


def _from_safetensors(path: Path) -> np.ndarray:
    """The one table of a file, or that with a known name."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = {name: array for name, array in load_file(path).items() if array.ndim == 2}
    except (SafetensorError, TypeError) as error:  # TypeError: a type that NumPy does not have
        raise ValueError(f"{error}; save them as float32") from error
    return arrays[next(iter(arrays)) if len(arrays) == 1 else _named(path, arrays, VECTOR_NAMES, "table of vectors")]


def _named(path: Path, present: Sequence[str] | dict[str, Any], names: Sequence[str], message: str) -> str:
    """The name among `present` that is a known one, by the order of `names`."""
    plain = {normalized(name): name for name in reversed(list(present))}
    for name in names:
        if normalized(name) in plain:
            return plain[normalized(name)]
    message, hint = f"no {message} (it has {', '.join(present)})", f"call it {names[0]}; {FORMATS}"
    raise InputError(message, where=str(path), hint=hint, code="missing-column")


def _texts(raw: Sequence[Any]) -> tuple[str, ...]:
    """Ids as text. Raises `ValueError` for what is no id."""
    raw = [int(value) if isinstance(value, float) and value.is_integer() else value for value in raw]
    for row, value in enumerate(raw):
        if isinstance(value, bool) or not isinstance(value, (str, int, bytes)):
            raise ValueError(f"row {row + 1}: {value!r} is no id: write ids as text or whole numbers")
    return tuple((value.decode() if isinstance(value, bytes) else str(value)).strip() for value in raw)


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file; pickles are never read. Raises `ValueError` and `OSError` for other content, and if
    the file is shorter than its header states."""
    with path.open("rb") as file:
        return _array(file, path.stat().st_size)


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array of a stream of `size` bytes in the `.npy` format."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"a .npy file of version {version}")
    try:
        shape, _, dtype = read(file)
    except (SyntaxError, TokenError, TypeError, KeyError, RecursionError) as error:
        raise ValueError("its header cannot be read") from error
    if dtype.hasobject:
        raise ValueError(
            "it holds Python objects, which are never unpickled: save ids as text, np.array(ids, dtype=str)"
        )
    claimed, present = math.prod(shape) * dtype.itemsize, size - file.tell()
    if claimed != present or len(shape) > 32:
        raise ValueError(f"its header claims {claimed:,} bytes of {dtype}, and {present:,} are there")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
