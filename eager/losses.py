"""What a step costs: response-only cross-entropy of codes and text, and the contrastive term on their summary states.

Code tokens are normalised over their level, as the search scores them; text over the backbone's own vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from eager.contrast import Contrast
from eager.prompts import IGNORED, Prompts, Sample, padded
from harness.generative.code_lm import CodeLM


@dataclass(frozen=True)
class Losses:
    """Computes losses of one model on one device; without `contrast` the term is left out."""

    model: CodeLM
    prompts: Prompts
    contrast: Contrast | None
    device: str

    def windows(self, windows: Sequence[np.ndarray], template: int, drawn: np.ndarray) -> torch.Tensor:
        """Every item of each window but the first is a response to the items before it: mean over code tokens."""
        lead = self.prompts.lead(template)
        levels = self.prompts.codes.shape[1]
        longest = max(len(window) for window in windows)
        ids = np.zeros((len(windows), len(lead) + longest * levels), dtype=np.int64)
        ids[:, : len(lead)] = lead
        items = np.zeros((len(windows), longest), dtype=np.int64)
        real = np.zeros((len(windows), longest), dtype=bool)
        for row, window in enumerate(windows):
            codes = self.prompts.codes[window].reshape(-1)
            ids[row, len(lead) : len(lead) + len(codes)] = codes
            items[row, : len(window)], real[row, : len(window)] = window, True
        states = self.model.states(self._tensor(ids))
        # The state before a code token predicts it; the state at the last token of an item sums it up.
        before = states[:, len(lead) - 1 : -1].unflatten(1, (longest, levels))
        summary = states[:, len(lead) + levels - 1 :: levels]
        real[:, 0] = False  # the first item is context only
        mask = self._tensor(real)
        targets = self._tensor(items)[mask]
        digits = self._tensor(self.prompts.codes)[targets] - self.model.vocabulary
        loss = self._code_loss(before[mask], digits)
        return loss + self._contrast(summary[mask], targets, drawn)

    def rows(self, samples: Sequence[Sample], drawn: np.ndarray) -> torch.Tensor:
        """Mean over response tokens of item→code or code→item samples (all of one kind)."""
        ids, labels = padded(samples)
        states = self.model.states(self._tensor(ids))
        levels = self.prompts.codes.shape[1]
        if samples[0].item is None:
            mask = labels[:, 1:] != IGNORED
            logits = self.model.text_logits(states[:, :-1][self._tensor(mask)])
            return functional.cross_entropy(logits, self._tensor(labels[:, 1:][mask]))
        ends = np.array([len(sample.ids) - 1 for sample in samples])
        place = self._tensor(ends[:, None] - levels + np.arange(levels))  # of the token before each code token
        row = torch.arange(len(samples), device=self.device)[:, None]
        items = self._tensor(np.array([sample.item for sample in samples]))
        digits = self._tensor(self.prompts.codes)[items] - self.model.vocabulary
        loss = self._code_loss(states[row, place], digits)
        return loss + self._contrast(states[row[:, 0], self._tensor(ends)], items, drawn)

    def _code_loss(self, states: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        """`states` (n, levels, width) against flat code numbers (n, levels)."""
        parts = [
            functional.cross_entropy(self.model.level_logits(states[:, level], level), flat[:, level] - offset)
            for level, offset in enumerate(self.model.offsets[:-1])
        ]
        return torch.stack(parts).mean()

    def _contrast(self, states: torch.Tensor, items: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        if self.contrast is None:
            return states.new_zeros((), dtype=torch.float32)
        return self.contrast(states, items, self._tensor(drawn))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, device=self.device)
