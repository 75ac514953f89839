"""`predictions.parquet`: the ranked lists with raw ids, so that metrics can be recomputed without the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.core.files import write_result_file
from harness.data.readers.parquet_tables import read_parquet
from harness.errors import InputError
from harness.protocol.predictions import NO_ITEM, Predictions
from harness.protocol.protocol import DEEPEST

COLUMNS = ("user", "rank", "item", "score")
GROUP = 50_000  # users of a row group, a million rows: Arrow's own measure
AGAIN = "make the run again with --fresh"


def write_predictions(path: Path, predictions: Predictions, users: Sequence[str], items: Sequence[str]) -> None:
    """Columns user (text), rank (from 1), item (text), score; `users` and `items` give the name of each case id
    (`EvaluationSplit.names`) and the raw id of each item.

    Written group by group, so that only one group of rows is held beside the lists.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = (pa.string(), pa.int32(), pa.string(), pa.float64())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    raw_users, raw_items = np.asarray(users, dtype=object), np.asarray(items, dtype=object)

    def groups() -> Iterator[pa.RecordBatch]:
        for begin in range(0, len(predictions.cases), GROUP):
            part = slice(begin, begin + GROUP)
            row, place = np.nonzero(predictions.items[part] != NO_ITEM)
            values = (
                raw_users[predictions.cases[part][row]],
                place + 1,
                raw_items[predictions.items[part][row, place]],
                predictions.scores[part][row, place],
            )
            arrays = [pa.array(value, kind) for value, kind in zip(values, kinds, strict=True)]
            yield pa.record_batch(arrays, schema=schema)

    def fill(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for group in groups():
                writer.write_batch(group)

    write_result_file(path, fill)


def read_predictions(path: Path, users: Sequence[str], items: Sequence[str]) -> Predictions:
    """The lists of all of `users`, the names of cases, in their order; one without a row has an empty list.

    Raises `InputError` where the file is missing, unreadable, or names an unknown user or item.
    """
    import pyarrow as pa

    table = read_parquet(path, list(COLUMNS))
    kinds = (pa.types.is_string, pa.types.is_integer, pa.types.is_string, pa.types.is_floating)
    for column, is_valid in zip(COLUMNS, kinds, strict=True):
        if column not in table.column_names or not is_valid(table[column].type) or table[column].null_count:
            raise InputError(f"no whole column {column!r} of predictions", where=str(path), hint=AGAIN)
    rows = _positions(path, "user", table["user"].to_pylist(), users)
    listed = _positions(path, "item", table["item"].to_pylist(), items)
    place = table["rank"].to_numpy().astype(np.int64) - 1
    if len(place) and not 0 <= place.min() <= place.max() < DEEPEST:
        raise InputError(f"ranks are not 1 to {DEEPEST}", where=str(path), hint=AGAIN)
    if len(np.unique(rows * DEEPEST + place)) < len(place):
        raise InputError("a user has two items of one rank", where=str(path), hint=AGAIN)
    shape = (len(users), int(place.max()) + 1 if len(place) else 1)
    lists, scores = np.full(shape, NO_ITEM), np.zeros(shape)
    lists[rows, place] = listed
    scores[rows, place] = table["score"].to_numpy()
    return Predictions(np.arange(len(users)), lists, scores)


def _positions(path: Path, kind: str, raw: list[str], names: Sequence[str]) -> np.ndarray:
    index_of = {name: position for position, name in enumerate(names)}
    try:
        return np.array([index_of[name] for name in raw], dtype=np.int64)
    except KeyError as error:
        raise InputError(f"unknown {kind} {error.args[0]!r}", where=str(path)) from error
