"""Settings of an encoder-decoder over code tokens and of its training. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.generative.config import Section


class NetworkConfig(Section):
    """The encoder-decoder, with random initial weights."""

    layers: int = Field(default=4, ge=1, description="layers of the encoder, and of the decoder")
    width: int = Field(default=128, ge=1)
    heads: int = Field(default=6, ge=1)
    head_width: int = Field(default=64, ge=1)
    inner: int = Field(default=1024, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    separator: bool = Field(default=False, description="a separator token after each item of a history")


class PrefixTrainingConfig(Section):
    """Training on every prefix of a training sequence."""

    batch: int = Field(default=64, ge=1, description="samples of each part of a step")
    accumulate: int = Field(default=1, ge=1, description="gradient accumulation: parts of a step")
    epochs: int = Field(default=200, ge=1, description="maximum number of passes over all samples")
    max_steps: int | None = Field(default=None, ge=1, description="maximum number of optimiser steps; null: none")
    optimiser: Literal["adamw", "adam", "adafactor"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, le=1, description="share of the steps")
    warmup_steps: int | None = Field(default=None, ge=1, description="number of warm-up steps, instead of a share")
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0)
    normalise: Literal["level", "vocabulary"] = Field(
        default="level", description="tokens that a probability is normalised over: its level, or all with an end token"
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
