"""EAGER-LLM as a preset: codes of two sources x a language model x alignment and annealing with a contrastive loss.

Annealing adapter tuning is the second stage: LoRA on the sequential task only, at an annealed learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from eager.config import AnnealingConfig, EagerConfig
from eager.contrastive_loss import Contrast
from eager.memory_estimate import estimate
from harness.core.seeding import derive_seed
from harness.generative.comprehension import CheckpointScores
from harness.generative.models.lora import merge
from harness.generative.recipes import Alignment, InstructionTuning, RecipeInputs
from harness.generative.recommender import LanguageModelRecommender, Method
from harness.generative.sequence_models import LanguageModel
from harness.generative.tasks.batching import Tasks
from harness.generative.tokenizers.embeddings import Source
from harness.generative.tokenizers.index import Vectors
from harness.generative.tokenizers.item_graph import ItemWalks
from harness.generative.training.stages import StageInputs, run_stage
from harness.protocol.context import RunContext
from harness.protocol.recommender import ModelConfig
from harness.protocol.split import TrainingData


@dataclass(frozen=True)
class Annealing:
    """LoRA on the projections of attention and MLP, at an annealed rate, on sequential recommendation only. The
    adapter is merged into the backbone at the end, or with `merge=false` stays on it."""

    config: AnnealingConfig
    name: str = "annealing"
    checkpoint: CheckpointScores = "annealed"

    def run(self, inputs: StageInputs, context: RunContext) -> dict[str, Any] | None:
        """The report of `run_stage`; None if `enabled` is false."""
        config = self.config
        if not config.enabled:
            return None
        tasks = Tasks.sequential(inputs.data.sequences, config, inputs.config.tasks, (context.seed, self.name))
        report = run_stage(self.name, config, tasks, inputs if config.contrast else replace(inputs, term=None), context)
        if config.merge:
            merge(inputs.model.body)
        return report


class EagerLLM(LanguageModelRecommender[EagerConfig]):
    """EAGER-LLM (arXiv 2502.14735). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = EagerConfig
    code_version: ClassVar[int] = 5

    def compose(self) -> Method:
        config = self.config
        model = LanguageModel(config.backbone, config.tasks.text_tokens)
        recipe = InstructionTuning(
            model, config, (Alignment(), Annealing(config.annealing)), self._contrast, self._walks
        )
        return Method(
            config.item_tokenizer(),
            model,
            recipe,
            config.decode,
            config.extra_sources(),
        )

    def estimate(self, data: TrainingData | None, device: str) -> dict[str, Any]:
        return estimate(self.config, data, device)

    def _walks(self, inputs: RecipeInputs) -> ItemWalks | None:
        """Random walks on the graph of the behaviour encoder and between similar texts; None if there are none."""
        walks = self.config.walks
        if not walks.share:
            return None
        vectors = inputs.vectors["semantic"].values
        return ItemWalks(list(inputs.data.sequences), vectors, self.config.behavior.graph, walks.share, walks.text)

    def _contrast(self, model: LanguageModel, vectors: Vectors, context: RunContext) -> Contrast | None:
        """The contrastive loss; None if both weights are zero."""
        config = self.config.contrast
        if not (config.semantic or config.behavior):
            return None
        torch.manual_seed(derive_seed(context.seed, "projectors"))
        values: dict[Source, np.ndarray] = {source: item_vectors.values for source, item_vectors in vectors.items()}
        return Contrast(model.network.code_in.shape[1], values, config).to(context.device)
