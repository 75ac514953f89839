"""EAGER's network, one encoder over the items of a history and for each source of item codes a decoder; its losses,
generation in both streams, the global contrastive task and the semantic-guided transfer task; and its ranking.

An item of the history is one token. All streams are T5s that share the first one's encoder with its item embeddings;
the released code has a BERT with two embeddings of an item, one a source, and encodes twice.

A decoder reads its code and then the summary token. *Contrast*: InfoNCE between the state of the summary token and the
source vectors of the item (`eager/method.py`). *Transfer*: an auxiliary transformer reads the semantic summary (the
guide) and the behaviour code; it restores a masked token, and tells true codes from those with a replaced token. The
summary is detached, so that behaviour learns from semantics and not the reverse. The auxiliary parts serve training
alone and are not saved.

Each stream generates items by beam search, and the union is ranked by confidence. The confidence of an item is the mean
log-probability of its tokens: of its codes of both streams (`both`, as in the released code), or of the code in the
stream that generated it, the more confident one where both did (`own`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional
from transformers.models.t5.modeling_t5 import T5Attention, T5DenseActDense

from eager.config import ContrastConfig
from eager.method import Contrast
from harness.core.seeding import derive_seed, generator
from harness.errors import InputError
from harness.generative.config import CODE_ROWS, CodeRows, Section
from harness.generative.item_codes import CodeTable
from harness.generative.models.encoder_decoder import EOS, CodeT5, T5Shape
from harness.generative.models.precision import dropout, to_float64
from harness.generative.models.readers import PromptBatch
from harness.generative.recipes import CodeTraining, RecipeInputs
from harness.generative.sequence_models import PrecisionSetting, PrefixTrainingConfig, RandomNetwork
from harness.generative.tokenizers.base import ItemIndex, Vectors, centred, code_directions, with_noise
from harness.generative.tokenizers.embeddings import Source
from harness.generative.training.losses import child_cross_entropy
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.predictions import NO_ITEM
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
    codes: CodeRows = Field(
        default="centroid",
        description=f"{CODE_ROWS}; and so those of the items of a history, from the vectors of both sources",
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
        shape = T5Shape(**settings.model_dump(exclude={"tokens", "codes"}))
        self.streams = nn.ModuleDict()
        for source, table in tables.items():
            self.streams[source] = Stream(table, shape, 0 if len(self.streams) else table.n_items)
        first, *rest = self.streams.values()
        for stream in rest:
            stream.t5.encoder = first.t5.encoder


class TwoStreamModel(RandomNetwork):
    """`TwoStreamNetwork` as a sequence model. `sources` are those of the two halves of an item's code."""

    network: TwoStreamNetwork

    def __init__(self, config: NetworkConfig, sources: tuple[Source, ...], precision: PrecisionSetting) -> None:
        super().__init__(config, precision)
        self.sources = sources

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
            tables = list(map(path_tokens, tables))
        torch.manual_seed(derive_seed(context.seed, "eager", "weights"))
        self.network = TwoStreamNetwork(dict(zip(self.sources, tables, strict=True)), self.config)

    def initialise(self, index: ItemIndex, vectors: Vectors, seed: int) -> None:
        """With `codes=centroid` the rows of the code tokens are projected means of their items' vectors, and those of
        the items projections of the concatenated vectors of both sources, with noise as for equal codes."""
        if self.config.codes == "random":
            return
        for source, stream in self.network.streams.items():
            codes = CodeTable(stream.digits.numpy(), stream.sizes)
            stream_index = replace(index, table=codes, blocks=((source, stream.levels),))
            stream.reset_codes(code_directions(stream_index, vectors, self.config.width, seed))
        item_vectors = [centred(vectors[source].values) for source in self.sources if source in vectors]
        if not item_vectors:
            return
        first = next(iter(self.network.streams.values()))
        features = np.concatenate(item_vectors, axis=1)
        rng = torch.Generator().manual_seed(derive_seed(seed, "item rows"))
        rows = torch.from_numpy(features) @ torch.randn(features.shape[1], self.config.width, generator=rng)
        first.reset_rows(FIRST, with_noise(rows, torch.randn(rows.shape, generator=rng)))

    def prompt(self, history: np.ndarray) -> list[int]:
        return [*(history + FIRST).tolist(), EOS]


ENTRIES = 1 << 24  # logits of a level that are computed at once
STAGE = "eager"


