"""Item vectors with their provenance: computed and cached under a key of everything that decides them, or read from a
user's file; and the semantic source, item vectors from item text by a frozen encoder. Item codes that a network learns
are cached in the same way.

Cached rows are in canonical order, that of the sorted raw item ids. `cached` maps them to the item order of a data set,
so that data sets with equal content and different item orders share an entry.
"""

from __future__ import annotations

import html
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np

from harness.core.artifact_cache import CacheEntry, Key
from harness.core.files import remove_stale_temp_files, write_atomic
from harness.core.hashing import fingerprint
from harness.core.locks import acquire_lock
from harness.core.plugins import warn
from harness.data.dataset import CanonicalOrder, ItemText, require_text
from harness.data.readers.vector_files import FORMATS, matched, read_vectors
from harness.errors import InputError
from harness.generative.config import RowsBy, SemanticConfig, VectorsConfig
from harness.generative.tokenizers.text_encoder import encode, identity
from harness.protocol.audit.provenance import Provenance, read_provenance, sidecar, write_provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

Source = Literal["semantic", "behavior", "collaborative"]
"""Of item text; of training interactions, as EAGER-LLM reads them; of the item graph of training sequences."""

ITEMS = "items"  # part of a key: the raw item ids
VERSION = "semantic/3"
TOO_LONG = 2000  # characters from which the released code blanks a text
PART = 65_536  # fields


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """`values` is float32 (n_items, dim), or of cached codes int64 (n_items, levels), one row an item id. `details`:
    measurements, JSON-able."""

    values: np.ndarray
    key: str
    provenance: Provenance
    details: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For the run's record."""
        return {"key": self.key, **self.provenance.model_dump(), **self.details}


def vectors_key(kind: str, parts: Mapping[str, Any], items: Sequence[str]) -> Key:
    """The key of vectors of `items` (raw ids, in any order): `parts` and the ids."""
    return Key(kind, {**parts, ITEMS: fingerprint(sorted(items))})


def artefact(name: str, key: Key, context: RunContext) -> CacheEntry:
    """The cache entry of vectors under `key`."""
    return CacheEntry(key, context.cache / "vectors" / f"{name}-{key.digest}.json")


def cached(
    name: str,
    key: Key,
    items: Sequence[str],
    context: RunContext,
    make: Callable[[], tuple[np.ndarray, dict[str, Any], Provenance]],
) -> ItemVectors:
    """The vectors or codes cached under `key` (of `vectors_key`), or those that `make` computes, one row for each of
    `items` (raw ids) in that order. A corrupt entry logs a warning and counts as missing.

    `make` returns the rows in canonical order, measurements and provenance; that order is stored. Raises `ValueError`
    for a key of other items and for a wrong number of rows.
    """
    if key.parts.get(ITEMS) != fingerprint(sorted(items)):
        raise ValueError(f"the key of {key.kind} does not name these items")
    cache_entry = artefact(name, key, context)
    stored, path = _found(cache_entry), cache_entry.manifest.with_suffix(".npy")
    if stored is None:
        with acquire_lock(path.with_suffix(".lock")):  # other processes wait, then read the entry
            stored = _found(cache_entry) if cache_entry.state() == "kept" else None
            if stored is None:
                values, details, provenance = make()
                remove_stale_temp_files(path.parent, f"{path.stem}.*")
                write_atomic(path, lambda temporary: _put(temporary, values))
                write_provenance(path, provenance)
                cache_entry.write([path, sidecar(path)], details)
                stored = ItemVectors(values, key.digest, provenance, details)
    shutil.rmtree(unfinished(name, key, context), ignore_errors=True)
    if len(stored.values) != len(items):
        raise ValueError(f"{len(stored.values)} rows of {key.kind} for {len(items)} items")
    return replace(stored, values=stored.values[CanonicalOrder.of((), items).item_ranks])


def unfinished(name: str, key: Key, context: RunContext) -> Path:
    """The folder of checkpoints while the vectors of `cached` are computed; the process with the lock uses it."""
    return context.cache / "vectors" / "unfinished" / f"{name}-{key.digest}"


def _found(cache_entry: CacheEntry) -> ItemVectors | None:
    details, path = cache_entry.read(), cache_entry.manifest.with_suffix(".npy")
    if details is None:
        return None
    return ItemVectors(np.load(path, allow_pickle=False), cache_entry.key.digest, read_provenance(path), details)


