"""EAGER-LLM's configuration: one frozen value, a section a component, and what each profile changes.

Defaults follow the paper's method in its clean form; where the released code does otherwise, the setting says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from eager.behavior_config import LEAK, BehaviorConfig
from eager.index import FILE, needed_sources
from eager.index_config import IndexConfig, Source
from eager.paper import PAPER
from eager.task_config import Section, TasksConfig
from harness.generative.item_index import index_file
from harness.generative.scoring import Normalise
from harness.generative.semantic import SemanticConfig
from harness.protocol.recommender import ModelConfig
from harness.protocol.split import TrainingData

Engine = Literal["shared", "plain"]
LossNormalise = Literal["level", "vocabulary"]


class BackboneConfig(Section):
    """The language model."""

    name: str = Field(
        default="smollm2-135m-instruct",
        description="the embedded one; a folder or a hub name of a Llama, Qwen, Mistral or GPT-2 style causal LM; "
        "random-llama: a Llama of `width` and `layers` drawn at random; tiny-random: a minute one over bytes",
    )
    layers: int | None = Field(default=None, ge=1, description="only the first layers; null: all (random-llama: 4)")
    width: int | None = Field(default=None, ge=32, multiple_of=32, description="of random-llama alone; null: 256")
    weights: Literal["pretrained", "random"] = Field(
        default="pretrained", description="random: the shape and the tokenizer are kept, the weights drawn anew"
    )
    storage: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="what weights, gradients and moments are held in; bfloat16 halves memory and loses small steps",
    )
    checkpointing: bool = Field(
        default=False, description="compute activations twice instead of keeping them: for large models"
    )
    vocabulary: Literal["frozen", "trained"] = Field(
        default="frozen",
        description="the rows of text tokens, read and written; trained as in the released code",
    )
    codes: Literal["centroid", "random"] = Field(
        default="centroid",
        description="first rows of the code tokens: projected means of their items' vectors, or noise",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on input embeddings and last states while tuning")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where it is native"
    )


class ContrastConfig(Section):
    """Global contrast decompression: InfoNCE from the summary state to the target's vectors."""

    mode: Literal["clean", "released"] = Field(
        default="clean",
        description="released: every response takes part, those of other tasks than seqrec with their own projection "
        "as the positive, and a positive may be its own negative",
    )
    semantic: float = Field(default=0.1, ge=0, description="weight of the semantic term; 0 switches it off")
    behavior: float = Field(default=0.1, ge=0, description="weight of the behaviour term; 0 switches it off")
    temperature: float = Field(default=0.1, gt=0)
    negatives: int = Field(
        default=512, ge=1, description="items drawn a step, never a row's positive; at most the catalogue"
    )


class StageConfig(Section):
    """One pass of tuning over task samples."""

    epochs: float = Field(default=3, gt=0, description="passes over all sequence targets")
    max_steps: int | None = Field(default=None, ge=1, description="an upper bound on optimiser steps; null: none")
    targets: int = Field(default=1024, ge=1, description="next-item targets of a sequence step (about)")
    rows: int = Field(default=64, ge=1, description="samples of a text-task step")
    accumulate: int = Field(default=1, ge=1, description="parts that a step is computed in")
    engine: Engine = Field(
        default="shared", description="plain: a padded row a next item, the reference that shared is measured against"
    )
    normalise: LossNormalise = Field(
        default="level",
        description="what a token's probability is among: its level (or the text vocabulary), or text and codes "
        "together, then with an end-of-sequence token behind a code",
    )
    learning_rate: float = Field(default=5e-5, gt=0, description="peak rate of the backbone")
    code_rate: float = Field(default=5e-4, gt=0, description="peak rate of code rows, their scale and the projectors")
    warmup: float = Field(default=0.01, ge=0, le=1)
    floor: float = Field(
        default=0.0, ge=0, le=1, description="share of the peak rate that the cosine ends at; 1: constant"
    )
    weight_decay: float = Field(default=0.01, ge=0)
    beta2: float = Field(default=0.98, gt=0, lt=1, description="Adam's second decay; transformers' own is 0.999")
    clip: float = Field(default=1.0, gt=0)
    max_seconds: float | None = Field(
        default=None, gt=0, description="an upper bound on seconds, over all sessions; not repeatable to the digit"
    )
    adapter: bool = Field(default=False, description="LoRA on attention and MLP projections instead of all weights")
    rank: int = Field(default=8, ge=1, description="of the adapter")
    alpha: float = Field(default=32, gt=0, description="of the adapter: its product is scaled by alpha / rank")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="on what the adapter reads")


class AnnealingConfig(StageConfig):
    """Annealing adapter tuning: LoRA on the sequential task alone, code rows and head trained too."""

    enabled: bool = True
    epochs: float = Field(default=1, gt=0)
    adapter: bool = Field(default=True, description="false: all weights, as in stage 1")
    merge: bool = Field(default=True, description="into the backbone; false: kept and saved as an adapter of its own")
    contrast: bool = Field(default=True, description="keep the contrastive terms; the released code leaves it open")


