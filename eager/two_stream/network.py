"""EAGER's network: one encoder over the items of a history, and for each source of item codes a decoder.

An item of the history is one token. All streams are T5s that share the first one's encoder with its item embeddings;
the released code has a BERT with two embeddings of an item, one a source, and encodes twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from transformers.models.t5.modeling_t5 import T5Attention, T5DenseActDense

from harness.core.seeding import derive_seed
from harness.errors import InputError
from harness.generative.config import Section
from harness.generative.item_codes import CodeTable
from harness.generative.models.encoder_decoder import EOS, CodeT5, T5Shape
from harness.generative.models.precision import Precision, dropout
from harness.generative.sequence_models import PrecisionSetting, RandomNetwork, resolve_precision
from harness.generative.training.losses import child_cross_entropy
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

FIRST = 2  # first item token, after padding and end


class NetworkConfig(Section):
    """The network, with random initial weights."""

    encoder_layers: int = Field(default=1, ge=1, description="of the encoder that both streams share")
    layers: int = Field(default=2, ge=1, description="of each decoder")
    width: int = Field(default=96, ge=1)
    heads: int = Field(default=4, ge=1)
    head_width: int = Field(default=24, ge=1)
    inner: int = Field(default=384, ge=1, description="width of the feed-forward layers")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="on embeddings, residual branches and last states")
    tokens: Literal["path", "level"] = Field(
        default="path",
        description="path: a token for each node of the tree, so that the last token is an item's alone, as released; "
        "level: equal numbers of a level are one token",
    )


def path_tokens(table: CodeTable) -> CodeTable:
    """Codes with a token of its own for each prefix: equal codes stay equal, and only they share the last token.

    >>> path_tokens(CodeTable(np.array([[0, 0], [0, 2], [2, 0], [2, 0]]), (3, 3))).digits.tolist()
    [[0, 0], [0, 1], [1, 2], [1, 2]]
    """
    nodes = np.zeros(table.n_items, np.int64)
    levels = []
    for level, size in enumerate(table.sizes):
        nodes = np.unique(nodes * size + table.digits[:, level], return_inverse=True)[1].reshape(-1)
        levels.append(nodes)
    digits = np.column_stack(levels)
    return CodeTable(digits, tuple(int(size) for size in digits.max(axis=0) + 1))


class _Dropout(nn.Dropout):
    """With the fast mask."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p, self.training)


def _residual_dropout(t5: nn.Module) -> None:
    """Takes dropout from attention weights and from inside feed-forward layers, and lets the rest use the fast mask."""
    for module in list(t5.modules()):
        if isinstance(module, T5Attention):
            module.dropout = 0.0
        elif not isinstance(module, T5DenseActDense):
            for name, child in module.named_children():
                if isinstance(child, nn.Dropout):
                    setattr(module, name, _Dropout(child.p))
        else:
            module.dropout = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]


class Stream(CodeT5):
    """One decoder with the codes that it generates. `digits`: (n_items, levels)."""

    digits: torch.Tensor

    def __init__(self, table: CodeTable, shape: T5Shape, extra: int = 0) -> None:
        super().__init__(table.sizes, shape, extra)
        _residual_dropout(self.t5)
        self.trie, self.levels = CodeTrie(table), table.levels
        self.register_buffer("digits", torch.from_numpy(table.digits.copy()), persistent=False)

    def tokens(self, items: torch.Tensor) -> torch.Tensor:
        """Token ids of the codes of `items`, (*items.shape, levels)."""
        offsets = torch.tensor(self.offsets[:-1], device=items.device) + self.vocabulary
        return self.digits[items] + offsets

    def costs(self, states: torch.Tensor, items: torch.Tensor, level: int) -> torch.Tensor:
        """-log p of token `level` of the codes of `items` (n,) among its siblings, predicted from `states` (n, width);
        float32 (n,)."""
        trie = self.trie.on(states.device)
        prefixes, digits = trie.prefixes[items, level], self.digits[items, level]
        return child_cross_entropy(trie, self.level_logits, states, level, prefixes, digits)


class TwoStreamNetwork(nn.Module):
    """`tables`: the codes of each source, in the order of the streams. Weights are random: seed torch before."""

    streams: Any  # an nn.ModuleDict of `Stream`s by source

    def __init__(self, tables: Mapping[str, CodeTable], settings: NetworkConfig) -> None:
        super().__init__()
        shape = T5Shape(**settings.model_dump(exclude={"tokens"}))
        self.streams = nn.ModuleDict()
        for source, table in tables.items():
            self.streams[source] = Stream(table, shape, 0 if len(self.streams) else table.n_items)
        first, *others = self.streams.values()
        for stream in others:
            stream.t5.encoder = first.t5.encoder


class TwoStreamModel(RandomNetwork):
    """`TwoStreamNetwork` as a sequence model. `sources` are those of the two halves of an item's code."""

    network: TwoStreamNetwork
    precision: Precision

    def __init__(self, config: NetworkConfig, sources: tuple[str, ...], precision: PrecisionSetting) -> None:
        super().__init__(precision)
        self.config, self.sources = config, sources

    def build(self, table: CodeTable, data: TrainingData, context: RunContext) -> None:
        """Raises `InputError` for codes that cannot be halved."""
        half, odd = divmod(table.levels, len(self.sources))
        if odd:
            raise InputError(
                f"{table.levels} tokens a code are not {len(self.sources)} codes of one length", where=data.dataset
            )
        parts = [slice(begin, begin + half) for begin in range(0, table.levels, half)]
        tables = [CodeTable(table.digits[:, part], table.sizes[part]) for part in parts]
        if self.config.tokens == "path":
            tables = [path_tokens(each) for each in tables]
        torch.manual_seed(derive_seed(context.seed, "eager", "weights"))
        self.network = TwoStreamNetwork(dict(zip(self.sources, tables, strict=True)), self.config)
        self.precision = resolve_precision(self._precision, context.device)

    def prompt(self, history: np.ndarray) -> list[int]:
        return [*(history + FIRST).tolist(), EOS]
