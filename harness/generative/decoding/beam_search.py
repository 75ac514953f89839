"""Trie-constrained search over item codes: emits real items only, by beams or by all items.

Owns what a score is and which prefixes stay alive; how a model reads is `reading.py`'s business. The constraint's state
is a node of the trie, its depth the number of generated tokens, never a text match. No generation settings are read.

Every item of a catalogue scored exactly: no beam, nothing lost.

The trie is walked in pieces of neighbouring codes; within a piece each prefix is computed once for all codes that begin
with it, and a prefix that two pieces share once in each. Memory grows with a piece, and with one score a code and user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import numpy as np
import torch

from harness.generative.config import ScoreNormalization
from harness.generative.models.precision import to_float64
from harness.generative.models.readers import PromptBatch, Reader
from harness.generative.trie import Children, CodeTrie
from harness.protocol.predictions import NO_ITEM

MINUS = float("-inf")


ENTRIES = 1 << 22  # logits and candidates that are looked at in one piece: what bounds the memory of a step


class CodeScorer(Protocol):
    """What the search asks of a model beside its states: `CodeLM` and `CodeT5` give it."""

    vocabulary: int
    eos: int
    sizes: tuple[int, ...]
    offsets: list[int]

    def level_logits(self, states: torch.Tensor, level: int) -> torch.Tensor: ...

    def eos_logits(self, states: torch.Tensor) -> torch.Tensor: ...

    def vocabulary_logsumexp(self, states: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Search:
    """A model, its codes and how they are scored."""

    model: CodeScorer
    trie: CodeTrie
    reader: Reader
    normalise: ScoreNormalization = "level"

    def tokens(self, depth: int, nodes: torch.Tensor) -> torch.Tensor:
        """Ids of the tokens that lead to nodes of this depth."""
        return self.trie.digit[depth][nodes] + (self.model.vocabulary + self.model.offsets[depth - 1])

    def log_probabilities(self, states: torch.Tensor, level: int, children: Children) -> torch.Tensor:
        """Of the tokens that lead to `children`, (batch, most), behind the beams whose `states` (batch, beams, width)
        are given. What is not real holds any number."""
        logits = self.model.level_logits(states, level)
        digits = self.trie.digit[level + 1][children.node]
        chosen = logits.flatten(1).gather(1, children.beam * logits.shape[-1] + digits)
        if self.normalise == "level":
            total = logits.logsumexp(dim=-1)
        elif self.normalise == "children":
            total = _among_siblings(chosen, children, states.shape[1])
        else:
            total = self.model.vocabulary_logsumexp(states)
        return chosen - total.gather(1, children.beam)

    def log_end(self, states: torch.Tensor) -> torch.Tensor:
        """log-probability that the response ends behind a whole code, where the score has such a term."""
        return self.model.eos_logits(states) - self.model.vocabulary_logsumexp(states)


@dataclass
class _Beams:
    """Live beams of a batch, best first: trie nodes and scores (batch, beams), the number of each one's own token among
    all grown tokens. A row short of beams is filled with scores of -inf."""

    nodes: torch.Tensor
    scores: torch.Tensor
    token: torch.Tensor


Viewed = Sequence[np.ndarray]  # items that a row's list may not name


@torch.inference_mode()
def beam_search(
    search: Search, prompts: PromptBatch, beams: int, k: int, viewed: Viewed | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best items for each prompt, shape (batch, k), `NO_ITEM` behind a short list, and their scores.

    A score is the sum of the log-probabilities of the code's tokens, as `ScoreNormalization` says. Equal scores keep
    the order of their beams, and of the trie. With `viewed` no beam is spent on a prefix that leads to viewed items
    alone; scores stay as they are.
    """
    covered = None if viewed is None else search.trie.covered(viewed)
    states = search.reader.prefill(prompts)
    batch, device = len(states), states.device
    start = torch.zeros(batch, 1, dtype=torch.int64, device=device)
    live, grown = _Beams(start, torch.zeros(batch, 1, device=device), start - 1), 0
    for level in range(search.trie.levels):
        if level:
            states, grown = _grow(search, live, level, grown)
        _extend(search, live, states, beams, level, None if covered is None else covered[level])
    if search.normalise == "vocabulary":
        states, _ = _grow(search, live, search.trie.levels, grown)
        live.scores, order = _best(live.scores + search.log_end(states), live.nodes.shape[1])
        live.nodes = live.nodes.gather(1, order)
    return items_at(search.trie, live.nodes, live.scores, k, viewed)


