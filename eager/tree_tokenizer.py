"""Tokenizers by `eager.index.kind`: balanced trees of two sources (the method), and alternatives for comparison.

A balanced tree turns the item vectors of one source into codes; every leaf has one item, so that codes are unique. A
tree has `height` levels of up to `k` children. The paper's trees have k^height / n leaves for every item on average, of
which one is used; a single leaf gives the same information. Below the first level the released code numbers children
arbitrarily, so that only the first token of a source expresses similarity; `order="clustered"` numbers them by centres
of the residuals that all nodes of a level share, so that equal numbers under different parents have similar directions.

Items are numbered by raw ids, so that equal vectors give equal codes for any order of the items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from scipy.optimize import linear_sum_assignment

from eager.behavior_encoder import BehaviorEmbeddings
from eager.index_config import LEAK, BehaviorConfig, IndexConfig
from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed, generator
from harness.data.dataset import CanonicalOrder
from harness.errors import InputError
from harness.generative.config import SemanticConfig, given_files
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.base import EmbeddingSource, TextEmbeddings, Tokenizer
from harness.generative.tokenizers.embeddings import Source
from harness.generative.tokenizers.index import SourceIndex, Vectors, centred, index_file, ready_index
from harness.generative.tokenizers.kmeans import assign_with_sizes, balanced_kmeans, squared_distances
from harness.generative.tokenizers.rqvae import rqvae_codes
from harness.generative.training.checkpoint import Checkpointer
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

VERSION, FILE = "index/2", "eager.index.file"


def check_size(n_items: int, k: int, height: int) -> None:
    """Raises `InputError` if a tree of `height` levels of `k` children does not fit the catalogue."""
    if n_items < k:
        raise InputError(f"{n_items} items are fewer than index.k = {k}", hint="lower eager.index.k")
    if k**height < n_items:
        raise InputError(
            f"a tree of {height} levels of {k} has {k**height} leaves for {n_items} items",
            hint="raise k (eager.index.k) or the height (eager.index.height)",
        )


def random_codes(n_items: int, k: int, height: int, *, seed: int) -> np.ndarray:
    """Codes of a tree of the same shape that is independent of the items: at every node they are distributed at random,
    equally many to each child. int64 (n_items, height), unique rows."""
    check_size(n_items, k, height)
    rng = generator(seed, "random codes")
    codes = np.zeros((n_items, height), dtype=np.int64)
    node = np.zeros(n_items, dtype=np.int64)
    for level in range(height):
        for members in _members(node):
            codes[rng.permutation(members), level] = np.resize(rng.permutation(k), len(members))
        node = np.unique(node * k + codes[:, level], return_inverse=True)[1]
    return codes


def tree_codes(vectors: np.ndarray, k: int, height: int, *, order: str, seed: int) -> np.ndarray:
    """Codes of all items, int64 (n_items, height), digits in 0..k-1, unique rows.

    `vectors` is (n_items, dim). `order` is `clustered` or `released`. Raises `InputError` for vectors that are not
    finite and for a tree too small for the items.
    """
    n = len(vectors)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise InputError("item vectors hold NaN or infinite values", hint="check the model that made them")
    check_size(n, k, height)
    rng = generator(seed, "tree")
    codes = np.zeros((n, height), dtype=np.int64)
    node = np.zeros(n, dtype=np.int64)  # current node of each item
    residual = vectors.astype(np.float32)
    for level in range(height):
        if order == "clustered" and level > 0:
            digits, residual = _shared_split(residual, node, k, k ** (height - level - 1), rng)
        elif level > 0 and level == height - 1:
            digits = _list_order(node)
        else:
            digits, residual = _own_split(residual, node, k, rng)
        codes[:, level] = digits
        node = np.unique(node * k + digits, return_inverse=True)[1]  # renumbered, so that no height overflows
    return codes


def fused_codes(
    vectors: Mapping[str, np.ndarray], levels: Sequence[str], k: int, *, order: str, seed: int
) -> np.ndarray:
    """Codes of one tree whose level `l` is split by the vectors of source `levels[l]`, int64 (n_items, levels), unique
    rows. Each of `vectors` is (n_items, dim); a source that splits several levels continues with the residuals
    of its last one. Below the root, nodes share the centres of a level (`clustered`) or have their own.

    Raises `InputError` as `tree_codes` does.
    """
    residuals = {source: values.astype(np.float32) for source, values in vectors.items()}
    if any(values.ndim != 2 or not np.isfinite(values).all() for values in residuals.values()):
        raise InputError("item vectors hold NaN or infinite values", hint="check the model that made them")
    n = len(next(iter(residuals.values())))
    check_size(n, k, len(levels))
    rng = generator(seed, "tree")
    codes = np.zeros((n, len(levels)), dtype=np.int64)
    node = np.zeros(n, dtype=np.int64)
    for level, source in enumerate(levels):
        if order == "clustered" and level > 0:
            split = _shared_split(residuals[source], node, k, k ** (len(levels) - level - 1), rng)
        else:
            split = _own_split(residuals[source], node, k, rng)
        codes[:, level], residuals[source] = split
        node = np.unique(node * k + codes[:, level], return_inverse=True)[1]
    return codes


def _own_split(
    vectors: np.ndarray, node: np.ndarray, k: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Every node split by its own balanced k-means; returns digits and residuals."""
    digits, residual = np.zeros(len(node), dtype=np.int64), vectors.copy()
    for members in _members(node):
        digit, centres = balanced_kmeans(vectors[members], min(k, len(members)), rng)
        digits[members], residual[members] = digit, vectors[members] - centres[digit]
    return digits, residual


