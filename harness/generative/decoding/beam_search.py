"""Search over item codes along their trie, by beams or exhaustively; results are always existing items.

This module defines scores and the selection of prefixes; `harness/generative/models/readers.py` computes the states.
The state of the constraint is a node of the trie, its depth the number of generated tokens. Generation settings of a
model are not used.

Exhaustive search scores every item exactly: blocks of neighbouring leaves of the trie are scored together, and within a
block each prefix is computed once. Memory grows with the size of a block, and with one score a code and user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from harness.generative.config import ScoreNormalization
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.encoder_decoder import CodeT5
from harness.generative.models.precision import to_float64
from harness.generative.models.readers import PromptBatch, Reader
from harness.generative.trie import Children, CodeTrie
from harness.protocol.predictions import NO_ITEM

MINUS = float("-inf")
ENTRIES = 1 << 22  # logits and candidates processed at once, which bounds the memory of a step
TOKENS = 1024  # exhaustive search: tokens of all users in one pass (approximate)
MIN_BLOCK, MAX_BLOCK = 64, 128  # exhaustive search: codes of a block; small blocks recompute more prefixes


Decodable = CodeLM | CodeT5  # models that generate item codes


@dataclass(frozen=True)
class Search:
    """A model, its item codes and their score."""

    model: Decodable
    trie: CodeTrie
    reader: Reader
    normalise: ScoreNormalization = "level"

    def tokens(self, depth: int, nodes: torch.Tensor) -> torch.Tensor:
        """Ids of the tokens that lead to nodes of this depth."""
        return self.trie.digit[depth][nodes] + (self.model.vocabulary + self.model.offsets[depth - 1])

    def log_probabilities(self, states: torch.Tensor, level: int, children: Children) -> torch.Tensor:
        """log-probabilities of the tokens that lead to `children`, (batch, most), given the `states` (batch, beams,
        width) of the beams. Padding (not `real`) has undefined values."""
        logits = self.model.level_logits(states, level)
        digits = self.trie.digit[level + 1][children.node]
        selected = logits.flatten(1).gather(1, children.beam * logits.shape[-1] + digits)
        if self.normalise == "level":
            total = logits.logsumexp(dim=-1)
        elif self.normalise == "children":
            total = _among_siblings(selected, children, states.shape[1])
        else:
            total = self.model.vocabulary_logsumexp(states)
        return selected - total.gather(1, children.beam)

    def log_end(self, states: torch.Tensor) -> torch.Tensor:
        """log-probability of the end of the response after a complete code, if it is part of the score."""
        return self.model.eos_logits(states) - self.model.vocabulary_logsumexp(states)


@dataclass
class _Beams:
    """Live beams of a batch, best first: trie nodes and scores (batch, beams), and the index of each beam's last token
    among all appended tokens; `keys`, by which a sample is selected instead of by scores. Rows with fewer beams are
    padded with scores and keys of -inf."""

    nodes: torch.Tensor
    scores: torch.Tensor
    token: torch.Tensor
    keys: torch.Tensor | None = None


Viewed = Sequence[np.ndarray]  # items excluded from the list of each row


@torch.inference_mode()
def beam_search(
    search: Search, prompts: PromptBatch, beams: int, k: int, viewed: Viewed | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best items for each prompt, shape (batch, k), padded with `NO_ITEM`, and their scores.

    A score is the sum of the log-probabilities of the code's tokens, normalised as in `ScoreNormalization`. Ties keep
    the order of their beams, and of the trie. With `viewed` prefixes that lead to viewed items only are excluded;
    scores do not change.
    """
    nodes, scores = search_codes(search, prompts, beams, viewed)
    return items_at(search.trie, nodes, scores, k, viewed)


