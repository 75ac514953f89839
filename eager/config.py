"""EAGER-LLM's configuration, with one section for each component, and its profiles.

Defaults follow the paper without the errors of the released code, whose variants are settings. Profile `paper` has the
hyper-parameters of the released scripts (run_finetune.sh, run_anneal.sh, kmeans.py, din_train.py, run_test_ddp.sh) or
the defaults of their libraries, for LLaMA-7B. Errors of the scripts (validation items as labels, positives among the
negatives, a constraint by position) are separate switches. Intentions, which the authors generated with Mistral-7B,
come from a rule (docs/method.md, section 4) or from a file (`eager.tasks.intentions`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from eager.behavior_encoder import BehaviorEmbeddings
from eager.behavior_models import LEAK, BehaviorConfig
from eager.tree_tokenizer import DualSourceTokenizer, IndexConfig
from harness.generative import config as profiles
from harness.generative.config import CPU, SMOKE, InstructConfig, Section, SemanticConfig, StageConfig, with_settings
from harness.generative.tokenizers.base import TokenizedConfig, Tokenizer
from harness.generative.tokenizers.embeddings import EmbeddingSource, TextEmbeddings
from harness.protocol.split import TrainingData

PAPER: dict[str, Any] = profiles.with_settings(
    profiles.PAPER,
    semantic={"fields": ("title", "description", "categories")},
    behavior={
        "encoder": "din", "dim": 1024, "negatives": 60, "batch": 256, "learning_rate": 1e-3, "dropout": 0.1,
        "weight_decay": 0.0,
    },
    index={"kind": "tree", "sources": ("semantic", "behavior"), "k": 256, "height": 2, "order": "released"},
    tasks={"caps": {"fusionseqrec": 100_000}},
    contrast={"semantic": 0.1, "behavior": 0.1, "temperature": 0.1, "negatives": 2048},
    tuning={"epochs": 3},
    annealing={"epochs": 1, **profiles.PAPER_STAGE, "rank": 8, "alpha": 32, "dropout": 0.05},
)  # fmt: skip


# The fastest configuration among the best on validation (log-archive.md, 2026-11-29): a small Llama with random
# weights, the sequential task only, graph vectors, one tree with two tokens an item, one table for input and output
# where the catalogue is small, random walks among the windows, a moving average of the weights, the epoch that is best
# on validation. The budget is 20 epochs, at most 250 targets an item: data with few items and many interactions need
# fewer epochs. 1,000 validation users are too few to choose the epoch on Beauty (log-archive.md, 2026-11-30).
SMALL: dict[str, Any] = with_settings(
    CPU,
    backbone={
        "name": "random-llama", "layers": 2, "width": 256, "dropout": 0.3, "residual_dropout": 0.3,
        "tied_codes": "auto",
    },
    behavior={"encoder": "graph"},
    index={"sources": ("behavior", "semantic"), "levels": ("behavior", "semantic"), "leaf_tokens": "own"},
    tasks={"item2index": 0.0, "index2item": 0.0, "fusionseqrec": 0.0, "itemsearch": 0.0, "preferenceobtain": 0.0},
    walks={"share": 0.3, "text": 0.3},
    tuning={
        "epochs": 20, "item_targets": 250, "average": 0.998, "max_steps": None, "normalise": "children",
        "choose": "validation", "patience": 10, "validation_users": 5000,
    },
    annealing={
        "enabled": False, "max_steps": 200, "epochs": 100, "targets": 160, "learning_rate": 3e-4, "code_rate": 3e-4,
        "normalise": "children",
    },
    decode={"normalise": "children"},
    comprehension={"items": 0},
)  # fmt: skip


class ContrastConfig(Section):
    """Global contrast decompression: InfoNCE from the summary state to the target's vectors."""

    mode: Literal["clean", "released"] = Field(
        default="clean",
        description="released: all responses, those outside seqrec with their own projection as positive; a positive "
        "may be its own negative",
    )
    semantic: float = Field(default=0.1, ge=0, description="weight of the semantic term; 0: off")
    behavior: float = Field(default=0.1, ge=0, description="weight of the behaviour term; 0: off")
    temperature: float = Field(default=0.1, gt=0)
    negatives: int = Field(
        default=512, ge=1, description="negatives of a step, never a row's positive; at most the catalogue"
    )

    def sources(self, semantic: SemanticConfig, behavior: BehaviorConfig) -> tuple[EmbeddingSource, ...]:
        """The sources that the terms in use read."""
        text = (TextEmbeddings(semantic),) if self.semantic else ()
        return (*text, BehaviorEmbeddings(behavior)) if self.behavior else text

    def leaks(self, behavior: BehaviorConfig) -> tuple[str, ...]:
        """Released windows show validation items, if the behaviour term is in use."""
        return (LEAK,) if self.behavior and behavior.windows == "released" else ()


