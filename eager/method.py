"""`EagerLLM`: what the method adds to an instruction-tuned recommender: item codes of two sources, the contrast, and
the annealing stage.

vectors of two sources → item codes → a language model with code tokens → alignment → annealing → constrained search.

Annealing adapter tuning, the second stage: LoRA on the sequential task alone, at an annealed rate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from eager.behavior_encoder import behavior_artefacts, behavior_vectors
from eager.config import AnnealingConfig, EagerConfig
from eager.contrastive_loss import Contrast
from eager.memory_estimate import estimate
from eager.tree_tokenizer import build_index, check_index, needed_sources
from harness.core.artifact_cache import CacheEntry
from harness.core.seeding import derive_seed
from harness.data.dataset import require_text
from harness.generative.comprehension import Comprehension
from harness.generative.models.lora import merge
from harness.generative.recommender import InstructRecommender
from harness.generative.tasks.batching import Tasks
from harness.generative.tokenizers.embeddings import ItemVectors, Source
from harness.generative.tokenizers.index import SourceIndex, Vectors
from harness.generative.tokenizers.text_embeddings import semantic_artefacts, semantic_vectors
from harness.generative.training.stages import StageInputs, run_stage
from harness.protocol.context import RunContext
from harness.protocol.recommender import ModelConfig
from harness.protocol.split import TrainingData


def annealing(tuned: StageInputs, config: AnnealingConfig, context: RunContext) -> dict[str, Any]:
    """LoRA on the projections of attention and MLP, at an annealed rate, on sequential recommendation alone. The
    adapter is merged into the backbone at the end, or with `merge=false` stays on it. Gives what `run_stage` does."""
    tasks = Tasks.sequential(tuned.data.sequences, config, tuned.config.tasks, (context.seed, "annealing"))
    stage_inputs = tuned if config.contrast else replace(tuned, term=None)
    report = run_stage("annealing", config, tasks, stage_inputs, context)
    if config.merge:
        merge(tuned.model.body)
    return report


class EagerLLM(InstructRecommender[EagerConfig]):
    """EAGER-LLM (arXiv 2502.14735). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = EagerConfig
    code_version: ClassVar[int] = 4

    def estimate(self, data: TrainingData | None, device: str) -> dict[str, Any]:
        return estimate(self.config, data, device)

    def item_codes(self, data: TrainingData, context: RunContext) -> SourceIndex:
        return self._index(data, context, contrast=False)[1]

    def artefacts(self, data: TrainingData, context: RunContext) -> tuple[CacheEntry, ...]:
        config = self.config
        cache_entries = super().artefacts(data, context)
        if "semantic" in config.sources():
            cache_entries += semantic_artefacts(data, config.semantic, context)
        if "behavior" in config.sources():
            cache_entries += behavior_artefacts(data, config.behavior, context)
        return cache_entries

    def _index(self, data: TrainingData, context: RunContext, *, contrast: bool = True) -> tuple[Vectors, SourceIndex]:
        config, declared = self.config, bool(self.config.leaks())
        ready = check_index(data, config.index, declared=declared)
        used = config.sources() if contrast else needed_sources(config.index)
        vectors: dict[Source, ItemVectors] = {}
        if "semantic" in used:
            if config.semantic.vectors is None:
                require_text(data.text, data.items, location=data.dataset)
            vectors["semantic"] = semantic_vectors(data, config.semantic, context)
        if "behavior" in used:
            vectors["behavior"] = behavior_vectors(data, config.behavior, context)
        return vectors, ready or build_index(data, vectors, config.index, context)

    def _term(self, vectors: Vectors, context: RunContext) -> Contrast | None:
        config = self.config.contrast
        if not (config.semantic or config.behavior):
            return None
        torch.manual_seed(derive_seed(context.seed, "projectors"))
        values: dict[Source, np.ndarray] = {source: item_vectors.values for source, item_vectors in vectors.items()}
        return Contrast(self.model.code_in.shape[1], values, config).to(context.device)

    def _later_stages(self, tuned: StageInputs, exam: Comprehension, context: RunContext) -> dict[str, Any]:
        if not self.config.annealing.enabled:
            return {"annealing": None}
        report = annealing(tuned, self.config.annealing, context)
        exam.measure("annealed", context)
        return {"annealing": report}
