"""Dual-source item codes: the trees of both sources, joined into one code an item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from eager.config import IndexConfig, Source
from eager.tree import smallest_k, tree_codes
from harness.errors import InputError
from harness.generative.codes import CodeTable
from harness.seeding import derive_seed


def build_codes(vectors: Mapping[Source, np.ndarray], config: IndexConfig, seed: int) -> CodeTable:
    """Semantic tokens first, behaviour tokens second (as `config.sources` says); unique by construction.

    `vectors[source]` is (n_items, dim). Raises `InputError` where the trees do not fit the catalogue.
    """
    n = len(vectors[config.sources[0]])
    k = config.k or smallest_k(n, config.height)
    if n < k:
        raise InputError(f"{n} items are fewer than index.k = {k}", mend="lower eager.index.k")
    parts = [
        tree_codes(
            centred(vectors[source]), k, config.height, order=config.order, seed=derive_seed(seed, "index", source)
        )
        for source in config.sources
    ]
    return CodeTable.joined(parts, k)


def centred(vectors: np.ndarray) -> np.ndarray:
    """Directions around the mean, unit length: the common part of all items says nothing about one."""
    moved = vectors - vectors.mean(axis=0)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def code_directions(
    table: CodeTable, vectors: Mapping[Source, np.ndarray], config: IndexConfig, width: int, seed: int
) -> torch.Tensor:
    """First rows for the code tokens, (code tokens, width): the mean vector of the items that a token stands for,
    taken to the backbone's width by a random projection; below a source's first level the mean of what is left once
    the parents' means are taken away. A little noise keeps tokens of equal means apart."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "code rows"))
    blocks = []
    for number, source in enumerate(config.sources):
        left = centred(vectors[source])
        projection = torch.randn(left.shape[1], width, generator=generator)
        parents = np.zeros(len(left), dtype=np.int64)
        for level in range(number * config.height, (number + 1) * config.height):
            digit, size = table.digits[:, level], table.sizes[level]
            rows = torch.from_numpy(_means(left, digit, size)).float() @ projection
            noise = torch.randn(size, width, generator=generator)
            blocks.append(rows / rows.std().clamp(min=1e-6) + 0.3 * noise)
            parents = parents * size + digit
            _, node = np.unique(parents, return_inverse=True)
            left = left - _means(left, node, int(node.max()) + 1)[node]
    return torch.cat(blocks)


def health(table: CodeTable) -> dict[str, Any]:
    """What a record says of an index: sizes, collisions, use and entropy (bits) of each level."""
    levels = []
    for level, size in enumerate(table.sizes):
        counts = np.bincount(table.digits[:, level], minlength=size)
        share = counts[counts > 0] / counts.sum()
        levels.append(
            {"size": size, "used": int((counts > 0).sum()), "entropy": float(-(share * np.log2(share)).sum())}
        )
    return {
        "fingerprint": table.fingerprint,
        "collision_rate": len(table.collisions()) / table.n_items,
        "levels": levels,
    }


def _means(vectors: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    sums = np.zeros((size, vectors.shape[1]))
    np.add.at(sums, groups, vectors)
    return sums / np.bincount(groups, minlength=size).clip(min=1)[:, None]
