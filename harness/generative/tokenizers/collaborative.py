"""Collaborative item vectors: of the item graph of the training sequences, or from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness.core.artifact_cache import CacheEntry, Key
from harness.core.config_files import UserFile
from harness.core.seeding import derive_seed
from harness.data.dataset import CanonicalOrder
from harness.generative.config import RowsBy, by_ids, given_files
from harness.generative.tokenizers.embeddings import (
    ItemVectors,
    Source,
    artefact,
    cached,
    load_user_vectors,
    vectors_key,
)
from harness.generative.tokenizers.item_graph import GraphConfig, graph_vectors
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

VERSION = "collaborative/1"
SOURCE: Source = "collaborative"


class CollaborativeConfig(BaseModel):
    """Training interactions to item vectors, by the spectrum of the item graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    graph: GraphConfig = GraphConfig()
    vectors: UserFile | None = Field(
        default=None,
        description="ready vectors instead, such as the item embeddings of a sequential recommender: Parquet or .npz "
        "with an id column, or .npy beside FILE.ids.txt",
    )
    vectors_rows: RowsBy = Field(
        default="ids",
        exclude_if=by_ids,
        description="item-file: the rows of a bare .npy stand in the order of the data set's item file",
    )

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """The files of ready vectors."""
        return given_files(self.vectors, data, self.vectors_rows)


@dataclass(frozen=True)
class CollaborativeEmbeddings:
    """Vectors of `dim` dimensions, an `EmbeddingSource`. Wider ones from a file are projected to the `dim` directions
    that keep most of their inner products; narrower ones are filled up with zeros."""

    config: CollaborativeConfig
    dim: int
    name: Source = SOURCE

    def fit(self, data: TrainingData, context: RunContext) -> ItemVectors:
        """Raises `InputError` for a file that cannot be read, does not cover the items or has seen held-out rows."""
        config = self.config
        if config.vectors is not None:
            setting = "SECTION.index.collaborative.vectors_rows"
            given = load_user_vectors(config.vectors, data, declared=False, rows=config.vectors_rows, setting=setting)
            return replace(given, values=of_width(given.values, self.dim, data.items))
        order = CanonicalOrder.of((), data.items)

        def make() -> tuple[np.ndarray, dict[str, Any], Provenance]:
            rows = [order.item_ranks[row] for row in data.sequences if len(row)]
            seed = derive_seed(context.seed, SOURCE) % (1 << 32)
            with context.stage("collaborative vectors"):
                values = graph_vectors(rows, data.n_items, self.dim, config.graph, seed)
            return values, {"encoder": "graph"}, Provenance.of(data, VERSION)

        return cached(SOURCE, self._key(data, context), data.items, context, make)

    def cache_entries(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        """Empty for vectors from a file."""
        if self.config.vectors is not None:
            return ()
        return (artefact(SOURCE, self._key(data, context), context),)

    def _key(self, data: TrainingData, context: RunContext) -> Key:
        parts = {
            "method": VERSION,
            "graph": self.config.graph.model_dump(mode="json"),
            "dim": self.dim,
            "rows": data.rows_fingerprint,
            "seed": context.seed,
        }
        return vectors_key("collaborative vectors", parts, data.items)


def of_width(values: np.ndarray, dim: int, items: tuple[str, ...]) -> np.ndarray:
    """`values` (n_items, any) as float32 (n_items, dim): projected to their leading right singular vectors where they
    are wider, with zeros behind where they are narrower. Computed in canonical order, whatever that of `items`."""
    if values.shape[1] > dim:
        order = CanonicalOrder.of((), items)
        canonical = values[order.items].astype(np.float64)
        values = (canonical @ np.linalg.eigh(canonical.T @ canonical)[1][:, : -dim - 1 : -1])[order.item_ranks]
    return np.pad(values, ((0, 0), (0, dim - values.shape[1]))).astype(np.float32)
