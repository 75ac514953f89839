"""EAGER-LLM as a preset: codes of two sources x a language model x alignment and annealing with a contrastive loss.

Annealing adapter tuning is the second stage: LoRA on the sequential task only, at an annealed learning rate. Global
contrast decompression is InfoNCE between the summary state of a response and the source vectors of its item. The
summary state is the last hidden state at the end of the response. One linear projector a source maps it to the space of
the source, where InfoNCE (van den Oord et al. 2018) compares them:

    L = -log( exp(⟨p, v⁺⟩/τ) / (exp(⟨p, v⁺⟩/τ) + Σ exp(⟨p, v⁻⟩/τ)) ),  all vectors of unit length.

All rows of a step and both sources share one sample of negatives. `mode="clean"`: a row's target is excluded from its
sum, and responses without an item are excluded. `mode="released"`, as in the authors' code: the target is its own
negative if it was sampled (p = negatives / N); all responses are included, but those outside sequential recommendation
have their own projection as positive, a constant, so that they are only pushed away from the negatives; and the state
is scaled to unit length before the projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from eager.config import AnnealingConfig, ContrastConfig, EagerConfig
from eager.memory_estimate import estimate
from harness.core.seeding import derive_seed
from harness.generative.comprehension import CheckpointScores
from harness.generative.models.lora import merge
from harness.generative.recipes import Alignment, InstructionTuning, RecipeInputs
from harness.generative.recommender import LanguageModelRecommender, Method
from harness.generative.sequence_models import LanguageModel
from harness.generative.tasks.batching import Batches
from harness.generative.tokenizers.base import Vectors
from harness.generative.tokenizers.embeddings import Source
from harness.generative.tokenizers.item_graph import ItemWalks
from harness.generative.training.losses import NO_ITEM
from harness.generative.training.stages import StageInputs, run_stage
from harness.protocol.context import RunContext
from harness.protocol.recommender import ModelConfig
from harness.protocol.split import TrainingData


class Contrast(nn.Module):
    """The `AuxiliaryLoss` of EAGER-LLM: a projector for each source, the weighted sum of the sources' terms."""

    weights: dict[Source, float]

    def __init__(self, width: int, vectors: Mapping[Source, np.ndarray], config: ContrastConfig) -> None:
        super().__init__()
        self.config = config
        self.sequential_only = config.mode == "released"  # responses without a target item are included, too
        expected: dict[Source, float] = {"semantic": config.semantic, "behavior": config.behavior}
        self.weights = {source: weight for source, weight in expected.items() if weight and source in vectors}
        self.projectors = nn.ModuleDict()
        for source in self.weights:
            values = torch.tensor(vectors[source], dtype=torch.float32)
            self.projectors[source] = nn.Linear(width, values.shape[1])
            self.register_buffer(f"vectors_{source}", functional.normalize(values, dim=-1), persistent=False)

    def denominator(self, items: np.ndarray) -> int:
        """Number of included responses."""
        return len(items) if self.sequential_only else int((items != NO_ITEM).sum())

    def forward(self, states: torch.Tensor, items: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        """The loss of summary `states` (n, width) of responses naming `items` (n,), or `NO_ITEM`; `samples`
        (negatives,) are items. 0 if none is included."""
        if self.sequential_only:
            states = functional.normalize(states.float(), dim=-1)
        else:
            aimed = items != NO_ITEM
            states, items = states[aimed], items[aimed]
        total = states.new_zeros((), dtype=torch.float32)
        for source, weight in self.weights.items() if len(states) else ():
            vectors = self.get_buffer(f"vectors_{source}")
            projected = functional.normalize(self.projectors[source](states.float()).float(), dim=-1)
            term = info_nce(projected, vectors, items, samples, self.config.temperature, released=self.sequential_only)
            total = total + weight * term
        return total

    def sample_negatives(self, n_items: int, rng: np.random.Generator) -> np.ndarray:
        """Distinct candidate negatives of a step; a row's target among them is excluded from its sum."""
        return rng.choice(n_items, size=min(self.config.negatives, n_items), replace=False)


def info_nce(
    projected: torch.Tensor,
    vectors: torch.Tensor,
    items: torch.Tensor,
    samples: torch.Tensor,
    temperature: float,
    *,
    released: bool = False,
) -> torch.Tensor:
    """Mean InfoNCE; `projected` (n, dim) and `vectors` (n_items, dim) have unit rows. `released`: the released code's,
    with all sampled negatives, and similarity 1 as the positive of rows with `NO_ITEM`."""
    positive = (projected * vectors[items.clamp(min=0)]).sum(-1, keepdim=True)
    negative = projected @ vectors[samples].T
    if released:
        positive = torch.where((items == NO_ITEM)[:, None], torch.ones_like(positive), positive)
    else:
        negative = negative.masked_fill(samples[None] == items[:, None], float("-inf"))
    logits = torch.cat([positive, negative], dim=-1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@dataclass(frozen=True)
class Annealing:
    """LoRA on the projections of attention and MLP, at an annealed rate, on sequential recommendation only. The
    adapter is merged into the backbone at the end, or with `merge=false` stays on it."""

    config: AnnealingConfig
    name: ClassVar[str] = "annealing"
    checkpoint: ClassVar[CheckpointScores] = "annealed"

    def run(self, inputs: StageInputs, context: RunContext) -> dict[str, Any] | None:
        """The report of `run_stage`; None if `enabled` is false."""
        config = self.config
        if not config.enabled:
            return None
        window, stream = inputs.config.tasks.window, (context.seed, self.name)
        batches = Batches(inputs.data.sequences, window, config, {"seqrec": 1.0}, stream)
        inputs = inputs if config.contrast else replace(inputs, term=None)
        report = run_stage(self.name, config, batches, inputs, context)
        if config.merge:
            merge(inputs.model.body)
        return report


class EagerLLM(LanguageModelRecommender[EagerConfig]):
    """EAGER-LLM (arXiv 2502.14735). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = EagerConfig
    code_version: ClassVar[int] = 6

    def compose(self) -> Method:
        config = self.config
        model = LanguageModel(config.backbone, config.tasks.text_tokens)
        recipe = InstructionTuning(
            model, config, (Alignment(), Annealing(config.annealing)), self._contrast, self._walks
        )
        return Method(config.item_tokenizer(), model, recipe, config.decode, config.extra_sources())

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