class ComprehensionConfig(Section):
    """What the language model understands, measured before stage 1, after it, and after annealing."""

    items: int = Field(default=200, ge=0, description="items asked for, of each kind; 0: nothing is measured")


class DecodeConfig(Section):
    """Ranking."""

    beams: int | Literal["all"] = Field(
        default=20, description="prefixes kept a level, at least as many as items are asked; all: score every item"
    )
    batch: int = Field(default=64, ge=1, description="users decoded at once; less where memory gives out")
    normalise: Normalise = Field(
        default="level",
        description="a token's probability among all of its level, among those that lead on to a real code, or among "
        "the whole vocabulary, as `generate` scores",
    )

    @field_validator("beams", mode="before")
    @classmethod
    def _number_or_all(cls, value: object) -> object:
        if value != "all" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{value!r} is neither a number from 1 on nor all")
        return value


# Text steps cost more than sequence steps: where time is short, few of them and short histories of titles.
_LIGHT: dict[str, Any] = {"fusionseqrec": 0.01, "itemsearch": 0.015, "preferenceobtain": 0.01, "titles": 6}


class EagerConfig(ModelConfig):
    """The whole method."""

    semantic: SemanticConfig = SemanticConfig()
    behavior: BehaviorConfig = BehaviorConfig()
    index: IndexConfig = IndexConfig()
    backbone: BackboneConfig = BackboneConfig()
    tasks: TasksConfig = TasksConfig()
    contrast: ContrastConfig = ContrastConfig()
    tuning: StageConfig = StageConfig()
    annealing: AnnealingConfig = AnnealingConfig()
    comprehension: ComprehensionConfig = ComprehensionConfig()
    decode: DecodeConfig = DecodeConfig()

    profiles: ClassVar[dict[str, dict[str, Any]]] = {
        "smoke": {
            "backbone": {"name": "tiny-random"},
            "behavior": {
                "encoder": "sasrec",
                "choose": "last",
                "dim": 16,
                "layers": 1,
                "epochs": 20,
                "batch": 32,
            },
            "tasks": {"templates": 1, "item2index": 0.04, "index2item": 0.04, **_LIGHT},
            "tuning": {
                "max_steps": 200,
                "epochs": 100,
                "targets": 48,
                "rows": 8,
                "learning_rate": 7e-3,
                "code_rate": 2e-2,
            },
            "annealing": {"max_steps": 20, "targets": 48, "learning_rate": 1e-3, "code_rate": 1e-3},
            "comprehension": {"items": 12},
        },
        "cpu": {
            "backbone": {"layers": 2, "dropout": 0.2},
            "behavior": {"encoder": "sasrec", "choose": "last"},
            "index": {"sources": ("behavior", "semantic"), "k": 256},
            "tasks": {"templates": 1, "item2index": 0.025, "index2item": 0.015, **_LIGHT},
            "tuning": {
                "max_steps": 1700,
                "epochs": 100,
                "targets": 160,
                "rows": 24,
                "learning_rate": 1e-3,
                "code_rate": 3e-3,
                "warmup": 0.05,
                "floor": 0.1,
            },
            "annealing": {"max_steps": 200, "epochs": 100, "targets": 160, "learning_rate": 3e-4, "code_rate": 3e-4},
            "comprehension": {"items": 100},
        },
        "gpu": {"behavior": {"encoder": "sasrec", "choose": "last"}, "index": {"k": 256}},
        "paper": PAPER,
    }

    def resolved(self, device: str) -> EagerConfig:
        """With the precision that `auto` stands for on this machine."""
        if self.backbone.precision != "auto":
            return self
        from harness.generative.tuning import best_precision

        backbone = self.backbone.model_copy(update={"precision": best_precision(device)})
        return self.model_copy(update={"backbone": backbone})

    @model_validator(mode="after")
    def _width_is_random(self) -> EagerConfig:
        if self.backbone.width is not None and self.backbone.name != "random-llama":
            raise ValueError("backbone.width is for backbone.name=random-llama: another backbone brings its own")
        return self

    def sources(self) -> tuple[Source, ...]:
        """The sources whose vectors are used, by the index or by the contrast."""
        every: tuple[Source, ...] = ("semantic", "behavior")
        return tuple(s for s in every if s in needed_sources(self.index) or getattr(self.contrast, s))

    def leaks(self) -> tuple[str, ...]:
        """Released windows show validation items, wherever behaviour vectors (or codes made of them) are used."""
        used = "behavior" in self.sources() or self.index.kind == "file"
        return (LEAK,) if used and self.behavior.windows == "released" else ()

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """Ready vectors, a ready index and generated texts, where they are named."""
        named = [self.semantic.vectors, self.behavior.vectors, self.tasks.intentions]
        given = [Path(file).expanduser() for file in named if file is not None]
        return (*given, index_file(self.index.file, data, FILE)) if self.index.kind == "file" else tuple(given)

    @model_validator(mode="after")
    def _distinct_sources(self) -> EagerConfig:
        if len(set(self.index.sources)) != len(self.index.sources):
            raise ValueError("index.sources names a source twice")
        return self