def _grow(search: Search, live: _Beams, depth: int, grown: int) -> tuple[torch.Tensor, int]:
    """States of the beams' last tokens, and how many tokens are grown now."""
    states = search.reader.extend(search.tokens(depth, live.nodes), live.token)
    width = live.nodes.shape[1]
    live.token = torch.arange(grown, grown + width, device=states.device).expand(len(states), width)
    return states, grown + width


def _extend(
    search: Search, live: _Beams, states: torch.Tensor, beams: int, level: int, covered: torch.Tensor | None
) -> None:
    """Keeps the best children of all beams of a user but those `covered` (batch, nodes of the next depth); looks at as
    many users at once as memory allows."""
    widest = int(search.trie.fan(level, live.nodes).sum(dim=1).max())
    users = max(1, ENTRIES // max(widest, states.shape[1] * search.model.sizes[level]))
    parts = [
        _extend_some(search, _Beams(nodes, scores, token), tensor, beams, level, mask)
        for nodes, scores, token, tensor, mask in zip(
            live.nodes.split(users),
            live.scores.split(users),
            live.token.split(users),
            states.split(users),
            repeat(None) if covered is None else covered.split(users),
            strict=covered is not None,
        )
    ]
    saved = max(part.nodes.shape[1] for part in parts)
    for name, filler in (("nodes", 0), ("scores", MINUS), ("token", 0)):
        columns = [getattr(part, name) for part in parts]
        padded = [torch.nn.functional.pad(c, (0, saved - c.shape[1]), value=filler) for c in columns]
        setattr(live, name, torch.cat(padded))


def _extend_some(
    search: Search, live: _Beams, states: torch.Tensor, beams: int, level: int, covered: torch.Tensor | None
) -> _Beams:
    children = search.trie.children(level, live.nodes)
    logs = search.log_probabilities(states, level, children)
    real = children.real if covered is None else children.real & ~covered.gather(1, children.node)
    scores = (live.scores.gather(1, children.beam) + logs).masked_fill(~real, MINUS)
    scores, chosen = _best(scores, beams)
    return _Beams(children.node.gather(1, chosen), scores, live.token.gather(1, children.beam.gather(1, chosen)))


def _best(scores: torch.Tensor, beams: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each row, best first, equal ones by place: what a stable sort gives, without sorting it all."""
    saved = min(beams, scores.shape[1])
    if 4 * saved < scores.shape[1]:
        values, places = scores.topk(saved, dim=1)
        if bool(((scores >= values[:, -1:]).sum(dim=1) == saved).all()):  # nothing equal to the last one is left out
            places = places.sort(dim=1).values
            order = scores.gather(1, places).sort(dim=1, descending=True, stable=True)
            return order.values, places.gather(1, order.indices)
    order = scores.sort(dim=1, descending=True, stable=True)
    return order.values[:, :saved], order.indices[:, :saved]


def _among_siblings(chosen: torch.Tensor, children: Children, beams: int) -> torch.Tensor:
    """log Σ exp over each beam's own children, (batch, beams)."""
    logits = chosen.masked_fill(~children.real, MINUS)
    limit = logits.new_full((len(logits), beams), MINUS).scatter_reduce(1, children.beam, logits, "amax")
    limit = limit.clamp(min=torch.finfo(logits.dtype).min)
    parts = (logits - limit.gather(1, children.beam)).exp()
    return limit + torch.zeros_like(limit).scatter_add(1, children.beam, parts).log()


def items_at(
    trie: CodeTrie, leaves: torch.Tensor, scores: torch.Tensor, k: int, viewed: Viewed | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes to items: a shared code gives all its items but the viewed ones, in their declared order, at its score."""
    values = to_float64(scores).cpu().numpy()
    nodes = leaves.cpu().numpy()
    items = np.full((len(values), k), NO_ITEM)
    saved = np.zeros((len(values), k))
    single = trie.single_items()
    for row, (result, value) in enumerate(zip(nodes, values, strict=True)):
        real = value > MINUS
        owners = (
            [trie.items_of(int(leaf)) for leaf in result[real]] if single is None else single[result[real]][:, None]
        )
        if single is None and viewed is not None:
            owners = [owner[~np.isin(owner, viewed[row])] for owner in owners]
        listed = np.concatenate([*owners])[:k] if len(owners) else np.empty(0, np.int64)
        items[row, : len(listed)] = listed
        saved[row, : len(listed)] = np.repeat(value[real], [len(owner) for owner in owners])[: len(listed)]
    return items, saved


TOKENS = 1024  # about how many tokens of all users are computed in one pass


FEWEST, MOST = 64, 128  # codes of a piece: fewer would read many prefixes twice, more would look far for nothing


@torch.inference_mode()
def score_all(search: Search, prompts: PromptBatch, piece: int | None = None) -> torch.Tensor:
    """The score of every code in the order of the trie, (batch, codes), as the search scores it. `piece`: codes that
    are walked together; None: by the size of the batch."""
    start_time = search.reader.prefill(prompts)
    size = piece or min(max(FEWEST, TOKENS // len(start_time)), MOST)
    codes = search.trie.codes
    parts = []
    for begin in range(0, codes, size):
        search.reader.reset()
        parts.append(_score_piece(search, start_time, range(begin, min(begin + size, codes))))
    return torch.cat(parts, dim=1)


def _score_piece(search: Search, start_time: torch.Tensor, leaves: range) -> torch.Tensor:
    """Scores of neighbouring codes, (batch, leaves), level by level."""
    batch, device = len(start_time), start_time.device
    spans = search.trie.spans(leaves)
    states, scores = start_time, torch.zeros(batch, 1, device=device)
    token = torch.full((1,), -1, device=device)
    grown = 0
    for level in range(search.trie.levels):
        above, below = spans[level], spans[level + 1]
        if level:
            states, token, grown = _exhaustive_grow(search, level, above, token, batch, grown)
        every = search.trie.children(level, torch.arange(above.start, above.stop, device=device)[None])
        children = Children(*(part.expand(batch, -1) for part in (every.node, every.beam, every.real)))
        logs = scores.gather(1, children.beam) + search.log_probabilities(states, level, children)
        low = below.start - int(every.node[0, 0])  # children that a neighbouring piece walks are left out
        scores = logs[:, low : low + len(below)]
        token = token[every.beam[0, low : low + len(below)]]
    if search.normalise == "vocabulary":
        states, _, _ = _exhaustive_grow(search, search.trie.levels, spans[-1], token, batch, grown)
        scores = scores + search.log_end(states)
    return scores


def _exhaustive_grow(
    search: Search, depth: int, nodes: range, parents: torch.Tensor, batch: int, grown: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """States of all nodes of a piece at one depth; the numbers of their tokens, and how many are grown now."""
    ids = search.tokens(depth, torch.arange(nodes.start, nodes.stop, device=parents.device))
    states = search.reader.extend(ids.expand(batch, -1), parents.expand(batch, -1))
    return states, torch.arange(grown, grown + len(nodes), device=parents.device), grown + len(nodes)


def rank_all(
    search: Search, prompts: PromptBatch, k: int, viewed: Viewed | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best items for each prompt as `beam_search` gives them, with nothing lost."""
    scores = score_all(search, prompts)
    if viewed is not None:
        scores = scores.masked_fill(search.trie.covered(viewed)[-1], MINUS)
    order = scores.sort(dim=1, descending=True, stable=True)
    return items_at(search.trie, order.indices[:, :k], order.values[:, :k], k, viewed)
