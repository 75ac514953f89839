"""`LCRec`: what the method is besides an instruction-tuned recommender: RQ-VAE codes of item text, and nothing more.

text vectors → RQ-VAE codes → a language model with code tokens → alignment on all tasks → constrained search.
"""

from __future__ import annotations

from typing import ClassVar

from baselines.lcrec.config import FILE, IndexConfig, LCRecConfig
from harness.core.artifact_cache import Artefact
from harness.data.dataset import Canonical
from harness.generative.item_codes import CodeTable
from harness.generative.recommender import InstructRecommender
from harness.generative.tokenizers.code_embedding_init import SourceIndex, Vectors
from harness.generative.tokenizers.embeddings import ItemVectors
from harness.generative.tokenizers.index import ItemIndex, index_file, ready_index
from harness.generative.tokenizers.rqvae import rqvae_codes
from harness.generative.tokenizers.text_embeddings import semantic_artefacts, semantic_vectors
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.recommender import ModelConfig
from harness.protocol.split import TrainingData

INDEX_VERSION = "lcrec-index/1"


class LCRec(InstructRecommender[LCRecConfig]):
    """LC-Rec (Zheng et al., ICDE 2024, arXiv 2311.09049). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = LCRecConfig
    code_version: ClassVar[int] = 2

    def artefacts(self, data: TrainingData, context: RunContext) -> tuple[Artefact, ...]:
        found = super().artefacts(data, context)
        if self.config.index.kind == "file" and self.config.backbone.codes != "centroid":
            return found
        return (*found, *semantic_artefacts(data, self.config.semantic, context))

    def _index(self, data: TrainingData, context: RunContext) -> tuple[Vectors, SourceIndex]:
        config = self.config
        ready = None
        if config.index.kind == "file":
            ready = ready_index(index_file(config.index.file, data, FILE), data, declared=False)
        vectors: Vectors = {}
        if ready is None or config.backbone.codes == "centroid":
            vectors = {"semantic": semantic_vectors(data, config.semantic, context)}
        made = ready or rqvae_index(data, vectors["semantic"], config.index, context)
        return vectors, SourceIndex.of(made, "semantic")


def rqvae_index(data: TrainingData, vectors: ItemVectors, config: IndexConfig, context: RunContext) -> ItemIndex:
    """RQ-VAE codes of `vectors`. Items are numbered by their raw ids while codes are made, so that equal vectors give
    equal codes in whatever order a source lists its items. Items that share a code in the end are counted."""
    order = Canonical.of((), data.items)
    made = rqvae_codes(vectors.values[order.items], config.levels, config.k, config.rqvae, context)
    table = CodeTable(made.digits[order.item_ranks], (config.k,) * config.levels)
    provenance = Provenance.joined(INDEX_VERSION, vectors.provenance)
    return ItemIndex(table=table, provenance=provenance, details={"kind": "rqvae", "rqvae": made.record()})