def load_user_vectors(
    path: Path, data: TrainingData, *, declared: bool, rows: RowsBy = "ids", setting: str = "vectors_rows"
) -> ItemVectors:
    """Vectors from a user's file (see `vector_files`), matched to items by id. With `rows="item-file"` a bare `.npy` is
    taken too, its rows in the order of the data set's item file.

    Raises `InputError` for a file that cannot be read, a bare `.npy` without that setting, items without a vector,
    numbers that are not finite, and vectors that are known to have seen held-out rows (unless that leak is `declared`).
    """
    table = read_vectors(path)
    if table.ids is None:
        table = replace(table, ids=_item_file_ids(path, len(table.values), data, rows, setting), named_by="item file")
    values, extra = matched(table, data.items, str(path))
    check_finite(values, str(path))
    zeros = _check_told_apart(values, data.items, path)
    provenance = read_provenance(path)
    provenance.check(data, location=str(path), declared=declared)
    details = {"file": path.name, "ids": table.named_by, "extra_rows": extra, "zero_rows": zeros}
    return ItemVectors(values, fingerprint("given", values), provenance, details)


def _check_told_apart(values: np.ndarray, items: Sequence[str], path: Path) -> int:
    """How many vectors are zero, which is a warning. Raises `InputError` where all vectors are equal."""
    if len(values) > 1 and (values == values[0]).all():
        raise InputError(
            "all vectors are equal: they say nothing of the items", where=str(path), hint="make them again"
        )
    zeros = np.flatnonzero(~values.any(axis=1))
    if len(zeros):
        warn(f"{path.name}: the vectors of {len(zeros):,} of {len(items):,} items are zero ({items[zeros[0]]} first)")
    return len(zeros)


def _item_file_ids(path: Path, count: int, data: TrainingData, rows: RowsBy, setting: str) -> tuple[str, ...]:
    """The ids of a bare `.npy`'s rows, which only the order of the data set's item file can give."""
    if rows != "item-file":
        message = "the rows of a bare .npy name no items"
        hint = f"{FORMATS}; or say --set {setting}=item-file where the rows are in the order of the item file"
        raise InputError(message, where=str(path), hint=hint)
    if data.item_file is None:
        message = f"{setting}=item-file, and {data.dataset} has no item file whose order is known"
        raise InputError(message, where=str(path), hint=FORMATS)
    if len(data.item_file.items) != count:
        present = data.item_file.path.name
        message = f"{count:,} vectors, and {len(data.item_file.items):,} items in {present}"
        raise InputError(message, where=str(path), hint=f"give one row an item of {present}, or {FORMATS}")
    return data.item_file.items


def check_finite(values: np.ndarray, location: str) -> None:
    """Raises `InputError` where vectors hold anything but finite numbers."""
    invalid = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(invalid):
        message = f"the vectors of {len(invalid)} items hold NaN or infinite values (row {invalid[0]} first)"
        raise InputError(message, where=location, hint="make them again")