class WalksConfig(Section):
    """Random walks over items among the training sequences of stage 1."""

    share: float = Field(
        default=0.0, ge=0, le=1, description="probability that a window is replaced by a random walk of its length"
    )
    text: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="probability that a step goes to an item of similar text; the others follow the graph of "
        "behavior.graph",
    )


class AnnealingConfig(StageConfig):
    """Annealing adapter tuning: LoRA on the sequential task only; code embeddings and head are trained too."""

    enabled: bool = True
    epochs: float = Field(default=1, gt=0)
    adapter: bool = Field(default=True, description="false: all weights, as in stage 1")
    merge: bool = Field(default=True, description="merge the adapter; false: it is saved separately")
    contrast: bool = Field(default=True, description="use the contrastive terms; not stated in the released code")

    @field_validator("rows")
    @classmethod
    def _no_text_tasks(cls, rows: int) -> int:
        if rows != StageConfig.model_fields["rows"].default:
            raise ValueError("annealing has no text tasks, so that rows has no effect")
        return rows


class EagerConfig(TokenizedConfig, InstructConfig):
    """The whole method."""

    section: ClassVar[str] = "eager"

    behavior: BehaviorConfig = BehaviorConfig()
    index: IndexConfig = IndexConfig()
    contrast: ContrastConfig = ContrastConfig()
    walks: WalksConfig = Field(default=WalksConfig(), exclude_if=lambda walks: not walks.share)  # older runs' keys stay
    annealing: AnnealingConfig = AnnealingConfig()

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": with_settings(
            SMOKE,
            behavior={"encoder": "sasrec", "choose": "last", "dim": 16, "layers": 1, "epochs": 20, "batch": 32},
            annealing={"max_steps": 20, "targets": 48, "learning_rate": 1e-3, "code_rate": 1e-3},
        ),
        "cpu": SMALL,
        "gpu": {"behavior": {"encoder": "sasrec", "choose": "last"}, "index": {"k": 256}},
        "paper": PAPER,
    }

    def own_tokenizer(self) -> Tokenizer:
        return DualSourceTokenizer(kind="tree", index=self.index, semantic=self.semantic, behavior=self.behavior)

    def extra_sources(self) -> tuple[EmbeddingSource, ...]:
        """What training reads besides the codes: the vectors of the contrastive loss, and those of texts for walks."""
        sources = self.contrast.sources(self.semantic, self.behavior)
        by_text = self.walks.share and not self.contrast.semantic
        return (TextEmbeddings(self.semantic), *sources) if by_text else sources

    def file_tokenizer(self) -> Tokenizer:
        """The own one, which reads an index file too and declares that it may be made of released windows."""
        return self.own_tokenizer()

    def leaks(self) -> tuple[str, ...]:
        """Those of the tokenizer and of the contrastive loss."""
        return tuple(dict.fromkeys((*super().leaks(), *self.contrast.leaks(self.behavior))))

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """Ready vectors, a ready index and generated texts, where they are named."""
        return tuple(dict.fromkeys((*self.behavior.files(data), *super().files(data))))

    def stages(self) -> dict[str, StageConfig]:
        return super().stages() | ({"annealing": self.annealing} if self.annealing.enabled else {})

    @model_validator(mode="after")
    def _distinct_sources(self) -> EagerConfig:
        if len(set(self.index.sources)) != len(self.index.sources):
            raise ValueError("index.sources names a source twice")
        return self
