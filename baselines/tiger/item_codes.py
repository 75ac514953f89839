"""Item codes: an RQ-VAE over text vectors, then a token that numbers the items which share a code.

Items are numbered by a hash of their raw ids, so that neither the order of a source nor popularity, let alone a target,
decides who is first.
"""

from __future__ import annotations

import hashlib

import numpy as np

from baselines.tiger.config import FILE, TigerConfig
from harness.data.dataset import Canonical, require_text
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.index import ItemIndex, index_file, ready_index
from harness.generative.tokenizers.rqvae import rqvae_codes
from harness.generative.tokenizers.text_embeddings import semantic_vectors
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

VERSION = "tiger/1"


def item_index(data: TrainingData, config: TigerConfig, context: RunContext) -> ItemIndex:
    """The codes that a run with this configuration and seed has. `details` holds the share of items that shared a code
    before the distinguishing token (`collisions_before`). Raises `InputError` for missing text, for vectors that are
    not finite and for an index file that does not fit."""
    index = config.index
    if index.kind == "file":
        return ready_index(index_file(index.file, data, FILE), data, declared=False)
    if config.reads_text():
        require_text(data.text, data.items, where=data.dataset)
    vectors = semantic_vectors(data, config.semantic, context)
    order = Canonical.of((), data.items)  # equal vectors give equal codes in whatever order a source lists its items
    made = rqvae_codes(vectors.values[order.items], index.levels, index.size, index.rqvae, context, "tiger rqvae")
    digits, sizes = made.digits[order.item_ranks], (index.size,) * index.levels
    if index.distinct == "token":
        numbers = places_in_group(digits, data.items)
        digits, sizes = np.column_stack([digits, numbers]), (*sizes, int(numbers.max()) + 1)
    return ItemIndex(
        table=CodeTable(digits, sizes),
        provenance=Provenance.joined(VERSION, vectors.provenance),
        details={
            "kind": "rqvae",
            "collisions_before": made.collisions,
            "rqvae": made.record(),
            "vectors": vectors.record(),
        },
    )


def places_in_group(digits: np.ndarray, items: tuple[str, ...]) -> np.ndarray:
    """For each item its number, from 0, among those with equal rows of `digits` (n_items, levels), by the hash of their
    raw ids; int64 (n_items,).

    >>> sorted(places_in_group(np.array([[1], [2], [1], [1]]), ("a", "b", "c", "d"))[[0, 2, 3]].tolist())
    [0, 1, 2]
    """
    hashed = np.array([hashlib.sha256(item.encode()).hexdigest() for item in items])
    _, group = np.unique(digits, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.lexsort((hashed, group))
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) > 0))
    places = np.empty(len(items), dtype=np.int64)
    places[order] = np.arange(len(items)) - np.repeat(starts, np.diff(np.append(starts, len(items))))
    return places
