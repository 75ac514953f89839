"""LC-Rec's configuration: what it has from `InstructConfig`, its item codes, and what each profile changes.

Profiles `smoke`, `gpu` and `paper` give LC-Rec the backbone, the task mix and the optimiser steps that they give
EAGER-LLM, annealing counted in (docs/lcrec.md); profile `cpu` has two layers of SmolLM2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from harness.core.settings_types import ReadyIndex, UserFile
from harness.generative.config import InstructConfig, SemanticConfig, StageConfig
from harness.generative.profiles import CPU, PAPER, SMOKE, with_settings
from harness.generative.task_config import Section
from harness.generative.tokenizers.index import index_file
from harness.generative.tokenizers.rqvae import RQVAEConfig
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
        given = super().files(data)
        return (*given, index_file(self.index.file, data, FILE)) if self.index.kind == "file" else given
