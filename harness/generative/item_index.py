"""`ItemIndex`: the codes of a catalogue with what is known of their making, and the first rows that code tokens get.

Owns what all methods' indices are kept and recorded as. How codes are made is a method's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.errors import InputError
from harness.generative.codes import CodeTable
from harness.generative.inspection import inspect
from harness.generative.vectors import ItemVectors, Source
from harness.protocol.provenance import Provenance, read_provenance, write_provenance
from harness.protocol.split import TrainingData
from harness.seeding import derive_seed

Vectors = Mapping[Source, ItemVectors]


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """The codes of all items. `blocks` says of each run of levels which source its tokens stand for (None: none)."""

    table: CodeTable
    blocks: tuple[tuple[Source | None, int], ...]
    provenance: Provenance
    details: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path, data: TrainingData) -> None:
        """An LC-Rec-style index file, its provenance beside it."""
        self.table.write(path, data.items)
        write_provenance(path, self.provenance)

    def record(self) -> dict[str, Any]:
        """What a run's record says of it: its health, what it saw, what its making measured."""
        return {**inspect(self.table), **self.provenance.model_dump(), **self.details}


def index_file(named: Path | None, data: TrainingData) -> Path:
    """The index file that a setting names, else the data set's own. Raises `InputError` where there is neither."""
    path = named or data.index_file
    if path is None:
        raise InputError("this data set comes without an index file", where=data.dataset, mend="name one (index.file)")
    return path


def ready_index(named: Path | None, data: TrainingData, source: Source, *, declared: bool = False) -> ItemIndex:
    """The codes of an index file (`index_file`), all of whose tokens stand for `source`. Shared codes are allowed.

    Raises `InputError` for a file that is wrong or does not cover the catalogue, and for one that saw held-out rows
    (unless that leak is `declared`).
    """
    path = index_file(named, data)
    table, provenance = CodeTable.read(path, data.items), read_provenance(path)
    provenance.check(data, where=str(path), declared=declared)
    return ItemIndex(table, ((source, table.levels),), provenance, {"kind": "file", "file": path.name})


def centred(vectors: np.ndarray) -> np.ndarray:
    """Directions around the mean, unit length: the common part of all items says nothing about one."""
    moved = vectors - vectors.mean(axis=0)
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def code_directions(index: ItemIndex, vectors: Vectors, width: int, seed: int) -> torch.Tensor:
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


def _means(vectors: np.ndarray, groups: np.ndarray, size: int) -> np.ndarray:
    sums = np.zeros((size, vectors.shape[1]))
    np.add.at(sums, groups, vectors)
    return sums / np.bincount(groups, minlength=size).clip(min=1)[:, None]
