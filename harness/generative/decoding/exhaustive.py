"""Every item of a catalogue scored exactly: no beam, nothing lost.

The trie is walked in pieces of neighbouring codes; within a piece each prefix is computed once for all codes that begin
with it, and a prefix that two pieces share once in each. Memory grows with a piece, and with one score a code and user.
"""

from __future__ import annotations

import numpy as np
import torch

from harness.generative.decoding.beam_search import Search, items_at
from harness.generative.models.readers import PromptBatch
from harness.generative.trie import Children

TOKENS = 1024  # about how many tokens of all users are computed in one pass
FEWEST, MOST = 64, 128  # codes of a piece: fewer would read many prefixes twice, more would look far for nothing


@torch.inference_mode()
def score_all(search: Search, prompts: PromptBatch, piece: int | None = None) -> torch.Tensor:
    """The score of every code in the order of the trie, (batch, codes), as the search scores it. `piece`: codes that
    are walked together; None: by the size of the batch."""
    begun = search.reader.begin(prompts)
    size = piece or min(max(FEWEST, TOKENS // len(begun)), MOST)
    codes = search.trie.codes
    parts = []
    for begin in range(0, codes, size):
        search.reader.rewind()
        parts.append(_score_piece(search, begun, range(begin, min(begin + size, codes))))
    return torch.cat(parts, dim=1)


def _score_piece(search: Search, begun: torch.Tensor, leaves: range) -> torch.Tensor:
    """Scores of neighbouring codes, (batch, leaves), level by level."""
    batch, device = len(begun), begun.device
    spans = search.trie.spans(leaves)
    states, scores = begun, torch.zeros(batch, 1, device=device)
    token = torch.full((1,), -1, device=device)
    grown = 0
    for level in range(search.trie.levels):
        above, below = spans[level], spans[level + 1]
        if level:
            states, token, grown = _grow(search, level, above, token, batch, grown)
        every = search.trie.children(level, torch.arange(above.start, above.stop, device=device)[None])
        children = Children(*(part.expand(batch, -1) for part in (every.node, every.beam, every.real)))
        logs = scores.gather(1, children.beam) + search.log_probabilities(states, level, children)
        low = below.start - int(every.node[0, 0])  # children that a neighbouring piece walks are left out
        scores = logs[:, low : low + len(below)]
        token = token[every.beam[0, low : low + len(below)]]
    if search.normalise == "vocabulary":
        states, _, _ = _grow(search, search.trie.levels, spans[-1], token, batch, grown)
        scores = scores + search.log_end(states)
    return scores


def _grow(
    search: Search, depth: int, nodes: range, parents: torch.Tensor, batch: int, grown: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """States of all nodes of a piece at one depth; the numbers of their tokens, and how many are grown now."""
    ids = search.tokens(depth, torch.arange(nodes.start, nodes.stop, device=parents.device))
    states = search.reader.grow(ids.expand(batch, -1), parents.expand(batch, -1))
    return states, torch.arange(grown, grown + len(nodes), device=parents.device), grown + len(nodes)


def rank_all(search: Search, prompts: PromptBatch, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best items for each prompt as `beam_search` gives them, with nothing lost."""
    scores = score_all(search, prompts)
    order = scores.sort(dim=1, descending=True, stable=True)
    return items_at(search.trie, order.indices[:, :k], order.values[:, :k], k)
