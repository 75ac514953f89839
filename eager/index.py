"""Item codes by `eager.index.kind`: dual-source balanced trees (the method), or what they are compared with.

Items are numbered by their raw ids while codes are made, so that equal vectors give equal codes in whatever order a
source lists its items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from eager.index_config import RQVAE_K, IndexConfig, Source
from eager.tree import check_size, random_codes, smallest_k, tree_codes
from harness.data.dataset import Canonical
from harness.generative.codes import CodeTable
from harness.generative.item_index import ItemIndex, index_file, ready_index
from harness.generative.rqvae import rqvae_codes
from harness.generative.vectors import ItemVectors
from harness.protocol.context import RunContext
from harness.protocol.provenance import Provenance
from harness.protocol.split import TrainingData
from harness.seeding import derive_seed

VERSION, FILE = "index/2", "eager.index.file"
Vectors = Mapping[Source, ItemVectors]


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceIndex(ItemIndex):
    """`blocks` says of each run of levels which source its tokens stand for (None: none)."""

    blocks: tuple[tuple[Source | None, int], ...]


def needed_sources(config: IndexConfig) -> tuple[Source, ...]:
    """The sources whose vectors the codes are made of."""
    return config.sources if config.kind in ("tree", "rqvae") else ()


def check_index(data: TrainingData, config: IndexConfig, *, declared: bool) -> SourceIndex | None:
    """What can be known to be wrong before anything is trained; gives the index where it is ready-made.

    Raises `InputError` for a tree that does not fit the catalogue, and for an index file that is wrong or that saw
    held-out rows (unless that leak is `declared`).
    """
    if config.kind == "file":
        ready = ready_index(index_file(config.file, data, FILE), data, declared=declared)
        return SourceIndex(**vars(ready), blocks=((config.sources[0], ready.table.levels),))
    if config.kind != "rqvae":
        check_size(data.n_items, _k(data, config), config.height)
    return None


def build_index(data: TrainingData, vectors: Vectors, config: IndexConfig, context: RunContext) -> SourceIndex:
    """Codes of the catalogue from `vectors` of `needed_sources`; every kind but `file`."""
    k, order = _k(data, config), Canonical.of((), data.items)
    parts, details = [], []
    for source in config.sources:
        seed = derive_seed(context.seed, "index", source)
        if config.kind == "random":
            digits = random_codes(data.n_items, k, config.height, seed=seed)
        elif config.kind == "tree":
            values = centred(vectors[source].values[order.items])
            digits = tree_codes(values, k, config.height, order=config.order, seed=seed)
        else:
            made = rqvae_codes(
                vectors[source].values[order.items], config.height, k, config.rqvae, context, f"rqvae {source}"
            )
            digits = made.digits
            details.append({"source": source, **made.record()})
        parts.append(digits[order.item_ranks])
    named = config.kind != "random"
    seen = [vectors[source].provenance for source in needed_sources(config)]
    return SourceIndex(
        table=CodeTable.joined(parts, k),
        blocks=tuple((source if named else None, config.height) for source in config.sources),
        provenance=Provenance.joined(VERSION, *seen),
        details={"kind": config.kind, **({"rqvae": details} if details else {})},
    )


def centred(vectors: np.ndarray) -> np.ndarray:
    """Directions around the mean, unit length: the common part of all items says nothing about one."""
    moved = vectors - vectors.mean(axis=0)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def code_directions(index: SourceIndex, vectors: Vectors, width: int, seed: int) -> torch.Tensor:
    """First rows for the code tokens, (code tokens, width): the mean vector of the items that a token stands for,
    taken to the backbone's width by a random projection; below a source's first level the mean of what is left once
    the parents' means are taken away. A little noise keeps tokens of equal means apart. Levels that stand for no
    source's vectors (random codes, or vectors that are not in use) are noise alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "code rows"))
    table, blocks, first = index.table, [], 0
    for source, levels in index.blocks:
        held = vectors.get(source) if source else None
        left = centred(held.values) if held else np.zeros((table.n_items, 1), dtype=np.float32)
        projection = torch.randn(left.shape[1], width, generator=generator)
        parents = np.zeros(len(left), dtype=np.int64)
        for level in range(first, first + levels):
            digit, size = table.digits[:, level], table.sizes[level]
            rows = torch.from_numpy(_means(left, digit, size)).float() @ projection
            noise = torch.randn(size, width, generator=generator)
            blocks.append(rows / rows.std().clamp(min=1e-6) + 0.3 * noise if held else noise)
            _, parents = np.unique(parents * size + digit, return_inverse=True)
            left = left - _means(left, parents, int(parents.max()) + 1)[parents]
        first += levels
    return torch.cat(blocks)


def _k(data: TrainingData, config: IndexConfig) -> int:
    return config.k or (RQVAE_K if config.kind == "rqvae" else smallest_k(data.n_items, config.height))


def _means(vectors: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    sums = np.zeros((size, vectors.shape[1]))
    np.add.at(sums, groups, vectors)
    return sums / np.bincount(groups, minlength=size).clip(min=1)[:, None]