def union(lists: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct items of several `lists` (users, n) with the best of their `scores`, by ascending item, int64 and
    float64 (users, most); rows with fewer items begin with `NO_ITEM` and -inf.

    >>> union([np.array([[3, 1]])], [np.array([[-1.0, -2.0]])])[0].tolist()
    [[1, 3]]
    """
    items, values = np.concatenate(lists, axis=1), np.concatenate(scores, axis=1)
    values = np.where(items == NO_ITEM, -np.inf, values)
    order = np.lexsort((-values, items), axis=1)
    items, values = (np.take_along_axis(part, order, axis=1) for part in (items, values))
    repeated = np.zeros(items.shape, dtype=bool)
    repeated[:, 1:] = items[:, 1:] == items[:, :-1]
    items, values = np.where(repeated, NO_ITEM, items), np.where(repeated, -np.inf, values)
    order = np.argsort(items, axis=1, kind="stable")
    width = int((items != NO_ITEM).sum(axis=1).max(initial=0))
    items, values = (np.take_along_axis(part, order, axis=1) for part in (items, values))
    return items[:, items.shape[1] - width :], values[:, values.shape[1] - width :]


def best(items: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best of `items` (users, n), equal scores by position, padded with `NO_ITEM` and 0."""
    scores = np.where(items == NO_ITEM, -np.inf, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found, values = (np.take_along_axis(part, order, axis=1) for part in (items, scores))
    listed, listed_scores = np.full((len(items), k), NO_ITEM), np.zeros((len(items), k))
    listed[:, : found.shape[1]] = found
    listed_scores[:, : found.shape[1]] = np.where(found == NO_ITEM, 0.0, values)
    return listed, listed_scores


@torch.inference_mode()
def log_probabilities(stream: Stream, prompts: PromptBatch, items: np.ndarray) -> np.ndarray:
    """log p of the codes of `items` (users, n) after `prompts`, float64 (users, n); any value for `NO_ITEM`."""
    users, device = len(items), prompts.ids.device
    limit = max(1, ENTRIES // (users * max(stream.sizes)))
    reader = stream.reader((), prompts.ids.shape[1], stream.levels * min(limit, items.shape[1]))
    start = reader.prefill(prompts)
    parts = []
    for begin in range(0, items.shape[1], limit):
        ids = torch.from_numpy(items[:, begin : begin + limit].clip(min=0)).to(device)
        tokens, count = stream.tokens(ids), ids.shape[1]
        states, parents = start.expand(-1, count, -1), torch.full_like(ids, -1)
        total = torch.zeros(ids.shape, device=device)
        reader.reset()
        for level in range(stream.levels):
            total = total - stream.costs(states.flatten(0, 1), ids.flatten(), level).view(users, count)
            if level + 1 < stream.levels:
                states = reader.extend(tokens[..., level], parents)
                parents = torch.arange(level * count, (level + 1) * count, device=device).expand(users, -1)
        parts.append(to_float64(total).cpu().numpy())
    return np.concatenate(parts, axis=1)


class TwoStreamTrainingConfig(PrefixTrainingConfig):
    """Training on every prefix of a training sequence: one next item a sample."""

    normalise: Literal["children"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="children", description="a token's probability is among the children of its prefix in the tree"
    )


class SummaryContrastConfig(ContrastConfig):
    """Global contrastive task: InfoNCE from the summary state of each stream to the target's vectors of its source."""

    semantic: float = Field(default=1.0, ge=0, description="weight of the semantic term; 0: off")
    behavior: float = Field(default=1.0, ge=0, description="weight of the behaviour term; 0: off")
    temperature: float = Field(default=0.3, gt=0)


class TransferConfig(Section):
    """Semantic-guided transfer task."""

    weight: float = Field(default=1.0, ge=0, description="of both terms, reconstruction and recognition; 0: off")
    heads: int = Field(default=4, ge=1, description="of the auxiliary transformer; they divide network.width")


class Transfer(nn.Module):
    """The auxiliary transformer: one layer, attention in both directions, over the guide and `levels` tokens."""

    def __init__(self, width: int, levels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(levels, width))
        self.mask = nn.Parameter(torch.randn(width))
        self.guide = nn.Linear(width, width)
        self.layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.judge = nn.Linear(width, 1)

    def states(self, tokens: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """States (n, 1 + levels, width) of the `guide` (n, width) and of embedded `tokens` (n, levels, width)."""
        return self.norm(self.layer(torch.cat([self.guide(guide)[:, None], tokens + self.positions], dim=1)))

    def forward(self, stream: Stream, items: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """Mean -log p of one masked token an item, at a random level, plus the binary cross-entropy of codes of `items`
        (n,) and of the same codes with one token replaced by another of its level."""
        ids, rows = stream.tokens(items), torch.arange(len(items), device=items.device)
        table = stream.t5.get_input_embeddings()
        tokens = table(ids)

        masked = torch.randint(stream.levels, (len(items),), device=items.device)
        states = self.states(tokens.index_put((rows, masked), self.mask.to(tokens.dtype)), guide)
        parts = [masked == level for level in range(stream.levels)]
        costs = [stream.costs(states[indices, level + 1], items[indices], level) for level, indices in enumerate(parts)]

        replaced = torch.randint(stream.levels, (len(items),), device=items.device)
        sizes = torch.tensor(stream.sizes, device=items.device)[replaced]
        moved = 1 + (torch.rand(len(items), device=items.device) * (sizes - 1)).long()
        negatives = (stream.digits[items, replaced] + moved) % sizes
        offsets = torch.tensor(stream.offsets, device=items.device)[replaced] + stream.vocabulary
        false = tokens.index_put((rows, replaced), table(negatives + offsets))
        logits = self.judge(self.states(torch.cat([tokens, false]), guide.repeat(2, 1))[:, 0])[:, 0].float()
        labels = torch.arange(len(logits), device=items.device) < len(items)
        return torch.cat(costs).mean() + functional.binary_cross_entropy_with_logits(logits, labels.float())


class TwoStreamTraining(CodeTraining[TwoStreamModel]):
    """The one stage: the sum of all losses."""

    def __init__(
        self,
        model: TwoStreamModel,
        config: TwoStreamTrainingConfig,
        contrast: SummaryContrastConfig,
        transfer: TransferConfig,
    ) -> None:
        super().__init__(model, config, STAGE)
        self.contrast, self.transfer = contrast, transfer

    def run(self, inputs: RecipeInputs, context: RunContext) -> dict[str, Any]:
        vectors: dict[Source, np.ndarray] = {source: entry.values for source, entry in inputs.vectors.items()}
        auxiliary = self.auxiliary(vectors, context)

        def mean(histories: list[np.ndarray], items: np.ndarray, step: int, part: int) -> torch.Tensor:
            negatives = generator(context.seed, STAGE, "negatives", step, part).permutation(inputs.data.n_items)
            return self.loss(histories, items, auxiliary, negatives[: self.contrast.negatives], context.device)

        return self.train_prefixes(mean, inputs, context, others=list(auxiliary.parameters()))

    def auxiliary(self, vectors: Mapping[Source, np.ndarray], context: RunContext) -> nn.ModuleDict:
        """The parts of the losses that are in use, with random weights: `transfer`, and a `Contrast` a source."""
        settings, streams = self.model.config, self.model.network.streams
        torch.manual_seed(derive_seed(context.seed, STAGE, "auxiliary"))
        parts = nn.ModuleDict()
        weights: dict[Source, float] = {"semantic": self.contrast.semantic, "behavior": self.contrast.behavior}
        for source, weight in weights.items():
            if weight:
                parts[source] = Contrast(settings.width, {source: vectors[source]}, self.contrast)
        if self.transfer.weight:
            levels = streams["behavior"].levels
            parts["transfer"] = Transfer(settings.width, levels, self.transfer.heads, settings.dropout)
        return parts.to(context.device)

    def loss(
        self, histories: list[np.ndarray], items: np.ndarray, auxiliary: nn.ModuleDict, negatives: np.ndarray,
        device: str,
    ) -> torch.Tensor:  # fmt: skip
        """Sum of the losses, each a mean over the samples: next `items` (n,) after `histories`."""
        network, target = self.model.network, torch.from_numpy(items).to(device)
        prompts = PromptBatch.of([self.model.prompt(history) for history in histories], device)
        first = next(iter(network.streams.values()))
        encoded, ends = first.encode(prompts.ids, prompts.real), target.new_full((len(items), 2), EOS)
        total, summaries = torch.zeros((), device=device), {}
        for source, stream in network.streams.items():
            response = torch.cat([stream.tokens(target), ends], dim=1) if len(auxiliary) else stream.tokens(target)
            states = stream.decode(encoded, prompts.real, response)
            sharp = states / self.config.temperature  # logits are linear in states
            costs = [stream.costs(sharp[:, level], target, level) for level in range(stream.levels)]
            total, summaries[source] = total + torch.stack(costs).mean(), states[:, -1]
            if source in auxiliary:
                total = total + auxiliary[source](states[:, -1], target, torch.from_numpy(negatives).to(device))
        if "transfer" in auxiliary:
            term = auxiliary["transfer"](network.streams["behavior"], target, summaries["semantic"].detach())
            total = total + self.transfer.weight * term
        return total
