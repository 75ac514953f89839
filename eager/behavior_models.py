"""The settings of the behaviour encoder, and its models: SASRec (Kang & McAuley, ICDM 2018), with softmax over the
catalogue at every position; and DIN (Zhou et al., KDD 2018), as in the paper, with attention over windows of the
history.

A history of up to 19 items is split into ten windows, the oldest of five items, the newest of one each. For a candidate
item an attention unit weights every history item, a window is the weighted sum of its items, and an MLP scores windows
and candidate together. An item's vector is its embedding. The first layer of the attention unit on [q, h, q-h, q∘h] is
computed as (A+C)q + (B-C)h + D(q∘h): equal values, with one small product a pair instead of four.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from harness.data.ragged import RaggedArray
from harness.generative.config import VectorsConfig
from harness.generative.tokenizers.item_graph import GraphConfig

WINDOWS = (5, 4, 2, 2, 1, 1, 1, 1, 1, 1)  # items of each window, oldest first
HISTORY = sum(WINDOWS)
CANDIDATES, USERS = 256, 32  # scored at once when all items are
LEAK = (
    "eager.behavior.windows=released: the behaviour encoder is trained on the validation items "
    "(as in the released EAGER-LLM code)"
)


class BehaviorConfig(VectorsConfig):
    """The behaviour encoder: the paper's DIN, a SASRec, or `graph`, which trains nothing; the fields from `dim` on are
    of DIN and SASRec unless they say so."""

    encoder: Literal["din", "sasrec", "graph"] = "din"
    graph: GraphConfig = GraphConfig()
    windows: Literal["clean", "released"] = Field(
        default="clean",
        description="source of training windows: training rows, or, as in the released code, rows that end with the "
        "validation item (a leak, marked in every record and table)",
    )
    choose: Literal["validation", "last"] = Field(
        default="validation", description="the epoch with the best ndcg@10 on validation, or the last"
    )
    patience: int = Field(default=3, ge=1, description="epochs without improvement before training stops")
    validation_users: int = Field(default=500, ge=1, description="maximum number of validation users")
    dim: int = Field(default=64, ge=2, description="dimensions of an item vector")
    epochs: int = Field(default=20, ge=1, description="maximum number of passes over all training windows")
    batch: int = Field(default=64, ge=1, description="batch size in windows")
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    window: int = Field(default=21, ge=2, description="sasrec: items of a training window")
    layers: int = Field(default=2, ge=1, description="sasrec: transformer blocks")
    heads: int = Field(default=2, ge=1, description="sasrec: attention heads")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="sasrec: of the full softmax")
    negatives: int = Field(default=60, ge=1, description="din: negatives of each target")
    samples: int | None = Field(default=None, ge=1, description="din: random targets of an epoch; null: all")

    @model_validator(mode="after")
    def _heads_share_dimensions(self) -> Self:
        if self.encoder == "sasrec" and self.vectors is None and self.dim % self.heads:
            raise ValueError(f"{self.dim} dimensions (dim) cannot be shared by {self.heads} heads")
        return self


class SASRec(nn.Module):
    """Item and position embeddings, pre-norm transformer blocks with a causal mask, scores by the tied item table."""

    def __init__(self, n_items: int, config: BehaviorConfig) -> None:
        super().__init__()
        self.n_items, self.config = n_items, config
        self.item = nn.Embedding(n_items + 1, config.dim, padding_idx=n_items)
        self.place = nn.Embedding(config.window, config.dim)
        block = nn.TransformerEncoderLayer(
            config.dim, config.heads, 4 * config.dim, config.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, config.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.dim)
        self.drop = nn.Dropout(config.dropout)
        nn.init.normal_(self.item.weight, std=config.dim**-0.5)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """States after each item, (batch, length, dim); `items` is right-padded with n_items."""
        length = items.shape[1]
        states = self.drop(self.item(items) + self.place.weight[:length])
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=items.device)
        return self.norm(self.blocks(states, mask=mask, is_causal=True))

    def loss(self, batch: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Cross-entropy of every next item of the windows `batch`, (windows, window + 1); nothing is drawn."""
        states, answers = self(batch[:, :-1]), batch[:, 1:]
        real = answers != self.n_items
        logits = states[real] @ self.item.weight[: self.n_items].T
        return functional.cross_entropy(logits, answers[real], label_smoothing=self.config.label_smoothing)

    def scores(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        """Of every item after each history, (histories, n_items)."""
        window = self.config.window
        rows = np.full((len(histories), window), self.n_items)
        last = np.zeros(len(histories), dtype=np.int64)
        for number, history in enumerate(histories):
            tail = history[-window:]
            rows[number, : len(tail)], last[number] = tail, max(len(tail) - 1, 0)
        device = self.item.weight.device
        states = self(torch.from_numpy(rows).to(device))
        return states[torch.arange(len(rows)), torch.from_numpy(last)] @ self.item.weight[: self.n_items].T

    def windows(self, rows: RaggedArray, rng: np.random.Generator) -> np.ndarray:
        """All rows cut into windows of `window + 1` items that overlap by one, at a place drawn anew for each pass."""
        return cut(rows, self.config.window, int(rng.integers(self.config.window)), self.n_items)


def cut(rows: RaggedArray, window: int, shift: int, n_items: int) -> np.ndarray:
    """Windows of `window + 1` items, the first of a row shortened by `shift`; right-padded with n_items, int64
    (windows, window + 1); rows of one item say nothing and are left out."""
    lengths = rows.lengths
    first = np.where(lengths > window, -np.minimum(shift, lengths - 2), 0)  # place of the first window in its row
    counts = np.where(lengths > 1, -(-(lengths - 1 - first) // window), 0)
    owner = np.repeat(np.arange(len(rows)), counts)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    places = first[owner] + nth * window
    begins, ends = np.maximum(places, 0), np.minimum(places + window + 1, lengths[owner])
    long = np.pad(rows.values, (0, window + 1), constant_values=n_items)
    table = sliding_window_view(long, window + 1)[rows.offsets[owner] + begins]
    table[np.arange(window + 1) >= (ends - begins)[:, None]] = n_items
    return table


class Dice(nn.Module):
    """x · (p + a(1 - p)) with a learned, p = sigmoid of x normalised over the batch; features last."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features, eps=1e-8, affine=False)
        self.alpha = nn.Parameter(torch.zeros(features))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Any shape whose last dimension is the features."""
        share = torch.sigmoid(self.norm(values.reshape(-1, values.shape[-1]))).reshape(values.shape)
        return values * torch.lerp(self.alpha, self.alpha.new_ones(()), share)


class DIN(nn.Module):
    """Widths keep the released proportions: attention unit 4d → d/2 → d/8 → 1, MLP 11d → 1.5625d → 0.625d → 1."""

    membership: torch.Tensor

    def __init__(self, n_items: int, config: BehaviorConfig) -> None:
        super().__init__()
        self.n_items, self.config, dim = n_items, config, config.dim
        wide, narrow = max(dim // 2, 1), max(dim // 8, 1)
        first, second = max(round(1.5625 * dim), 1), max(round(0.625 * dim), 1)
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=n_items)
        self.unit_query, self.unit_history = nn.Linear(dim, wide), nn.Linear(dim, wide, bias=False)
        self.unit_product = nn.Parameter(torch.randn(wide, dim) * dim**-0.5)
        self.unit = nn.Sequential(Dice(wide), nn.Linear(wide, narrow), Dice(narrow), nn.Linear(narrow, 1))
        self.mlp = nn.Sequential(
            nn.Linear((len(WINDOWS) + 1) * dim, first),
            nn.BatchNorm1d(first),
            Dice(first),
            nn.Dropout(config.dropout),
            nn.Linear(first, second),
            nn.BatchNorm1d(second),
            Dice(second),
            nn.Dropout(config.dropout),
            nn.Linear(second, 1),
        )
        belongs = np.repeat(np.arange(len(WINDOWS)), WINDOWS)
        self.register_buffer("membership", torch.eye(len(WINDOWS))[torch.from_numpy(belongs)].T, persistent=False)
        nn.init.normal_(self.item.weight, std=dim**-0.5)

    def forward(self, histories: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Logits (n, c) of `candidates` (n, c) after `histories` (n, 19), left-padded with n_items."""
        (n, c), dim = candidates.shape, self.config.dim
        query, history = self.item(candidates), self.item(histories)
        if len(self.unit_product) < c:  # the smaller of two ways to the same numbers
            weighted = (history[:, :, None, :] * self.unit_product).reshape(n, -1, dim)
            pairs = (query @ weighted.transpose(1, 2)).reshape(n, c, HISTORY, -1)
        else:
            pairs = (query[:, :, None] * history[:, None]) @ self.unit_product.T
        pairs = pairs + self.unit_query(query)[:, :, None] + self.unit_history(history)[:, None]
        attention = self.unit(pairs)[..., 0] * (histories != self.n_items)[:, None]
        shares = (attention[:, :, None, :] * self.membership).reshape(n, -1, HISTORY)
        windows = (shares @ history).reshape(n * c, -1)
        return self.mlp(torch.cat([windows, query.reshape(n * c, dim)], dim=1)).reshape(n, c)

    def loss(self, batch: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Sampled softmax on windows (n, 19 + 1), the label last: negatives drawn evenly, those equal to the label left
        out, their logits corrected by the log of how often they are expected (Jean et al., ACL 2015)."""
        label = batch[:, -1:]
        samples = torch.from_numpy(rng.integers(self.n_items, size=(len(batch), self.config.negatives))).to(
            batch.device
        )
        logits = self(batch[:, :-1], torch.cat([label, samples], dim=1))
        hit = samples == label
        counted = (~hit).sum(dim=1, keepdim=True).clamp(min=1)
        corrected = logits[:, 1:] - torch.log(counted / max(self.n_items - 1, 1))
        negative = corrected.masked_fill(hit, float("-inf"))
        return (torch.logsumexp(torch.cat([logits[:, :1], negative], dim=1), dim=1) - logits[:, 0]).mean()

    def scores(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        """Of every item after each history, (histories, n_items)."""
        device = self.item.weight.device
        rows = torch.from_numpy(padded(histories, HISTORY, self.n_items)).to(device)
        items = torch.arange(self.n_items, device=device)
        parts = [
            torch.cat([self(part_value, part.expand(len(part_value), -1)) for part in items.split(CANDIDATES)], dim=1)
            for part_value in rows.split(USERS)
        ]
        return torch.cat(parts)

    def windows(self, rows: RaggedArray, rng: np.random.Generator) -> np.ndarray:
        """One window a target: its history and itself, (targets, 19 + 1), left-padded with n_items."""
        if self.config.windows == "released":
            return released(rows, self.n_items)
        pieces = every_target(rows, self.n_items)
        limit = self.config.samples
        return pieces if limit is None else pieces[rng.permutation(len(pieces))[:limit]]


def every_target(rows: RaggedArray, n_items: int) -> np.ndarray:
    """Every item but the first of a row is a target once."""
    return _up_to(rows, np.flatnonzero(rows.places() > 0), n_items)


def released(rows: RaggedArray, n_items: int) -> np.ndarray:
    """The released code's windows: one of a row's last 20 items, then further ones that slide back while 20 remain. A
    shorter row gives a single window."""
    long = np.flatnonzero(rows.places() >= HISTORY)
    short = (rows.lengths > 1) & (rows.lengths <= HISTORY)
    return _up_to(rows, np.append(long, rows.offsets[1:][short] - 1), n_items)


def _up_to(rows: RaggedArray, ends: np.ndarray, n_items: int) -> np.ndarray:
    """The last 19 + 1 items of a row up to each of the places `ends` in `rows.values`, left-padded with n_items."""
    long = np.pad(rows.values, (HISTORY, 1), constant_values=n_items)
    table = sliding_window_view(long, HISTORY + 1)[ends]
    table[np.arange(HISTORY + 1) < HISTORY - rows.places()[ends, None]] = n_items
    return table


def padded(rows: Sequence[np.ndarray], length: int, n_items: int) -> np.ndarray:
    """The last `length` of each row, left-padded with n_items, int64 (rows, length)."""
    table = np.full((len(rows), length), n_items, dtype=np.int64)
    for number, row in enumerate(rows):
        if len(tail := row[-length:]):
            table[number, length - len(tail) :] = tail
    return table
