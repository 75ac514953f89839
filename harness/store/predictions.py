"""`predictions.parquet`: ranked lists on the disk, with raw ids, so that any metric can be redone without the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.errors import InputError
from harness.protocol.predictions import NOBODY, Predictions
from harness.store.atomic import write_atomic

COLUMNS = ("user", "rank", "item", "score")


def write_predictions(path: Path, predictions: Predictions, users: Sequence[str], items: Sequence[str]) -> None:
    """Columns user (text), rank (from 1), item (text), score; `users` and `items` give the raw id of each position."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row, place = np.nonzero(predictions.items != NOBODY)
    raw_users = np.asarray(users, dtype=object)[predictions.users[row]]
    raw_items = np.asarray(items, dtype=object)[predictions.items[row, place]]
    columns = {
        "user": pa.array(raw_users, pa.string()),
        "rank": pa.array(place + 1, pa.int32()),
        "item": pa.array(raw_items, pa.string()),
        "score": pa.array(predictions.scores[row, place], pa.float64()),
    }
    write_atomic(path, lambda temporary: pq.write_table(pa.table(columns), temporary, compression="zstd"))


def read_predictions(path: Path, users: Sequence[str], items: Sequence[str]) -> Predictions:
    """The lists of all of `users`, in their order; a user without a row has an empty list.

    Raises `InputError` where the file is missing, unreadable, or names an unknown user or item.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot be read as predictions: {error}", where=str(path)) from error
    rows = _positions(path, "user", table["user"].to_pylist(), users)
    listed = _positions(path, "item", table["item"].to_pylist(), items)
    place = table["rank"].to_numpy() - 1
    shape = (len(users), int(place.max()) + 1 if len(place) else 1)
    lists, scores = np.full(shape, NOBODY), np.zeros(shape)
    lists[rows, place] = listed
    scores[rows, place] = table["score"].to_numpy()
    return Predictions(np.arange(len(users)), lists, scores)


def _positions(path: Path, kind: str, raw: list[str], known: Sequence[str]) -> np.ndarray:
    where = {name: position for position, name in enumerate(known)}
    try:
        return np.array([where[name] for name in raw], dtype=np.int64)
    except KeyError as error:
        raise InputError(f"unknown {kind} {error.args[0]!r}", where=str(path)) from error