def _shared_split(
    vectors: np.ndarray, node: np.ndarray, k: int, room: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Every node's members given to k centres that all nodes share, to each as many as its subtree holds (`room`)."""
    _, centres = balanced_kmeans(vectors, k, rng)
    distances, digits = squared_distances(vectors, centres), np.zeros(len(node), dtype=np.int64)
    for members in _members(node):
        if room == 1:  # leaves: one item each, minimal sum of distances (Jonker & Volgenant 1987)
            digits[members] = linear_sum_assignment(distances[members])[1]
        else:
            digits[members] = assign_with_sizes(distances[members], np.full(k, room))
    return digits, vectors - centres[digits]


def _list_order(node: np.ndarray) -> np.ndarray:
    """0, 1, 2, … inside each node, by item id."""
    digits = np.zeros(len(node), dtype=np.int64)
    for members in _members(node):
        digits[members] = np.arange(len(members))
    return digits


def _members(node: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(node, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(node[order])) + 1)


def needed_sources(config: IndexConfig) -> tuple[Source, ...]:
    """The sources of item vectors that the codes need."""
    return config.used_sources() if config.kind in ("tree", "rqvae") else ()


def build_index(data: TrainingData, vectors: Vectors, config: IndexConfig, context: RunContext) -> SourceIndex:
    """Codes of the catalogue from `vectors` of `needed_sources`; every kind but `file`."""
    if config.levels is not None:
        return _fused_index(data, vectors, config.levels, config, context)
    k, order = config.tokens_of_level(data.n_items), CanonicalOrder.of((), data.items)
    parts, details = [], []
    for source in config.sources:
        seed = derive_seed(context.seed, "index", source)
        if config.kind == "random":
            digits = random_codes(data.n_items, k, config.height, seed=seed)
        elif config.kind == "tree":
            values = centred(vectors[source].values[order.items])
            mark = fingerprint(VERSION, values, k, config.height, config.order, seed)
            make = partial(tree_codes, values, k, config.height, order=config.order, seed=seed)
            digits = Checkpointer(context.checkpoint, f"index {source}", mark).array(make)
        else:
            rq_codes = rqvae_codes(
                vectors[source].values[order.items], config.height, k, config.rqvae, context, f"rqvae {source}"
            )
            digits = rq_codes.digits
            details.append({"source": source, **rq_codes.record()})
        parts.append(_leaf_tokens(digits, config)[order.item_ranks])
    is_named = config.kind != "random"
    provenances = [vectors[source].provenance for source in needed_sources(config)]
    return SourceIndex(
        table=_joined(parts, k, config),
        blocks=tuple((source if is_named else None, config.height) for source in config.sources),
        provenance=Provenance.joined(VERSION, *provenances),
        details={"kind": config.kind, **({"rqvae": details} if details else {})},
    )


def _fused_index(
    data: TrainingData, vectors: Vectors, levels: tuple[Source, ...], config: IndexConfig, context: RunContext
) -> SourceIndex:
    """Codes of one tree whose levels are split by the sources `levels`, one token each."""
    k, order = config.tokens_of_level(data.n_items), CanonicalOrder.of((), data.items)
    values = {source: centred(vectors[source].values[order.items]) for source in config.used_sources()}
    seed = derive_seed(context.seed, "index", *levels)
    mark = fingerprint(VERSION, *values.values(), k, list(levels), config.order, seed)
    make = partial(fused_codes, values, levels, k, order=config.order, seed=seed)
    digits = Checkpointer(context.checkpoint, "index levels", mark).array(make)
    return SourceIndex(
        table=_joined([_leaf_tokens(digits, config)[order.item_ranks]], k, config),
        blocks=tuple((source, 1) for source in levels),
        provenance=Provenance.joined(VERSION, *(vectors[source].provenance for source in config.used_sources())),
        details={"kind": config.kind, "levels": list(levels)},
    )


def _leaf_tokens(digits: np.ndarray, config: IndexConfig) -> np.ndarray:
    """The codes of a tree, (n_items, levels) in canonical order; with `leaf_tokens=own` an item's last digit is its
    number in that order."""
    if not config.own_leaves:
        return digits
    return np.column_stack([digits[:, :-1], np.arange(len(digits))])


def _joined(parts: Sequence[np.ndarray], k: int, config: IndexConfig) -> CodeTable:
    """The codes of all trees in one table."""
    sizes = [(k,) * (part.shape[1] - 1) + (len(part) if config.own_leaves else k,) for part in parts]
    return CodeTable(np.concatenate(parts, axis=1), tuple(size for tree in sizes for size in tree))


class DualSourceTokenizer(Tokenizer):
    """Codes of item text and of behaviour: balanced trees, random codes of their shape, RQ-VAE codes, or an index file,
    by `index.kind` (default: `kind`)."""

    kind: Literal["tree", "random"] = "tree"
    index: IndexConfig = Field(default=IndexConfig(), validate_default=True)
    semantic: SemanticConfig | None = Field(default=None, description="text vectors; null: the method's")
    behavior: BehaviorConfig | None = Field(default=None, description="behaviour vectors; null: the method's")

    @field_validator("index")
    @classmethod
    def _index_of_this_kind(cls, index: IndexConfig, info: ValidationInfo) -> IndexConfig:
        if "kind" in index.model_fields_set:
            return index
        return IndexConfig(**index.model_dump(exclude_unset=True), kind=info.data["kind"])

    def sources(self) -> tuple[EmbeddingSource, ...]:
        """In a fixed order, independent of the order of tokens."""
        used = needed_sources(self.index)
        text = (TextEmbeddings(self.semantic or SemanticConfig()),) if "semantic" in used else ()
        behavior = (BehaviorEmbeddings(self.behavior or BehaviorConfig()),) if "behavior" in used else ()
        return (*text, *behavior)

    def check(self, data: TrainingData) -> None:
        """Raises `InputError` if the tree does not fit the catalogue."""
        if self.index.kind in ("tree", "random"):
            check_size(data.n_items, self.index.tokens_of_level(data.n_items), self.index.heights[0])

    def make_index(self, data: TrainingData, vectors: Vectors, context: RunContext) -> SourceIndex:
        """Raises `InputError` for an invalid index file, or one made from held-out rows without a declared leak."""
        if self.index.kind == "file":
            path = index_file(self.index.file, data, FILE)
            return SourceIndex.of(ready_index(path, data, declared=bool(self.leaks())), self.index.sources[0])
        return build_index(data, vectors, self.index, context)

    def reads_text(self) -> bool:
        return "semantic" in needed_sources(self.index) and (self.semantic is None or self.semantic.vectors is None)

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        if self.index.kind == "file":
            return (index_file(self.index.file, data, FILE),)
        paths: tuple[Path, ...] = ()
        for source, config in (("semantic", self.semantic), ("behavior", self.behavior)):
            if config is not None and source in needed_sources(self.index):
                paths += given_files(config.vectors, data, config.vectors_rows)
        return paths

    def leaks(self) -> tuple[str, ...]:
        """Behaviour vectors of released windows contain validation items; an index file may be made of them."""
        used = self.index.kind == "file" or "behavior" in needed_sources(self.index)
        return (LEAK,) if used and self.behavior is not None and self.behavior.windows == "released" else ()
