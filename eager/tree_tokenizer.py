"""Item codes by `eager.index.kind`: dual-source balanced trees (the method), or what they are compared with.

Items are numbered by their raw ids while codes are made, so that equal vectors give equal codes in whatever order a
source lists its items.
"""

from __future__ import annotations

from functools import partial

from eager.index_config import RQVAE_K, IndexConfig
from eager.tree import check_size, fused_codes, random_codes, smallest_k, tree_codes
from harness.core.hashing import fingerprint
from harness.core.seeding import derive_seed
from harness.data.dataset import Canonical
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.code_embedding_init import SourceIndex, Vectors, centred
from harness.generative.tokenizers.embeddings import Source
from harness.generative.tokenizers.index import index_file, ready_index
from harness.generative.tokenizers.rqvae import rqvae_codes
from harness.generative.training.snapshots import kept_array
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

VERSION, FILE = "index/2", "eager.index.file"


def needed_sources(config: IndexConfig) -> tuple[Source, ...]:
    """The sources whose vectors the codes are made of."""
    return config.used_sources() if config.kind in ("tree", "rqvae") else ()


def check_index(data: TrainingData, config: IndexConfig, *, declared: bool) -> SourceIndex | None:
    """What can be known to be wrong before anything is trained; gives the index where it is ready-made.

    Raises `InputError` for a tree that does not fit the catalogue, and for an index file that is wrong or that saw
    held-out rows (unless that leak is `declared`).
    """
    if config.kind == "file":
        ready = ready_index(index_file(config.file, data, FILE), data, declared=declared)
        return SourceIndex.of(ready, config.sources[0])
    if config.kind != "rqvae":
        check_size(data.n_items, _k(data, config), _height(config))
    return None


def build_index(data: TrainingData, vectors: Vectors, config: IndexConfig, context: RunContext) -> SourceIndex:
    """Codes of the catalogue from `vectors` of `needed_sources`; every kind but `file`."""
    if config.levels is not None:
        return _fused_index(data, vectors, config.levels, config, context)
    k, order = _k(data, config), Canonical.of((), data.items)
    parts, details = [], []
    for source in config.sources:
        seed = derive_seed(context.seed, "index", source)
        if config.kind == "random":
            digits = random_codes(data.n_items, k, config.height, seed=seed)
        elif config.kind == "tree":
            values = centred(vectors[source].values[order.items])
            mark = fingerprint(VERSION, values, k, config.height, config.order, seed)
            make = partial(tree_codes, values, k, config.height, order=config.order, seed=seed)
            digits = kept_array(context.checkpoint, f"index {source}", mark, make)
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


def _fused_index(
    data: TrainingData, vectors: Vectors, levels: tuple[Source, ...], config: IndexConfig, context: RunContext
) -> SourceIndex:
    """Codes of one tree whose levels are split by the sources `levels`, one token each."""
    k, order = _k(data, config), Canonical.of((), data.items)
    values = {source: centred(vectors[source].values[order.items]) for source in config.used_sources()}
    seed = derive_seed(context.seed, "index", *levels)
    mark = fingerprint(VERSION, *values.values(), k, list(levels), config.order, seed)
    make = partial(fused_codes, values, levels, k, order=config.order, seed=seed)
    digits = kept_array(context.checkpoint, "index levels", mark, make)
    return SourceIndex(
        table=CodeTable.joined([digits[order.item_ranks]], k),
        blocks=tuple((source, 1) for source in levels),
        provenance=Provenance.joined(VERSION, *(vectors[source].provenance for source in config.used_sources())),
        details={"kind": config.kind, "levels": list(levels)},
    )


def _k(data: TrainingData, config: IndexConfig) -> int:
    return config.k or (RQVAE_K if config.kind == "rqvae" else smallest_k(data.n_items, _height(config)))


def _height(config: IndexConfig) -> int:
    return config.height if config.levels is None else len(config.levels)