@torch.inference_mode()
def search_codes(
    search: Search, prompts: PromptBatch, beams: int, viewed: Viewed | None = None, *, sampled: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The leaves of up to `beams` codes for each prompt and their scores, (batch, codes), best first, with scores of
    -inf behind a shorter list. `sampled`: the codes are drawn by their probability, without replacement, in the order
    of the draws (stochastic beam search, Kool et al., ICML 2019); this needs `normalise="children"`."""
    assert not sampled or search.normalise == "children", "a sample needs probabilities that sum to one"
    covered = None if viewed is None else search.trie.covered(viewed)
    states = search.reader.prefill(prompts)
    batch, device = len(states), states.device
    start, zeros = torch.zeros(batch, 1, dtype=torch.int64, device=device), torch.zeros(batch, 1, device=device)
    live, grown = _Beams(start, zeros, start - 1, zeros if sampled else None), 0
    for level in range(search.trie.levels):
        if level:
            states, grown = _grow(search, live, level, grown)
        _extend(search, live, states, beams, level, None if covered is None else covered[level])
    if search.normalise == "vocabulary":
        states, _ = _grow(search, live, search.trie.levels, grown)
        live.scores, order = _best(live.scores + search.log_end(states), live.nodes.shape[1])
        live.nodes = live.nodes.gather(1, order)
    return live.nodes, live.scores


def _grow(search: Search, live: _Beams, depth: int, grown: int) -> tuple[torch.Tensor, int]:
    """States of the beams' last tokens, and the new number of appended tokens."""
    states = search.reader.extend(search.tokens(depth, live.nodes), live.token)
    width = live.nodes.shape[1]
    live.token = torch.arange(grown, grown + width, device=states.device).expand(len(states), width)
    return states, grown + width


def _extend(
    search: Search, live: _Beams, states: torch.Tensor, beams: int, level: int, covered: torch.Tensor | None
) -> None:
    """Replaces the beams of each user by the best of their children, without those `covered` (batch, nodes of the next
    depth); as many users at once as memory allows."""
    widest = int(search.trie.fan(level, live.nodes).sum(dim=1).max())
    users = max(1, ENTRIES // max(widest, states.shape[1] * search.model.sizes[level]))
    parts = []
    for begin in range(0, len(states), users):
        rows = slice(begin, begin + users)
        keys, mask = (None if part is None else part[rows] for part in (live.keys, covered))
        subset = _Beams(live.nodes[rows], live.scores[rows], live.token[rows], keys)
        parts.append(_extend_some(search, subset, states[rows], beams, level, mask))
    longest = max(part.nodes.shape[1] for part in parts)
    sampled = () if live.keys is None else (("keys", MINUS),)
    for name, filler in (("nodes", 0), ("scores", MINUS), ("token", 0), *sampled):
        columns = [getattr(part, name) for part in parts]
        padded = [torch.nn.functional.pad(c, (0, longest - c.shape[1]), value=filler) for c in columns]
        setattr(live, name, torch.cat(padded))


def _extend_some(
    search: Search, live: _Beams, states: torch.Tensor, beams: int, level: int, covered: torch.Tensor | None
) -> _Beams:
    children = search.trie.children(level, live.nodes)
    logs = search.log_probabilities(states, level, children)
    real = children.real if covered is None else children.real & ~covered.gather(1, children.node)
    scores = (live.scores.gather(1, children.beam) + logs).masked_fill(~real, MINUS)
    keys = None
    if live.keys is None:
        scores, selected = _best(scores, beams)
    else:
        keys, selected = _best(_drawn(scores, live.keys, children), beams)
        scores = scores.gather(1, selected)
    token = live.token.gather(1, children.beam.gather(1, selected))
    return _Beams(children.node.gather(1, selected), scores, token, keys)


def _drawn(scores: torch.Tensor, keys: torch.Tensor, children: Children) -> torch.Tensor:
    """Keys of the children, (batch, most): Gumbel variables at their scores, given that the largest one among siblings
    is the key of their beam (Kool et al., appendix B.3). The largest keys of all codes are a sample without
    replacement."""
    noisy = scores - torch.empty_like(scores).exponential_().log()
    limit = noisy.new_full(keys.shape, MINUS).scatter_reduce(1, children.beam, noisy, "amax").gather(1, children.beam)
    parent = keys.gather(1, children.beam)
    gap = parent - noisy + torch.log1p(-(noisy - limit).exp())
    drawn = parent - gap.clamp(min=0) - torch.log1p((-gap.abs()).exp())
    return drawn.masked_fill(scores == MINUS, MINUS)


def _best(scores: torch.Tensor, beams: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest values of each row, best first, ties by position: a stable sort, without sorting all values."""
    count = min(beams, scores.shape[1])
    if 4 * count < scores.shape[1]:
        values, places = scores.topk(count, dim=1)
        if bool(((scores >= values[:, -1:]).sum(dim=1) == count).all()):  # no tie with the last one is left out
            places = places.sort(dim=1).values
            order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
            return order.values, places.gather(1, order.indices)
    order = scores.sort(dim=1, descending=True, stable=True)
    return order.values[:, :count], order.indices[:, :count]


def _among_siblings(selected: torch.Tensor, children: Children, beams: int) -> torch.Tensor:
    """log Σ exp over the children of each beam, (batch, beams)."""
    logits = selected.masked_fill(~children.real, MINUS)
    limit = logits.new_full((len(logits), beams), MINUS).scatter_reduce(1, children.beam, logits, "amax")
    limit = limit.clamp(min=torch.finfo(logits.dtype).min)
    parts = (logits - limit.gather(1, children.beam)).exp()
    return limit + torch.zeros_like(limit).scatter_add(1, children.beam, parts).log()


def items_at(
    trie: CodeTrie, leaves: torch.Tensor, scores: torch.Tensor, k: int, viewed: Viewed | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Items of codes: a code gives all its items except the viewed ones, in their declared order, with its score."""
    values = to_float64(scores).cpu().numpy()
    nodes = leaves.cpu().numpy()
    items = np.full((len(values), k), NO_ITEM)
    item_scores = np.zeros((len(values), k))
    single = trie.single_items()
    for row, (row_nodes, row_values) in enumerate(zip(nodes, values, strict=True)):
        real = row_values > MINUS
        owners = (
            [trie.items_of(int(leaf)) for leaf in row_nodes[real]]
            if single is None
            else single[row_nodes[real]][:, None]
        )
        if single is None and viewed is not None:
            owners = [owner[~np.isin(owner, viewed[row])] for owner in owners]
        listed = np.concatenate([*owners])[:k] if len(owners) else np.empty(0, np.int64)
        items[row, : len(listed)] = listed
        item_scores[row, : len(listed)] = np.repeat(row_values[real], [len(owner) for owner in owners])[: len(listed)]
    return items, item_scores


@torch.inference_mode()
def score_all(search: Search, prompts: PromptBatch, block: int | None = None) -> torch.Tensor:
    """The score of every code in the order of the trie, (batch, codes). `block`: number of codes scored together; None:
    by the size of the batch."""
    start = search.reader.prefill(prompts)
    size = block or min(max(MIN_BLOCK, TOKENS // len(start)), MAX_BLOCK)
    codes = search.trie.codes
    parts = []
    for begin in range(0, codes, size):
        search.reader.reset()
        parts.append(_score_block(search, start, range(begin, min(begin + size, codes))))
    return torch.cat(parts, dim=1)


def _score_block(search: Search, start: torch.Tensor, leaves: range) -> torch.Tensor:
    """Scores of neighbouring codes, (batch, leaves), level by level."""
    batch, device = len(start), start.device
    spans = search.trie.spans(leaves)
    states, scores = start, torch.zeros(batch, 1, device=device)
    token = torch.full((1,), -1, device=device)
    grown = 0
    for level in range(search.trie.levels):
        above, below = spans[level], spans[level + 1]
        if level:
            states, token, grown = _exhaustive_grow(search, level, above, token, batch, grown)
        fan = search.trie.children(level, torch.arange(above.start, above.stop, device=device)[None])
        children = Children(*(part.expand(batch, -1) for part in (fan.node, fan.beam, fan.real)))
        logs = scores.gather(1, children.beam) + search.log_probabilities(states, level, children)
        low = below.start - int(fan.node[0, 0])  # without children of neighbouring blocks
        scores = logs[:, low : low + len(below)]
        token = token[fan.beam[0, low : low + len(below)]]
    if search.normalise == "vocabulary":
        states, _, _ = _exhaustive_grow(search, search.trie.levels, spans[-1], token, batch, grown)
        scores = scores + search.log_end(states)
    return scores


def _exhaustive_grow(
    search: Search, depth: int, nodes: range, parents: torch.Tensor, batch: int, grown: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """States of all nodes of a block at one depth, the indices of their tokens, and the number of appended tokens."""
    ids = search.tokens(depth, torch.arange(nodes.start, nodes.stop, device=parents.device))
    states = search.reader.extend(ids.expand(batch, -1), parents.expand(batch, -1))
    return states, torch.arange(grown, grown + len(nodes), device=parents.device), grown + len(nodes)


def rank_all(
    search: Search, prompts: PromptBatch, k: int, viewed: Viewed | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best items for each prompt as in `beam_search`, exactly."""
    scores = score_all(search, prompts)
    if viewed is not None:
        scores = scores.masked_fill(search.trie.covered(viewed)[-1], MINUS)
    order = scores.sort(dim=1, descending=True, stable=True)
    return items_at(search.trie, order.indices[:, :k], order.values[:, :k], k, viewed)
