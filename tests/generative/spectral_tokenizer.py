"""A tokenizer in one file: codes by recursive spectral clustering of item co-occurrence, as P5-CID makes them (Hua et
al., SIGIR-AP 2023). Registered as `harness.registry.TOKENIZERS["spectral"]` by the tests of composition."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field
from scipy.cluster.vq import kmeans2

from harness.core.seeding import generator
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.base import ItemIndex, Tokenizer, Vectors
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData


class SpectralTokenizer(Tokenizer):
    kind: Literal["spectral"] = "spectral"
    branches: int = Field(default=3, ge=2)
    leaf: int = Field(default=4, ge=1, description="clusters of at most so many items are not split again")

    def make_index(self, data: TrainingData, vectors: Vectors, context: RunContext) -> ItemIndex:
        users = np.zeros((data.n_users, data.n_items))
        np.add.at(users, (data.sequences.rows(), data.sequences.values), 1)
        paths: list[list[int]] = [[] for _ in range(data.n_items)]
        self._split(users.T @ users + 1e-3, np.arange(data.n_items), paths, generator(context.seed, "spectral"))
        depth = max(map(len, paths))
        codes = np.array([path + [0] * (depth - len(path)) for path in paths])
        table = CodeTable(codes, tuple(int(size) for size in codes.max(axis=0) + 1))
        return ItemIndex(table=table, provenance=Provenance.of(data, "spectral/1"), details={"kind": self.kind})

    def _split(self, graph: np.ndarray, items: np.ndarray, paths: list[list[int]], rng: np.random.Generator) -> None:
        labels = np.arange(len(items))
        if len(items) > self.leaf:
            near = graph[np.ix_(items, items)]
            scale = 1 / np.sqrt(near.sum(axis=1))
            embedding = np.linalg.eigh(scale[:, None] * near * scale)[1][:, -self.branches :]
            labels = kmeans2(embedding, self.branches, minit="++", seed=rng)[1]
            labels = labels if len(np.unique(labels)) > 1 else labels + np.arange(len(items)) % self.branches
        for item, label in zip(items, labels, strict=True):
            paths[item].append(int(label))
        for label in np.unique(labels) if len(items) > self.leaf else ():
            self._split(graph, items[labels == label], paths, rng)
