"""Sequence models: a network over code tokens with its prompt format, as one part of a generative recommender, and the
settings of a network over code tokens alone.

`LanguageModel` is a decoder-only language model with code tokens added. Over code tokens alone, without a text
vocabulary and with random initial weights: `EncoderDecoder`, a T5, and `DecoderOnly`, a causal transformer.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field

from harness.core.artifact_cache import CacheEntry
from harness.core.seeding import derive_seed
from harness.generative.config import CODE_ROWS, WEIGHT_AVERAGE, BackboneConfig, CodeRows, ScoreNormalization, Section
from harness.generative.exporting import ADAPTER
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import Backbone, backbone_artefacts, load_backbone
from harness.generative.models.decoder_lm import START, CodeDecoder, CodeLM, DecoderShape, code_tokenizer
from harness.generative.models.encoder_decoder import CodeT5, T5Shape
from harness.generative.models.lora import attached, load_adapter, plain_name, save_adapter
from harness.generative.models.packing import can_pack
from harness.generative.models.precision import Precision, best_precision
from harness.generative.tasks.batching import Pieces, hash_users, with_users
from harness.generative.tasks.prompts import CodePrompts, Prompts
from harness.generative.tokenizers.base import ItemIndex, Vectors, code_directions
from harness.generative.training.stages import unfreeze_vocabulary
from harness.protocol.context import RunContext
from harness.protocol.requests import Requests
from harness.protocol.split import TrainingData

PROBES = [f"<{letter}_{number}>" for letter in string.ascii_lowercase for number in (0, 10, 255)]


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
    dropout: float = Field(default=0.1, ge=0, lt=1, description="on embeddings, residual branches and last states")
    separator: bool = Field(default=False, description="kind=t5: a separator token after each item of a history")
    tied: bool = Field(default=True, description="kind=t5: the output layer is the input embedding")
    inner_layers: int = Field(default=1, ge=1, description="kind=t5: hidden layers of a feed-forward layer")
    codes: CodeRows = Field(default="random", exclude_if=lambda value: value == "random", description=CODE_ROWS)


PrecisionSetting = Literal["auto", "float32", "bfloat16"]


class NetworkTrainingConfig(Section):
    """Base of the training of networks with random initial weights: length, choice of a state, precision."""

    max_steps: int | None = Field(default=None, ge=1, description="maximum number of optimiser steps; null: none")
    clip: float = Field(default=1.0, gt=0)
    choose: Literal["validation", "last"] = Field(
        default="validation", description="final state: the best by ndcg@10 on validation, or the last"
    )
    every: float = Field(default=2, gt=0, description="epochs between evaluations; there are at least four")
    patience: int = Field(default=10, ge=1, description="evaluations without improvement before training stops")
    validation_users: int = Field(default=2000, ge=1, description="maximum number of users in an evaluation")
    precision: PrecisionSetting = Field(default="auto", description="auto: bfloat16 if the device computes in it")

    def resolved(self, device: str) -> Self:
        """With the precision that `auto` stands for on this machine."""
        return self.model_copy(update={"precision": resolve_precision(self.precision, device)})


class PrefixTrainingConfig(NetworkTrainingConfig):
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
    optimiser: Literal["adamw", "adam", "adafactor"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "inverse_sqrt", "constant"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, le=1, description="share of the steps")
    warmup_steps: int | None = Field(default=None, ge=1, description="number of warm-up steps, instead of a share")
    weight_decay: float = Field(default=0.05, ge=0)
    average: float = WEIGHT_AVERAGE
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


class SequenceModel:
    """`prepare`, then `build`; from then on there are a `network` on the CPU, its `precision` and its prompts. By
    default nothing is loaded before, nothing is attached behind, and requests are read as they are."""

    network: Any
    precision: Precision
    prompts: Any

    def cache_entries(self, context: RunContext) -> tuple[CacheEntry, ...]:
        """The cache entries that `prepare` looks up."""
        return ()

    def prepare(self, context: RunContext) -> None:
        """Loads what is pretrained. Raises `InputError` for what can be seen to be wrong before item codes exist."""
        raise NotImplementedError

    def build(self, table: CodeTable, data: TrainingData, context: RunContext) -> None:
        """The untrained network over the codes of `table`."""
        raise NotImplementedError

    def initialise(self, index: ItemIndex, vectors: Vectors, seed: int) -> None:
        """Initial weights that depend on the item vectors."""

    def prompt(self, history: np.ndarray) -> list[int]:
        """Token ids of the prompt that asks for the item after `history` (item ids, the oldest first)."""
        return self.prompts.history(history)

    def requests(self, requests: Requests) -> Requests:
        """The requests with what the model reads besides the history."""
        return requests

    def parameters(self) -> dict[str, torch.Tensor]:
        """What a saved model holds, by name: every tensor that training may move; tied ones under their first name."""
        return dict(self.network.named_parameters())

    def save_adapter(self, folder: Path) -> None:
        """Writes an adapter that is not merged into the network, if there is one."""

    def load_adapter(self, folder: Path) -> None:
        """Attaches the adapter that `save_adapter` wrote, if it did."""


def resolve_precision(setting: PrecisionSetting, device: str) -> Precision:
    """The precision that a setting stands for on a device."""
    return best_precision(device) if setting == "auto" else setting


class LanguageModel(SequenceModel):
    """A pretrained decoder-only language model with code tokens. Texts are cut to `text_tokens` tokens."""

    network: CodeLM
    backbone: Backbone
    prompts: Prompts
    tokenizer: Any

    def __init__(self, config: BackboneConfig, text_tokens: int) -> None:
        self.config, self.text_tokens = config, text_tokens

    def cache_entries(self, context: RunContext) -> tuple[CacheEntry, ...]:
        return backbone_artefacts(self.config.name, context)

    def prepare(self, context: RunContext) -> None:
        """Raises `InputError` for a backbone that is unavailable, or whose tokenizer would split code tokens."""
        self.backbone = self.load_backbone(context)
        code_tokenizer(self.backbone, PROBES)

    def load_backbone(self, context: RunContext) -> Backbone:
        """The backbone without code tokens."""
        config = self.config
        return load_backbone(
            config.name, config.layers, config.weights, context, width=config.width, storage=config.storage
        )

    def build(self, table: CodeTable, data: TrainingData, context: RunContext) -> None:
        config, backbone = self.config, self.backbone
        self.tokenizer = code_tokenizer(backbone, table.tokens)
        torch.manual_seed(derive_seed(context.seed, "code rows"))
        self.prompts = Prompts(backbone, table, self.text_tokens)
        rates = {"dropout": config.dropout, "residual_dropout": config.residual_dropout}
        self.network = CodeLM(backbone, table.sizes, **rates, tied=config.ties_codes(table.n_items))
        can_pack(self.network)  # cached now, because the blocks may be sharded later
        if config.vocabulary == "trained":
            unfreeze_vocabulary(self.network)
        self.precision = resolve_precision(config.precision, context.device)

    def initialise(self, index: ItemIndex, vectors: Vectors, seed: int) -> None:
        """With `codes=centroid` the rows of the code tokens are projected means of their items' vectors."""
        if self.config.codes == "centroid":
            self.network.reset_codes(code_directions(index, vectors, self.network.code_in.shape[1], seed))

    def parameters(self) -> dict[str, torch.Tensor]:
        """Under the names without an adapter. A frozen vocabulary is left out: it comes with the backbone."""
        frozen = None if self.config.vocabulary == "trained" else self.network.embedding.weight
        named = ((plain_name(name), value) for name, value in self.network.named_parameters() if value is not frozen)
        return {name: value for name, value in named if name is not None}

    def save_adapter(self, folder: Path) -> None:
        if attached(self.network.body):
            save_adapter(self.network.body, folder / ADAPTER, self.config.name)

    def load_adapter(self, folder: Path) -> None:
        if (folder / ADAPTER).is_dir():
            load_adapter(self.network.body, folder / ADAPTER)


