"""Settings of a network over code tokens and of its training. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.generative.config import ScoreNormalization, Section


class NetworkConfig(Section):
    """The network, with random initial weights."""

    kind: Literal["t5", "decoder"] = Field(
        default="t5",
        description="t5: an encoder-decoder, one next item a sample; decoder: a causal transformer, all next items of "
        "a window in one pass",
    )
    layers: int = Field(default=4, ge=1, description="of the decoder, and with kind=t5 of the encoder too")
    width: int = Field(default=128, ge=1)
    heads: int = Field(default=6, ge=1)
    head_width: int = Field(default=64, ge=1, description="kind=decoder: an even number")
    inner: int = Field(default=1024, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="kind=decoder: of residual branches")
    separator: bool = Field(default=False, description="kind=t5: a separator token after each item of a history")
    tied: bool = Field(default=True, description="kind=t5: the output layer is the input embedding")
    inner_layers: int = Field(default=1, ge=1, description="kind=t5: hidden layers of a feed-forward layer")


class PrefixTrainingConfig(Section):
    """Training on every prefix of a training sequence: one next item a sample."""

    batch: int = Field(default=64, ge=1, description="samples of each part of a step")
    accumulate: int = Field(default=1, ge=1, description="gradient accumulation: parts of a step")
    epochs: int = Field(default=200, ge=1, description="maximum number of passes over all samples")
    item_targets: float | None = Field(
        default=None,
        gt=0,
        exclude_if=lambda value: value is None,
        description="maximum number of samples with an item as target, on average; null: none",
    )
    max_steps: int | None = Field(default=None, ge=1, description="maximum number of optimiser steps; null: none")
    optimiser: Literal["adamw", "adam", "adafactor"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, le=1, description="share of the steps")
    warmup_steps: int | None = Field(default=None, ge=1, description="number of warm-up steps, instead of a share")
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0)
    normalise: ScoreNormalization = Field(
        default="children",
        description="tokens that a probability is normalised over; children: the children of the prefix in the trie; "
        "level: the tokens of its level; vocabulary: all tokens, with an end-of-sequence token after a code",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        exclude_if=lambda value: value == 1,
        description="divides the logits in the loss, not in ranking; below 1 likely wrong tokens weigh more, as in "
        "LETTER's ranking-guided loss",
    )
    choose: Literal["validation", "last"] = Field(
        default="validation", description="final state: the best by ndcg@10 on validation, or the last"
    )
    every: float = Field(default=2, gt=0, description="epochs between evaluations; there are at least four")
    patience: int = Field(default=10, ge=1, description="evaluations without improvement before training stops")
    validation_users: int = Field(default=2000, ge=1, description="maximum number of users in an evaluation")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 if the device computes in it"
    )
