"""`ItemVectors`: the vectors of one source with what is known of how they were made, cached by a key of everything that
decides them, or read from a file that the user gives.

Cached rows lie in canonical order, that of the sorted raw item ids. `cached` alone maps them to a data set's order of
items and back, so that data sets with equal content and other item orders share an entry.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np

from harness.data.dataset import Canonical
from harness.errors import InputError
from harness.files import sweep, write_whole
from harness.fingerprint import fingerprint
from harness.locks import holding
from harness.protocol.artefacts import Artefact, Key
from harness.protocol.context import RunContext
from harness.protocol.provenance import Provenance, read_provenance, sidecar, write_provenance
from harness.protocol.split import TrainingData

Source = Literal["semantic", "behavior"]  # of item text, of training interactions
ITEMS = "items"  # the part of a key that names the rows


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


def vectors_key(kind: str, parts: Mapping[str, Any], items: Sequence[str]) -> Key:
    """The key of vectors of the catalogue `items` (raw ids, in any order): `parts` and the ids, which name the rows."""
    return Key(kind, {**parts, ITEMS: fingerprint(sorted(items))})


def artefact(name: str, key: Key, context: RunContext) -> Artefact:
    """Where vectors are kept under `key`."""
    return Artefact(key, context.cache / "vectors" / f"{name}-{key.mark}.json")


def cached(
    name: str,
    key: Key,
    items: Sequence[str],
    context: RunContext,
    make: Callable[[], tuple[np.ndarray, dict[str, Any], Provenance]],
) -> ItemVectors:
    """The vectors kept under `key` (of `vectors_key`), or those that `make` makes, one row for each of `items` (raw
    ids) in that order. Kept ones that are damaged are made again, and a warning says so.

    `make` gives the rows in canonical order, that of the sorted raw ids, with what it measured and what it saw; the
    same order is stored. Raises `ValueError` for a key of another catalogue and for another number of rows.
    """
    if key.parts.get(ITEMS) != fingerprint(sorted(items)):
        raise ValueError(f"the key of {key.kind} does not name these items")
    stored = _cached(name, key, context, make)
    if len(stored.values) != len(items):
        raise ValueError(f"{len(stored.values)} rows of {key.kind} for {len(items)} items")
    return replace(stored, values=stored.values[Canonical.of((), items).item_ranks])


def _cached(
    name: str, key: Key, context: RunContext, make: Callable[[], tuple[np.ndarray, dict[str, Any], Provenance]]
) -> ItemVectors:
    """As they are stored."""
    kept = artefact(name, key, context)
    if (found := _found(kept)) is not None:
        shutil.rmtree(unfinished(name, key, context), ignore_errors=True)  # a kill may have come before it went
        return found
    path = kept.manifest.with_suffix(".npy")
    with holding(path.with_suffix(".lock")):  # who asks for them meanwhile waits, and reads them
        if kept.state() == "kept" and (found := _found(kept)) is not None:
            return found
        values, details, provenance = make()
        sweep(path.parent, f"{path.stem}.*")
        write_whole(path, lambda temporary: _put(temporary, values))
        write_provenance(path, provenance)
        kept.write([path, sidecar(path)], details)
        shutil.rmtree(unfinished(name, key, context), ignore_errors=True)
    return ItemVectors(values, key.mark, provenance, details)


def unfinished(name: str, key: Key, context: RunContext) -> Path:
    """A folder for what making the vectors of `cached` needs to go on; who makes them has it alone."""
    return context.cache / "vectors" / "unfinished" / f"{name}-{key.mark}"


def _found(kept: Artefact) -> ItemVectors | None:
    details, path = kept.read(), kept.manifest.with_suffix(".npy")
    if details is None:
        return None
    return ItemVectors(np.load(path, allow_pickle=False), kept.key.mark, read_provenance(path), details)


def given(path: Path, data: TrainingData, *, declared: bool) -> ItemVectors:
    """Vectors from a `.npy` file, (n_items, dim), rows in the data set's order of items.

    Raises `InputError` for a file that cannot be read, another number of rows, numbers that are not finite, and vectors
    that are known to have seen held-out rows (unless that leak is `declared`).
    """
    mend = "give a .npy file with one row of numbers an item, in the data set's order of items"
    try:
        values = read_npy(path)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise InputError(f"no vectors can be read from it ({error})", where=str(path), mend=mend) from error
    if values.ndim != 2 or not (np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)):
        raise InputError("not a table of numbers", where=str(path), mend=mend)
    if len(values) != data.n_items:
        raise InputError(f"{len(values)} vectors for {data.n_items} items", where=str(path), mend=mend)
    check_finite(values, str(path))
    provenance = read_provenance(path)
    provenance.check(data, where=str(path), declared=declared)
    values = values.astype(np.float32)
    return ItemVectors(values, fingerprint("given", values), provenance, {"file": path.name})


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file, of a size that the file has indeed, and never a pickle. Raises `ValueError` and
    `OSError` for anything else."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"a .npy file of version {version}")
        try:
            shape, _, dtype = read(file)
        except (SyntaxError, TokenError, TypeError, KeyError, RecursionError) as error:
            raise ValueError("its header cannot be read") from error
        claimed, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if dtype.hasobject or claimed != there or len(shape) > 32:
            raise ValueError(f"its header claims {claimed:,} bytes of {dtype}, and {there:,} are there")
    return np.load(path, allow_pickle=False)


def check_finite(values: np.ndarray, where: str) -> None:
    """Raises `InputError` where vectors hold anything but finite numbers."""
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        what = f"the vectors of {len(broken)} items hold NaN or infinite values (row {broken[0]} first)"
        raise InputError(what, where=where, mend="make them again")


def _put(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
