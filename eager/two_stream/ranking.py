"""EAGER's ranking: each stream generates items by beam search, and the union is ranked by confidence.

The confidence of an item is the mean log-probability of its tokens: of its codes of both streams (`both`, as in the
released code), or of the code in the stream that generated it, the more confident one where both did (`own`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from eager.two_stream.network import Stream
from harness.generative.models.precision import to_float64
from harness.generative.models.readers import PromptBatch
from harness.protocol.predictions import NO_ITEM

ENTRIES = 1 << 24  # logits of a level that are computed at once


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
    again = np.zeros(items.shape, dtype=bool)
    again[:, 1:] = items[:, 1:] == items[:, :-1]
    items, values = np.where(again, NO_ITEM, items), np.where(again, -np.inf, values)
    order = np.argsort(items, axis=1, kind="stable")
    most = int((items != NO_ITEM).sum(axis=1).max(initial=0))
    items, values = (np.take_along_axis(part, order, axis=1) for part in (items, values))
    return items[:, items.shape[1] - most :], values[:, values.shape[1] - most :]


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
    most = max(1, ENTRIES // (users * max(stream.sizes)))
    reader = stream.reader((), prompts.ids.shape[1], stream.levels * min(most, items.shape[1]))
    start = reader.prefill(prompts)
    parts = []
    for begin in range(0, items.shape[1], most):
        own = torch.from_numpy(items[:, begin : begin + most].clip(min=0)).to(device)
        tokens, count = stream.tokens(own), own.shape[1]
        states, parents = start.expand(-1, count, -1), torch.full_like(own, -1)
        total = torch.zeros(own.shape, device=device)
        reader.reset()
        for level in range(stream.levels):
            total = total - stream.costs(states.flatten(0, 1), own.flatten(), level).view(users, count)
            if level + 1 < stream.levels:
                states = reader.extend(tokens[..., level], parents)
                parents = torch.arange(level * count, (level + 1) * count, device=device).expand(users, -1)
        parts.append(to_float64(total).cpu().numpy())
    return np.concatenate(parts, axis=1)
