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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator
from scipy.optimize import linear_sum_assignment

from eager.behavior_encoder import BehaviorEmbeddings
from eager.behavior_models import LEAK, BehaviorConfig
from harness.core.config_files import ReadyIndex
from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed, generator
from harness.data.dataset import CanonicalOrder
from harness.errors import InputError
from harness.generative.config import Section, SemanticConfig
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.base import ItemIndex, Tokenizer, Vectors, centred, index_file, ready_index
from harness.generative.tokenizers.embeddings import EmbeddingSource, TextEmbeddings, check_finite
from harness.generative.tokenizers.kmeans import assign_with_sizes, balanced_kmeans, squared_distances
from harness.generative.tokenizers.rqvae import RQVAEConfig, rqvae_codes
from harness.generative.training.checkpoint import Checkpointer
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

VERSION, FILE = "index/2", "eager.index.file"
PAPER_K = 256  # tokens of a level, in the paper's trees and in RQ-VAE codes
Source = Literal["semantic", "behavior"]


def smallest_k(n_items: int, height: int) -> int:
    """The smallest k with k^height >= n_items (at least 2).

    >>> smallest_k(1682, 2), smallest_k(9922, 2), smallest_k(8, 3)
    (42, 100, 2)
    """
    k = max(2, round(n_items ** (1 / height)) - 1)
    while k**height < n_items:
        k += 1
    return k