class RandomNetwork(SequenceModel):
    """Base of the networks without pretrained weights."""

    def __init__(self, config: Any, precision: PrecisionSetting) -> None:
        self.config = config  # of the network
        self._precision: PrecisionSetting = precision

    def prepare(self, context: RunContext) -> None:
        self.precision = resolve_precision(self._precision, context.device)


class CodeNetwork(RandomNetwork):
    """Base of those over code tokens alone."""

    config: NetworkConfig

    def initialise(self, index: ItemIndex, vectors: Vectors, seed: int) -> None:
        """With `codes=centroid` the rows of the code tokens are projected means of their items' vectors."""
        if self.config.codes == "centroid":
            self.network.reset_codes(code_directions(index, vectors, self.config.width, seed))


class EncoderDecoder(CodeNetwork):
    """A T5 with random initial weights. `user_tokens`: users are hashed to so many tokens in front of the history."""

    network: CodeT5
    prompts: Pieces
    users: np.ndarray | None

    def __init__(self, config: NetworkConfig, user_tokens: int, precision: PrecisionSetting) -> None:
        super().__init__(config, precision)
        self.user_tokens = user_tokens

    def build(self, table: CodeTable, data: TrainingData, context: RunContext) -> None:
        self.prompts = Pieces(table, self.user_tokens, separator=self.config.separator)
        self.users = data.n_items + hash_users(data, self.user_tokens) if self.user_tokens else None
        torch.manual_seed(derive_seed(context.seed, "tiger", "weights"))
        shape = T5Shape(**self.config.model_dump(exclude={"kind", "separator", "codes"}))
        self.network = CodeT5(table.sizes, shape, extra=self.prompts.extra)

    def requests(self, requests: Requests) -> Requests:
        return with_users(requests, self.users)


class DecoderOnly(CodeNetwork):
    """A causal transformer with random initial weights. A prompt is a start token and the history."""

    network: CodeDecoder
    prompts: CodePrompts

    def build(self, table: CodeTable, data: TrainingData, context: RunContext) -> None:
        config = self.config
        torch.manual_seed(derive_seed(context.seed, "code decoder", "weights"))
        shape = DecoderShape(config.layers, config.width, config.heads, config.head_width, config.inner, config.dropout)
        self.network = CodeDecoder(table.sizes, shape)
        self.prompts = CodePrompts(table.flat + self.network.vocabulary, (START,))
        can_pack(self.network)
