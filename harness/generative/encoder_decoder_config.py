"""Settings of a network over code tokens alone and of its training. Importing this loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.generative.config import ScoreNormalization, Section


class NetworkConfig(Section):
    """The network, with random initial weights."""

    kind: Literal["t5", "decoder"] = Field(
        default="t5",
        description="t5: an encoder-decoder, one next item a sample; decoder: a causal transformer, which learns all "
        "next items of a window in one pass",
    )
    layers: int = Field(default=4, ge=1, description="of the decoder, and with kind=t5 of the encoder too")
    width: int = Field(default=128, ge=1)
    heads: int = Field(default=6, ge=1)
    head_width: int = Field(default=64, ge=1, description="kind=decoder: an even number")
    inner: int = Field(default=1024, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="on embeddings, residual branches and last states")
    separator: bool = Field(default=False, description="kind=t5: a token behind each item of a history")
    tied: bool = Field(default=True, description="kind=t5: the output layer is the table of input embeddings")
    inner_layers: int = Field(default=1, ge=1, description="kind=t5: hidden layers of a feed-forward layer")


class PrefixTrainingConfig(Section):
    """Every prefix of a training sequence is a sample: one next item."""

    batch: int = Field(default=64, ge=1, description="samples of a step (of each part of it)")
    accumulate: int = Field(default=1, ge=1, description="parts that a step is computed in")
    epochs: int = Field(default=200, ge=1, description="passes over all samples, at most")
    item_targets: float | None = Field(
        default=None,
        gt=0,
        exclude_if=lambda value: value is None,
        description="an upper bound on how often an item is a sample's target, on average; null: none",
    )
    max_steps: int | None = Field(default=None, ge=1, description="an upper bound on optimiser steps; null: none")
    optimiser: Literal["adamw", "adam", "adafactor"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0, description="the peak")
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, le=1, description="share of the steps")
    warmup_steps: int | None = Field(default=None, ge=1, description="instead of a share")
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0)
    normalise: ScoreNormalization = Field(
        default="children",
        description="what a token's probability is among: children: those that lead on from its prefix to a real code; "
        "level: its level; vocabulary: all tokens, with an end-of-sequence token behind a code",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        exclude_if=lambda value: value == 1,
        description="logits are divided by it in the loss, not in ranking: below 1 the loss weighs likely wrong tokens "
        "more, as in LETTER's ranking-guided loss",
    )
    choose: Literal["validation", "last"] = Field(
        default="validation", description="the state that training ends in: the best by ndcg@10 on validation, or last"
    )
    every: float = Field(default=2, gt=0, description="passes between two evaluations; at least four evaluations")
    patience: int = Field(default=10, ge=1, description="evaluations without improvement before training stops")
    validation_users: int = Field(default=2000, ge=1, description="users of an evaluation, at most")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where it is native"
    )
