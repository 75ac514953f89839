"""The semantic source: item vectors from item text by a frozen encoder.

Each text field is encoded apart, and an item's vector is the mean over its fields, scaled to unit length. The released
code blanks texts of 2,000 characters and more and lets empty fields count; `text="released"` does so, the default cuts
a field to the encoder's length and leaves an empty field out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.core.artifact_cache import CacheEntry, Key
from harness.core.hashing import fingerprint
from harness.data.dataset import CanonicalOrder, ItemText
from harness.errors import InputError
from harness.generative.config import SemanticConfig
from harness.generative.tokenizers.embeddings import (
    ItemVectors,
    artefact,
    cached,
    check_finite,
    load_user_vectors,
    unfinished,
    vectors_key,
)
from harness.generative.tokenizers.text_encoder import encode, identity
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

VERSION, SOURCE = "semantic/3", "semantic"


TOO_LONG = 2000  # characters from which the released code blanks a text


PART = 65_536  # fields


def semantic_vectors(data: TrainingData, config: SemanticConfig, context: RunContext) -> ItemVectors:
    """Unit-length vectors, float32 (n_items, dim), cached under a hash of texts, encoder weights and settings.

    Raises `InputError` for items without text in the chosen fields and for an encoder that cannot be loaded.
    """
    if config.vectors is not None:
        return load_user_vectors(
            config.vectors, data, declared=False, rows=config.vectors_rows, setting="SECTION.semantic.vectors_rows"
        )
    rows, strings = _canonical_texts(data, config)
    _complete(rows, data, config)
    key = _key(rows, strings, data, config, context)

    def make() -> tuple[np.ndarray, dict[str, Any], Provenance]:
        from harness.generative.training.checkpoint import PartialResults

        unique = sorted(set(strings), key=lambda value: (len(value), value))  # like lengths together: little padding
        shards = PartialResults(unfinished("semantic", key, context))
        encoded = encode(unique, config.encoder, config.pooling, config.max_tokens, context, shards)
        check_finite(encoded, f"the text encoder {config.encoder!r}")
        place = {value: number for number, value in enumerate(unique)}
        places = np.array([place[value] for value in strings])
        values = average(encoded, places, np.array(rows), data.n_items, config.normalise)
        return values, {"encoder": config.encoder, "texts": len(unique)}, Provenance.of_text(VERSION)

    return cached(SOURCE, key, data.items, context, make)


def semantic_artefacts(data: TrainingData, config: SemanticConfig, context: RunContext) -> tuple[CacheEntry, ...]:
    """The cache entries of `semantic_vectors`, none for vectors from a file. Nothing is computed."""
    if config.vectors is not None or data.text is None:
        return ()
    key = _key(*_canonical_texts(data, config), data, config, context, is_here=True)
    return (artefact(SOURCE, key, context),)


def _canonical_texts(data: TrainingData, config: SemanticConfig) -> tuple[list[int], list[str]]:
    """`field_texts` with the items numbered, and in the order of, their sorted raw ids."""
    assert data.text is not None, "the caller checks that there is text"
    return field_texts([data.text[item] for item in CanonicalOrder.of((), data.items).items], config)


def _complete(rows: Sequence[int], data: TrainingData, config: SemanticConfig) -> None:
    missing = np.setdiff1d(np.arange(data.n_items), rows)
    if len(missing):
        first = sorted(data.items)[missing[0]]
        message = f"{len(missing)} items have no text in {', '.join(config.fields)} ({first}, …)"
        raise InputError(message, where=data.dataset, hint="add other fields (semantic.fields)")


def _key(
    rows: Sequence[int],
    strings: Sequence[str],
    data: TrainingData,
    config: SemanticConfig,
    context: RunContext,
    *,
    is_here: bool = False,
) -> Key:
    """Fields and the way of cleaning act through the texts."""
    parts = {
        "method": VERSION,
        "encoder": identity(config.encoder, is_here=is_here),
        "settings": config.model_dump(mode="json", include={"pooling", "normalise", "max_tokens"}),
        "precision": "stored" if context.device.startswith("cuda") else "float32",
        "texts": fingerprint(strings, rows),
    }
    return vectors_key("semantic vectors", parts, data.items)


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
