"""SASRec (Kang & McAuley, ICDM 2018) as behaviour encoder, with softmax over the catalogue at every position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.nn import functional

from eager.index_config import BehaviorConfig
from harness.data.ragged import RaggedArray


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
