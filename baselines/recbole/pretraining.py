"""What S3Rec's pre-training draws from a batch: masked items, their features, and segments.

RecBole draws the same in Python lists, item by item and feature by feature, which takes far longer than the network;
and as a negative item it may draw the mask itself. The losses are RecBole's own. Runs in the worker's process.
"""

from __future__ import annotations

import torch

from baselines.recbole.samples import padded_left


class PretrainingData:
    """Takes the place of RecBole's `S3Rec.reconstruct_pretrain_data`. `table`, float32 (n_items + 1, n_features): 1
    where an item has a feature. The mask has the number `n_items`; real items are 1 … n_items - 1."""

    def __init__(self, table: torch.Tensor, mask_ratio: float) -> None:
        self.table, self.mask_ratio = table, mask_ratio
        self.mask = len(table) - 1

    def __call__(self, rows: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features (B, L, n_features) and six rows (B, L) of items: masked ones, true ones, negative ones; then with a
        segment masked, that segment alone, and a segment from elsewhere in the batch in its place."""
        rows = padded_left(rows, lengths)
        real = rows != 0
        masked = real & (torch.rand(rows.shape, device=rows.device) < self.mask_ratio)
        negative = torch.where(masked, self._others(rows), rows)
        segments = self._segments(rows, real, lengths)
        return self.table[rows], rows.masked_fill(masked, self.mask), rows, negative, *segments

    def _others(self, rows: torch.Tensor) -> torch.Tensor:
        """For each place an item that its row lacks (or any, after a few draws, where a row has nearly all of them)."""
        drawn = torch.randint(1, self.mask, rows.shape, device=rows.device)
        for _ in range(8):
            bad = (drawn[:, :, None] == rows[:, None, :]).any(2)
            if not bad.any():
                break
            drawn = torch.where(bad, torch.randint(1, self.mask, rows.shape, device=rows.device), drawn)
        return drawn

    def _segments(
        self, rows: torch.Tensor, real: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A segment has 1 … length // 2 items; a row of one item stays as it is, in all three."""
        place = torch.arange(rows.shape[1], device=rows.device) - (rows.shape[1] - lengths)[:, None]
        sizes = _below((lengths // 2).clamp(min=1)) + 1
        starts = _below(lengths - sizes + 1)
        inside = real & (place >= starts[:, None]) & (place < (starts + sizes)[:, None]) & (lengths > 1)[:, None]
        every = rows[real]
        elsewhere = _below(len(every) - sizes + 1)[:, None] + (place - starts[:, None])
        others = every[torch.where(inside, elsewhere, 0)]
        outside = torch.where(real & (lengths > 1)[:, None], self.mask, rows)
        own, other = (torch.where(inside, segment, outside) for segment in (rows, others))
        return rows.masked_fill(inside, self.mask), own, other


def _below(limits: torch.Tensor) -> torch.Tensor:
    """A whole number from 0 to below each limit."""
    return (torch.rand(limits.shape, device=limits.device) * limits).long().clamp(max=limits - 1)