def _put(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


ConfigT = TypeVar("ConfigT", bound=VectorsConfig)


class EmbeddingSource(ABC, Generic[ConfigT]):
    """Makes the item vectors of one source: from the file `config.vectors`, else computed and cached under a key.
    `leaking`: the configuration declares that held-out rows are seen. `setting` names `config` in error messages."""

    name: ClassVar[Source]
    setting: ClassVar[str]
    config: ConfigT

    @property
    def leaking(self) -> bool:
        return False

    @abstractmethod
    def key(self, data: TrainingData, context: RunContext) -> Key:
        """The key of computed vectors (`vectors_key`). Nothing is computed."""

    @abstractmethod
    def make(self, data: TrainingData, context: RunContext) -> tuple[np.ndarray, dict[str, Any], Provenance]:
        """The vectors in canonical order, measurements and provenance."""

    def fit(self, data: TrainingData, context: RunContext) -> ItemVectors:
        """The vectors, float32 (n_items, dim). Raises `InputError` as `load_user_vectors` does."""
        config = self.config
        if config.vectors is not None:
            setting = f"{self.setting}.vectors_rows"
            return load_user_vectors(
                config.vectors, data, declared=self.leaking, rows=config.vectors_rows, setting=setting
            )
        return cached(self.name, self.key(data, context), data.items, context, lambda: self.make(data, context))

    def cache_entries(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        """The cache entries that `fit` looks up, in that order; none for vectors from a file."""
        return () if self.config.vectors is not None else (artefact(self.name, self.key(data, context), context),)


@dataclass(frozen=True)
class TextEmbeddings(EmbeddingSource[SemanticConfig]):
    """Unit-length vectors of item text by a frozen encoder, under a hash of texts, encoder weights and settings."""

    config: SemanticConfig

    name: ClassVar[Source] = "semantic"
    setting: ClassVar[str] = "SECTION.semantic"

    def fit(self, data: TrainingData, context: RunContext) -> ItemVectors:
        """Raises `InputError` for items without text in the chosen fields, for an encoder that cannot be loaded and
        for vectors that do not fit."""
        if self.config.vectors is None:
            require_text(data.text, data.items, location=data.dataset)
        return super().fit(data, context)

    def cache_entries(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        """Nothing is downloaded."""
        if self.config.vectors is not None or data.text is None:
            return ()
        return (artefact(self.name, self.key(data, context, is_here=True), context),)

    def key(self, data: TrainingData, context: RunContext, *, is_here: bool = False) -> Key:
        """Fields and the way of cleaning act through the texts. `is_here`: a hub model is not looked up on the hub."""
        rows, strings = self._texts(data)
        parts = {
            "method": VERSION,
            "encoder": identity(self.config.encoder, is_here=is_here),
            "settings": self.config.model_dump(mode="json", include={"pooling", "normalise", "max_tokens"}),
            "precision": "stored" if context.device.startswith("cuda") else "float32",
            "texts": fingerprint(strings, rows),
        }
        return vectors_key("semantic vectors", parts, data.items)

    def make(self, data: TrainingData, context: RunContext) -> tuple[np.ndarray, dict[str, Any], Provenance]:
        from harness.generative.training.checkpoint import PartialResults

        config, (rows, strings) = self.config, self._texts(data)
        if len(missing := np.setdiff1d(np.arange(data.n_items), rows)):
            first = sorted(data.items)[missing[0]]
            message = f"{len(missing)} items have no text in {', '.join(config.fields)} ({first}, …)"
            raise InputError(message, where=data.dataset, hint="add other fields (semantic.fields)")
        unique = sorted(set(strings), key=lambda value: (len(value), value))  # like lengths together: little padding
        shards = PartialResults(unfinished(self.name, self.key(data, context), context))
        encoded = encode(unique, config.encoder, config.pooling, config.max_tokens, context, shards)
        check_finite(encoded, f"the text encoder {config.encoder!r}")
        place = {value: number for number, value in enumerate(unique)}
        places = np.array([place[value] for value in strings])
        values = average(encoded, places, np.array(rows), data.n_items, config.normalise)
        return values, {"encoder": config.encoder, "texts": len(unique)}, Provenance.of_text(VERSION)

    def _texts(self, data: TrainingData) -> tuple[list[int], list[str]]:
        """`field_texts` with the items numbered, and in the order of, their sorted raw ids."""
        assert data.text is not None, "the caller checks that there is text"
        return field_texts([data.text[item] for item in CanonicalOrder.of((), data.items).items], self.config)


def field_texts(text: Sequence[ItemText], config: SemanticConfig) -> tuple[list[int], list[str]]:
    """The item of each field's text, and the texts."""
    rows, strings = [], []
    for item, entry in enumerate(text):
        for name in config.fields:
            value = getattr(entry, name)
            value = ", ".join(value) if isinstance(value, tuple) else value
            if config.text == "released":
                value = released_text(value)
            if value or config.text == "released":
                rows.append(item)
                strings.append(value)
    return rows, strings


def released_text(value: str) -> str:
    """Cleaned as the released code means it: entities, tags, quotes and line ends go, one full stop at the end, nothing
    at all from 2,000 characters on.

    >>> released_text('Pens &amp; <b>"ink"</b>')
    'Pens & ink.'
    """
    plain = re.sub(r"<[^>]+>", " ", html.unescape(value))
    plain = re.sub(r"\s+", " ", re.sub(r"[\"'\n\r]", "", plain)).strip()
    plain = f"{plain.rstrip('.')}." if plain else ""
    return plain if len(plain) < TOO_LONG else ""


def average(encoded: np.ndarray, places: np.ndarray, rows: np.ndarray, n_items: int, normalise: bool) -> np.ndarray:
    """Mean over each item's fields, unit length, float32 (n_items, dim). Field `n` is of item `rows[n]`, its vector
    `encoded[places[n]]`. Summed in parts of `PART` fields, to bound memory."""
    sums = np.zeros((n_items, encoded.shape[1]))
    for begin in range(0, len(rows), PART):
        part = encoded[places[begin : begin + PART]]
        if normalise:
            part = part / np.linalg.norm(part, axis=1, keepdims=True).clip(1e-9)
        np.add.at(sums, rows[begin : begin + PART], part)
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)
