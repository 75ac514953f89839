"""LC-Rec as a preset: RQ-VAE codes of item text x a language model x alignment on all tasks.

Profiles `smoke`, `gpu` and `paper` give LC-Rec the backbone, the task mix and the optimiser steps that they give
EAGER-LLM, annealing included (docs/lcrec.md); profile `cpu` has two layers of SmolLM2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.core.config_files import ReadyIndex, UserFile
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
from harness.generative.recipes import InstructionTuning
from harness.generative.recommender import LanguageModelRecommender, Method
from harness.generative.sequence_models import LanguageModel
from harness.generative.tokenizers.base import (
    AnyTokenizer,
    FileTokenizer,
    RQVAETokenizer,
    TextEmbeddings,
    Tokenizer,
    tokenizer_field,
    tokenizer_seed_field,
)
from harness.generative.tokenizers.rqvae import RQVAEConfig
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
    tokenizer: AnyTokenizer | None = tokenizer_field()
    tokenizer_seed: int | None = tokenizer_seed_field()
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

    def item_tokenizer(self) -> Tokenizer:
        """The tokenizer that makes the item codes."""
        index = self.index
        if self.tokenizer is not None:
            return self.tokenizer.completed(self)
        if index.kind == "file":
            return FileTokenizer(file=index.file, setting="lcrec.index.file")
        return RQVAETokenizer(levels=index.levels, size=index.k, rqvae=index.rqvae, semantic=self.semantic)

    def leaks(self) -> tuple[str, ...]:
        """Those of the tokenizer."""
        return self.item_tokenizer().leaks()

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """The tokenizer's files besides."""
        return tuple(dict.fromkeys((*super().files(data), *self.item_tokenizer().files(data))))


class LCRec(LanguageModelRecommender[LCRecConfig]):
    """LC-Rec (Zheng et al., ICDE 2024, arXiv 2311.09049). Needs item text."""

    config_class: ClassVar[type[ModelConfig]] = LCRecConfig
    code_version: ClassVar[int] = 2

    def compose(self) -> Method:
        config = self.config
        model = LanguageModel(config.backbone, config.tasks.text_tokens)
        embeddings = (TextEmbeddings(config.semantic),) if config.backbone.codes == "centroid" else ()
        return Method(config.item_tokenizer(), model, InstructionTuning(model, config), config.decode, embeddings)
