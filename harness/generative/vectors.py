"""`ItemVectors`: the vectors of one source with what is known of how they were made, cached by a key of everything that
decides them, or read from a file that the user gives.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.errors import InputError
from harness.files import sweep, write_text, write_whole
from harness.fingerprint import fingerprint
from harness.locks import holding
from harness.protocol.context import RunContext
from harness.protocol.provenance import Provenance, read_provenance, write_provenance
from harness.protocol.split import TrainingData

Source = Literal["semantic", "behavior"]  # of item text, of training interactions


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """`values` is float32 (n_items, dim), one row an item id. `details` is what their making measured, JSON-able."""

    values: np.ndarray
    key: str
    provenance: Provenance
    details: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """What a run's record says of them."""
        return {"key": self.key, **self.provenance.model_dump(), **self.details}


def cached(
    name: str, key: str, context: RunContext, make: Callable[[], tuple[np.ndarray, dict[str, Any], Provenance]]
) -> ItemVectors:
    """The vectors kept under `key`, or those that `make` makes (with what it measured, and what it saw)."""
    path = context.cache / "vectors" / f"{name}-{key}.npy"
    if (found := _found(path, key)) is not None:
        shutil.rmtree(unfinished(name, key, context), ignore_errors=True)  # a kill may have come before it went
        return found
    with holding(path.with_suffix(".lock")):  # who asks for them meanwhile waits, and reads them
        if (found := _found(path, key)) is not None:
            return found
        values, details, provenance = make()
        sweep(path.parent, f"{path.stem}.*")
        write_whole(path, lambda temporary: _put(temporary, values))
        write_provenance(path, provenance)
        write_text(path.with_suffix(".json"), json.dumps(details))  # last: vectors without it count as unfinished
        shutil.rmtree(unfinished(name, key, context), ignore_errors=True)
    return ItemVectors(values, key, provenance, details)


def unfinished(name: str, key: str, context: RunContext) -> Path:
    """A folder for what making the vectors of `cached` needs to go on; who makes them has it alone."""
    return context.cache / "vectors" / "unfinished" / f"{name}-{key}"


def _found(path: Path, key: str) -> ItemVectors | None:
    about = path.with_suffix(".json")
    if not (path.is_file() and about.is_file()):
        return None
    values, details = np.load(path, allow_pickle=False), json.loads(about.read_text(encoding="utf-8"))
    return ItemVectors(values, key, read_provenance(path), details)


def given(path: Path, data: TrainingData, *, declared: bool) -> ItemVectors:
    """Vectors from a `.npy` file, (n_items, dim), rows in the data set's order of items.

    Raises `InputError` for a file that cannot be read, another number of rows, numbers that are not finite, and vectors
    that are known to have seen held-out rows (unless that leak is `declared`).
    """
    mend = "give a .npy file with one row of numbers an item, in the data set's order of items"
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"no vectors can be read from it ({error})", where=str(path), mend=mend) from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        raise InputError("not a table of numbers", where=str(path), mend=mend)
    if len(values) != data.n_items:
        raise InputError(f"{len(values)} vectors for {data.n_items} items", where=str(path), mend=mend)
    check_finite(values, str(path))
    provenance = read_provenance(path)
    provenance.check(data, where=str(path), declared=declared)
    values = values.astype(np.float32)
    return ItemVectors(values, fingerprint("given", values), provenance, {"file": path.name})


def check_finite(values: np.ndarray, where: str) -> None:
    """Raises `InputError` where vectors hold anything but finite numbers."""
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        what = f"the vectors of {len(broken)} items hold NaN or infinite values (row {broken[0]} first)"
        raise InputError(what, where=where, mend="make them again")


def _put(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
