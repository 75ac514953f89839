"""`LCRec`: what the method is besides an instruction-tuned recommender: RQ-VAE codes of item text, and nothing more.

text vectors → RQ-VAE codes → a language model with code tokens → alignment on all tasks → constrained search.

LC-Rec's configuration: what it has from `InstructConfig`, its item codes, and what each profile changes.

Profiles `smoke`, `gpu` and `paper` give LC-Rec the backbone, the task mix and the optimiser steps that they give
EAGER-LLM, annealing counted in (docs/lcrec.md); profile `cpu` has two layers of SmolLM2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.core.artifact_cache import CacheEntry
from harness.core.config_files import ReadyIndex, UserFile
from harness.data.dataset import CanonicalOrder
from harness.generative.config import (
    CPU,
    PAPER,
    SMOKE,
    InstructConfig,
    Section,
    SemanticConfig,
    StageConfig,
    with_settings,
)
from harness.generative.item_codes import CodeTable
from harness.generative.recommender import InstructRecommender
from harness.generative.tokenizers.embeddings import ItemVectors
from harness.generative.tokenizers.index import ItemIndex, SourceIndex, Vectors, index_file, ready_index
from harness.generative.tokenizers.rqvae import RQVAEConfig, rqvae_codes
from harness.generative.tokenizers.text_embeddings import semantic_artefacts, semantic_vectors
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.recommender import ModelConfig
from harness.protocol.split import TrainingData

FILE = "lcrec.index.file"


class TextConfig(SemanticConfig):
    """Item text to vectors: of title and description alone."""

    fields: tuple[Literal["title", "description", "brand", "categories"], ...] = Field(
        default=("title", "description"), min_length=1, description="each encoded apart, then averaged"
    )


class QuantiserConfig(RQVAEConfig):
    """The RQ-VAE, with LC-Rec's rounds for items that share a code."""

    separate: Literal["assignment", "sinkhorn", "none"] = Field(
        default="sinkhorn",
        description="of items that share a code: LC-Rec's rounds; all but one take free codes of the prefix; nothing",
    )


class IndexConfig(Section, ReadyIndex):
    """Vectors to item codes."""

    kind: Literal["rqvae", "file"] = Field(default="rqvae", description="RQ-VAE codes; a ready index file")
    levels: int = Field(default=4, ge=1, le=8, description="tokens of a code")
    k: int = Field(default=256, ge=2, description="tokens of a level")
    file: UserFile | None = Field(
        default=None, description="kind=file: the index file; null: NAME.index.json in the data set's folder"
    )
    rqvae: QuantiserConfig = QuantiserConfig()


class TuningConfig(StageConfig):
    """The one stage."""

    epochs: float = Field(default=4, gt=0, description="passes over all sequence targets")


class LCRecConfig(InstructConfig):
    """The whole method."""

    semantic: TextConfig = TextConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    index: IndexConfig = IndexConfig()
    tuning: TuningConfig = TuningConfig()  # pyright: ignore[reportIncompatibleVariableOverride]

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": with_settings(
            SMOKE,
            index={"k": 32, "rqvae": {"hidden": (64,), "latent": 16, "epochs": 30}},
            tuning={"max_steps": 220},
        ),
        "cpu": with_settings(CPU, tuning={"max_steps": 1900}),
        "gpu": {},
        "paper": with_settings(
            PAPER,
            index={
                "rqvae": {
                    "hidden": (2048, 1024, 512, 256, 128, 64), "epochs": 10_000, "warmup": 0.005, "revive": False,
                },
            },
            tasks={"caps": {"fusionseqrec": 20_000}},  # Instruments; Arts 30,000, Games 100,000
            tuning={"epochs": 4},
        ),
    }  # fmt: skip

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """A ready index besides, where one is used."""
        paths = super().files(data)
        return (*paths, index_file(self.index.file, data, FILE)) if self.index.kind == "file" else paths


INDEX_VERSION = "lcrec-index/1"


class LCRec(InstructRecommender[LCRecConfig]):
    """LC-Rec (Zheng et al., ICDE 2024, arXiv 2311.09049). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = LCRecConfig
    code_version: ClassVar[int] = 2

    def artefacts(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        cache_entries = super().artefacts(data, context)
        if self.config.index.kind == "file" and self.config.backbone.codes != "centroid":
            return cache_entries
        return (*cache_entries, *semantic_artefacts(data, self.config.semantic, context))

    def _index(self, data: TrainingData, context: RunContext) -> tuple[Vectors, SourceIndex]:
        config = self.config
        ready = None
        if config.index.kind == "file":
            ready = ready_index(index_file(config.index.file, data, FILE), data, declared=False)
        vectors: Vectors = {}
        if ready is None or config.backbone.codes == "centroid":
            vectors = {"semantic": semantic_vectors(data, config.semantic, context)}
        item_index = ready or rqvae_index(data, vectors["semantic"], config.index, context)
        return vectors, SourceIndex.of(item_index, "semantic")


def rqvae_index(data: TrainingData, vectors: ItemVectors, config: IndexConfig, context: RunContext) -> ItemIndex:
    """RQ-VAE codes of `vectors`. Items are numbered by their raw ids while codes are made, so that equal vectors give
    equal codes in whatever order a source lists its items. Items that share a code in the end are counted."""
    order = CanonicalOrder.of((), data.items)
    rq_codes = rqvae_codes(vectors.values[order.items], config.levels, config.k, config.rqvae, context)
    table = CodeTable(rq_codes.digits[order.item_ranks], (config.k,) * config.levels)
    provenance = Provenance.joined(INDEX_VERSION, vectors.provenance)
    return ItemIndex(table=table, provenance=provenance, details={"kind": "rqvae", "rqvae": rq_codes.record()})
