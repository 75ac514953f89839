"""Item indices: the codes of all items with their provenance, computed or read from a file; and the initial embeddings
of code tokens from the vectors of their sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.core.seeding import derive_seed
from harness.errors import InputError
from harness.generative.item_codes import CodeTable, inspect
from harness.generative.tokenizers.embeddings import ItemVectors, Source
from harness.protocol.audit.provenance import Provenance, read_provenance, write_provenance
from harness.protocol.context import SINGLE_PROCESS, RunContext, compute_on_main
from harness.protocol.split import TrainingData

INDEX_FILE = "item.index.json"  # in a run's folder


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemIndex:
    """The codes of all items. `details`: measurements, JSON-able."""

    table: CodeTable
    provenance: Provenance
    details: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path, data: TrainingData) -> None:
        """Writes an index file in LC-Rec's layout, and its provenance."""
        self.table.write(path, data.items)
        write_provenance(path, self.provenance)

    def record(self) -> dict[str, Any]:
        """For the run's record: statistics of the codes, provenance, measurements."""
        return {**inspect(self.table), **self.provenance.model_dump(), **self.details}


def index_file(path: Path | None, data: TrainingData, setting: str) -> Path:
    """The file that `setting` names, or the one of the data set. Raises `InputError` if there is neither."""
    if path is not None:
        return path
    if data.index_file is None:
        raise InputError(
            "this data set comes without an index file", where=data.dataset, hint=f"name one with {setting}"
        )
    return data.index_file


def ready_index(path: Path, data: TrainingData, *, declared: bool) -> ItemIndex:
    """Codes from an index file. Raises `InputError` for one that is malformed or lacks items, and for one computed from
    held-out rows (unless that leak is `declared`)."""
    table, provenance = CodeTable.read(path, data.items), read_provenance(path)
    provenance.check(data, location=str(path), declared=declared)
    return ItemIndex(table=table, provenance=provenance, details={"kind": "file", "file": path.name})


Vectors = Mapping[Source, ItemVectors]


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceIndex(ItemIndex):
    """`blocks`: for consecutive levels their source (None: none) and number."""

    blocks: tuple[tuple[Source | None, int], ...]

    @classmethod
    def of(cls, index: ItemIndex, source: Source) -> SourceIndex:
        """All levels of `index` stand for one source."""
        return cls(**vars(index), blocks=((source, index.table.levels),))


def centred(vectors: np.ndarray) -> np.ndarray:
    """Directions around the mean, unit length: the common part of all items says nothing about one."""
    changed = vectors - vectors.mean(axis=0)
    return (changed / np.linalg.norm(changed, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def code_directions(index: SourceIndex, vectors: Vectors, width: int, seed: int) -> torch.Tensor:
    """First rows for the code tokens, (code tokens, width): the mean vector of the items that a token stands for,
    taken to the backbone's width by a random projection; below a source's first level the mean of what is left once
    the parents' means are taken away. A little noise keeps tokens of equal means apart. Levels that stand for no
    source's vectors (random codes, or vectors that are not in use) are noise alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "code rows"))
    table, blocks, first = index.table, [], 0
    for source, levels in index.blocks:
        item_vectors = vectors.get(source) if source else None
        residual = centred(item_vectors.values) if item_vectors else np.zeros((table.n_items, 1), dtype=np.float32)
        projection = torch.randn(residual.shape[1], width, generator=generator)
        parents = np.zeros(len(residual), dtype=np.int64)
        for level in range(first, first + levels):
            digit, size = table.digits[:, level], table.sizes[level]
            rows = torch.from_numpy(_means(residual, digit, size)).float() @ projection
            noise = torch.randn(size, width, generator=generator)
            blocks.append(rows / rows.std().clamp(min=1e-6) + 0.3 * noise if item_vectors else noise)
            _, parents = np.unique(parents * size + digit, return_inverse=True)
            residual = residual - _means(residual, parents, int(parents.max()) + 1)[parents]
        first += levels
    return torch.cat(blocks)


def _means(vectors: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    sums = np.zeros((size, vectors.shape[1]))
    np.add.at(sums, groups, vectors)
    return sums / np.bincount(groups, minlength=size).clip(min=1)[:, None]


def made_index(
    context: RunContext, make: Callable[[RunContext], tuple[Vectors, SourceIndex]]
) -> tuple[Vectors, SourceIndex]:
    """Vectors of sources and the item codes, in all processes."""
    return compute_on_main(context.world, lambda: make(replace(context, world=SINGLE_PROCESS)))