class IndexConfig(Section, ReadyIndex):
    """Vectors to item codes: one tree (or RQ-VAE) a source, the codes joined in the order of `sources`."""

    kind: Literal["tree", "random", "rqvae", "file"] = Field(
        default="tree", description="balanced trees; random codes of the same shape; RQ-VAE codes; an index file"
    )
    sources: tuple[Source, ...] = Field(
        default=("semantic", "behavior"), min_length=1, description="one or both, in the order of their tokens"
    )
    levels: tuple[Source, ...] | None = Field(
        default=None,
        min_length=2,
        max_length=8,
        description="kind=tree: one tree instead of one a source; these sources split its levels in turn, one token a "
        "level, so that all of them decide a short code; null: a tree a source",
    )
    k: int | None = Field(
        default=None,
        ge=2,
        description="tokens of a level; null: the smallest that fits the catalogue (tree, random), with "
        "leaf_tokens=own 256 or, if that is less, a quarter of the items, where they fit; 256 (rqvae)",
    )
    height: int = Field(default=2, ge=1, le=8, description="levels of a source's tree, tokens of a source")
    order: Literal["clustered", "released"] = Field(
        default="clustered",
        description="numbering below the first level: by shared residual centres, or arbitrary as released",
    )
    leaf_tokens: Literal["shared", "own"] = Field(
        default="shared",
        exclude_if=lambda value: value == "shared",  # the keys of older runs stay
        description="kind=tree, random: tokens of a tree's last level; shared: `k`, the same under all parents; own: "
        "one for each item",
    )
    rqvae: RQVAEConfig = RQVAEConfig()

    @model_validator(mode="after")
    def _levels_are_of_a_tree(self) -> IndexConfig:
        if self.levels is not None and self.kind != "tree":
            raise ValueError(f"index.levels is for index.kind=tree, not {self.kind}")
        return self

    @property
    def own_leaves(self) -> bool:
        """Whether the last level of each tree has a token for each item."""
        return self.leaf_tokens == "own" and self.kind in ("tree", "random")

    @property
    def heights(self) -> tuple[int, ...]:
        """Levels of each tree, in the order of the tokens."""
        return (self.height,) * len(self.sources) if self.levels is None else (len(self.levels),)

    def tokens_of_level(self, n_items: int) -> int:
        """Tokens of a level for this catalogue; the last level has others with own leaf tokens."""
        if self.k is not None or self.kind == "rqvae":
            return self.k or PAPER_K
        smallest = smallest_k(n_items, self.heights[0])
        return max(smallest, min(PAPER_K, n_items // 4)) if self.own_leaves else smallest

    def needed_sources(self) -> tuple[Source, ...]:
        """The sources of item vectors that the codes need, without repeats, in the order of their tokens."""
        if self.kind not in ("tree", "rqvae"):
            return ()
        return self.sources if self.levels is None else tuple(dict.fromkeys(self.levels))


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
    """`fused_codes` of one source, `vectors` (n_items, dim), by a tree of `height` levels."""
    return fused_codes({"": vectors}, ("",) * height, k, order=order, seed=seed)


def fused_codes(
    vectors: Mapping[str, np.ndarray], levels: Sequence[str], k: int, *, order: str, seed: int
) -> np.ndarray:
    """Codes of all items, int64 (n_items, levels), digits in 0..k-1, unique rows, by a tree whose level `l` is split by
    the vectors of source `levels[l]`. Each of `vectors` is (n_items, dim); a source that splits several levels
    continues with the residuals of its last one. `order`: below the root, nodes share the centres of a level
    (`clustered`) or have their own (`own`); `released`: the latter, and the last level numbers items in their order.

    Raises `InputError` for vectors that are not finite and for a tree too small for the items.
    """
    residuals = {source: values.astype(np.float32) for source, values in vectors.items()}
    for values in residuals.values():
        check_finite(values, "item vectors")
    n, last = len(next(iter(residuals.values()))), len(levels) - 1
    check_size(n, k, len(levels))
    rng = generator(seed, "tree")
    codes = np.zeros((n, len(levels)), dtype=np.int64)
    node = np.zeros(n, dtype=np.int64)  # current node of each item
    for level, source in enumerate(levels):
        if order == "clustered" and level > 0:
            split = _shared_split(residuals[source], node, k, k ** (last - level), rng)
        elif order == "released" and level == last > 0:
            split = _list_order(node), residuals[source]
        else:
            split = _own_split(residuals[source], node, k, rng)
        codes[:, level], residuals[source] = split
        node = np.unique(node * k + codes[:, level], return_inverse=True)[1]  # renumbered, so that no height overflows
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


def build_index(data: TrainingData, vectors: Vectors, config: IndexConfig, context: RunContext) -> ItemIndex:
    """Codes of the catalogue from `vectors` of `needed_sources`; every kind but `file`. With `levels` one tree, whose
    levels are split by these sources; else a tree a source."""
    k, order = config.tokens_of_level(data.n_items), CanonicalOrder.of((), data.items)
    sources = config.needed_sources()
    values: dict[Source, np.ndarray] = {source: vectors[source].values[order.items] for source in sources}
    parts, details = [], {}
    if config.levels is not None:
        seed = derive_seed(context.seed, "index", *config.levels)
        directions = {source: centred(vectors_of_source) for source, vectors_of_source in values.items()}
        mark = fingerprint(VERSION, *directions.values(), k, list(config.levels), config.order, seed)
        leaf_order = "clustered" if config.order == "clustered" else "own"
        make = partial(fused_codes, directions, config.levels, k, order=leaf_order, seed=seed)
        parts.append(Checkpointer(context.checkpoint, "index levels", mark).array(make))
        details["levels"] = list(config.levels)
    for source in config.sources if config.levels is None else ():
        seed = derive_seed(context.seed, "index", source)
        if config.kind == "random":
            digits = random_codes(data.n_items, k, config.height, seed=seed)
        elif config.kind == "tree":
            direction = centred(values[source])
            mark = fingerprint(VERSION, direction, k, config.height, config.order, seed)
            make = partial(tree_codes, direction, k, config.height, order=config.order, seed=seed)
            digits = Checkpointer(context.checkpoint, f"index {source}", mark).array(make)
        else:
            codes = rqvae_codes(values[source], config.height, k, config.rqvae, context, f"rqvae {source}")
            digits = codes.digits
            details.setdefault("rqvae", []).append({"source": source, **codes.record()})
        parts.append(digits)
    blocks: list[tuple[Source | None, int]] = [(source, 1) for source in config.levels or ()]
    if config.levels is None:
        blocks = [(None if config.kind == "random" else source, config.height) for source in config.sources]
    if config.own_leaves:  # the last digit of an item is its number in canonical order
        parts = [np.column_stack([digits[:, :-1], np.arange(len(digits))]) for digits in parts]
    leaves = data.n_items if config.own_leaves else k
    sizes = [size for digits in parts for size in (*(k,) * (digits.shape[1] - 1), leaves)]
    return ItemIndex(
        table=CodeTable(np.concatenate(parts, axis=1)[order.item_ranks], tuple(sizes)),
        blocks=tuple(blocks),
        provenance=Provenance.joined(VERSION, *(vectors[source].provenance for source in sources)),
        details={"kind": config.kind, **details},
    )


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
        sources = self.index.needed_sources()
        text = (TextEmbeddings(self.semantic or SemanticConfig()),) if "semantic" in sources else ()
        behavior = (BehaviorEmbeddings(self.behavior or BehaviorConfig()),) if "behavior" in sources else ()
        return (*text, *behavior)

    def check(self, data: TrainingData) -> None:
        """Raises `InputError` if the tree does not fit the catalogue."""
        if self.index.kind in ("tree", "random"):
            check_size(data.n_items, self.index.tokens_of_level(data.n_items), self.index.heights[0])

    def make_index(self, data: TrainingData, vectors: Vectors, context: RunContext) -> ItemIndex:
        """Raises `InputError` for an invalid index file, or one made from held-out rows without a declared leak."""
        if self.index.kind == "file":
            path = index_file(self.index.file, data, FILE)
            index = ready_index(path, data, declared=bool(self.leaks()))
            return replace(index, blocks=((self.index.sources[0], index.table.levels),))
        return build_index(data, vectors, self.index, context)

    def reads_text(self) -> bool:
        return "semantic" in self.index.needed_sources() and (self.semantic is None or self.semantic.vectors is None)

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        if self.index.kind == "file":
            return (index_file(self.index.file, data, FILE),)
        paths: tuple[Path, ...] = ()
        for source, config in (("semantic", self.semantic), ("behavior", self.behavior)):
            if config is not None and source in self.index.needed_sources():
                paths += config.files(data)
        return paths

    def leaks(self) -> tuple[str, ...]:
        """Behaviour vectors of released windows contain validation items; an index file may be made of them."""
        reads_behavior = self.index.kind == "file" or "behavior" in self.index.needed_sources()
        return (LEAK,) if reads_behavior and self.behavior is not None and self.behavior.windows == "released" else ()
