"""LC-Rec as a preset: RQ-VAE codes of item text x a language model x alignment on all tasks; and MiniOneRec's
supervised fine-tuning as a preset of it: codes by residual k-means, a higher rate, more text.

Profiles `smoke`, `gpu` and `paper` give LC-Rec the backbone, the task mix and the optimiser steps that they give
EAGER-LLM, annealing included (docs/lcrec.md); profile `cpu` has two layers of SmolLM2. In MiniOneRec about 45% of the
samples of a pass are next items by codes alone, as many join titles and codes over a history, and the rest are pairs of
an item's code and text (of the released training data: 45%, 45%, 9%). Reinforcement learning, its second stage, is off
by default (`grpo.enabled`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from harness.core.config_files import ReadyIndex
from harness.errors import InputError
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
from harness.generative.grpo import GRPO, GRPOConfig
from harness.generative.recipes import Alignment, InstructionTuning
from harness.generative.recommender import LanguageModelRecommender, Method
from harness.generative.sequence_models import LanguageModel
from harness.generative.tokenizers.base import RQVAETokenizer, TokenizedConfig, Tokenizer
from harness.generative.tokenizers.embeddings import TextEmbeddings
from harness.generative.tokenizers.kmeans import RQKMeansTokenizer
from harness.generative.tokenizers.rqvae import RQVAEConfig
from harness.protocol.context import RunContext
from harness.protocol.recommender import ModelConfig
from harness.protocol.split import TrainingData


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
    rqvae: QuantiserConfig = QuantiserConfig()


class TuningConfig(StageConfig):
    """The one stage."""

    epochs: float = Field(default=4, gt=0, description="passes over all sequence targets")


class LCRecConfig(TokenizedConfig, InstructConfig):
    """The whole method."""

    section: ClassVar[str] = "lcrec"

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

    def own_tokenizer(self) -> Tokenizer:
        index = self.index
        return RQVAETokenizer(levels=index.levels, size=index.k, rqvae=index.rqvae, semantic=self.semantic)


class LCRec(LanguageModelRecommender[LCRecConfig]):
    """LC-Rec (Zheng et al., ICDE 2024, arXiv 2311.09049). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = LCRecConfig
    code_version: ClassVar[int] = 2

    def compose(self) -> Method:
        config = self.config
        model = LanguageModel(config.backbone, config.tasks.text_tokens)
        embeddings = (TextEmbeddings(config.semantic),) if config.backbone.codes == "centroid" else ()
        return Method(config.item_tokenizer(), model, InstructionTuning(model, config), config.decode, embeddings)


class MiniOneRecIndexConfig(Section, ReadyIndex):
    """Vectors to item codes."""

    kind: Literal["rqkmeans", "file"] = Field(default="rqkmeans", description="residual k-means; a ready index file")
    levels: int = Field(default=3, ge=1, le=8, description="tokens of a code")
    k: int = Field(default=256, ge=2, description="tokens of a level")
    balanced: bool = Field(default=False, description="clusters of a level differ in size by at most one")


# A sample of fusionseqrec for each next item: that task has two, titles to code and codes to title.
TASKS: dict[str, Any] = {
    "mixing": "samples", "item2index": 0.5, "index2item": 1.0, "fusionseqrec": 0.5, "itemsearch": 0.0,
    "preferenceobtain": 0.0, "held_out": 0.0,
}  # fmt: skip


class MiniOneRecConfig(LCRecConfig):
    """The whole method. The rate of fine-tuning is 3e-4 in every profile but `smoke`."""

    section: ClassVar[str] = "minionerec"

    index: MiniOneRecIndexConfig = MiniOneRecIndexConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    grpo: GRPOConfig = Field(default=GRPOConfig(), exclude_if=lambda grpo: not grpo.enabled)  # older runs' keys stay

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": with_settings(
            SMOKE,
            index={"k": 8},
            tasks={"itemsearch": 0.0, "preferenceobtain": 0.0},
            tuning={"max_steps": 220},
            grpo={"max_steps": 20, "targets": 16, "group": 8, "learning_rate": 1e-3, "code_rate": 1e-3},
        ),
        "cpu": with_settings(
            CPU,
            tasks={**TASKS, "templates": 1, "titles": 6},
            tuning={"max_steps": 1900, "learning_rate": 3e-4},
            grpo={"max_steps": 300, "targets": 32, "learning_rate": 1e-4, "code_rate": 3e-4},
        ),
        "gpu": {
            "tasks": TASKS,
            "tuning": {"epochs": 2, "targets": 64, "rows": 64, "learning_rate": 3e-4, "code_rate": 3e-4},
        },
    }

    def own_tokenizer(self) -> Tokenizer:
        index = self.index
        return RQKMeansTokenizer(
            levels=index.levels, size=index.k, balanced=index.balanced, stream="minionerec", semantic=self.semantic
        )

    @field_validator("grpo")
    @classmethod
    def _default_where_off(cls, grpo: GRPOConfig) -> GRPOConfig:
        """A stored configuration leaves the section out: it stands for the same when it is read again."""
        return grpo if grpo.enabled else GRPOConfig()

    def stages(self) -> dict[str, StageConfig]:
        return super().stages() | ({"grpo": self.grpo} if self.grpo.enabled else {})


class MiniOneRec(LCRec):
    """MiniOneRec (arXiv 2510.24431): supervised fine-tuning, and on demand GRPO. Needs item text."""

    config: MiniOneRecConfig
    config_class: ClassVar[type[ModelConfig]] = MiniOneRecConfig
    code_version: ClassVar[int] = 1

    def compose(self) -> Method:
        method, grpo = super().compose(), self.config.grpo
        if not grpo.enabled:
            return method
        assert isinstance(method.model, LanguageModel)
        stages = (Alignment(), GRPO(grpo))
        return replace(method, recipe=InstructionTuning(method.model, self.config, stages))

    def _fit(self, data: TrainingData, context: RunContext) -> None:
        if self.config.grpo.enabled and context.world.size > 1:
            message = f"the stage runs in one process, not in {context.world.size}"
            raise InputError(message, where="minionerec.grpo", hint="set minionerec.grpo.enabled=false, or one process")
        super()._fit(data, context)
