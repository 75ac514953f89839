"""Trie-constrained beam search over item codes: emits real items only, and computes a user's prompt once.

All beams of a user stand as tokens of one sequence behind the prompt. A mask lets each see the prompt and its own
ancestors, its position is the prompt's length plus the number of tokens generated, so that keys and values are shared
and never copied or re-ordered. The constraint's state is a node of the trie, never a text match. The model's own
generation settings are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from harness.generative.code_lm import CodeLM
from harness.generative.scoring import Normalise
from harness.generative.trie import CodeTrie
from harness.protocol.predictions import NOBODY

MINUS = float("-inf")


@dataclass
class _Beams:
    """Live beams of a batch: trie node and log-probability (batch, beams), and the mask over the generated tokens."""

    nodes: np.ndarray
    scores: torch.Tensor
    seen: torch.Tensor  # (batch, beams, generated so far): which generated tokens a beam's own past holds


@torch.inference_mode()
def beam_search(
    model: CodeLM, trie: CodeTrie, prompts: torch.Tensor, beams: int, k: int, normalise: Normalise = "level"
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` best items for each prompt, shape (batch, k), `NOBODY` behind a short list, and their scores.

    `prompts` is (batch, length), all of one length. A score is the sum of the log-probabilities of the code's tokens:
    over all tokens of a level, taken before the trie's mask (`level`), or over those that lead on to a real code
    (`children`), so that a token without an alternative costs nothing. Equal scores keep the trie's order.
    """
    batch, length = prompts.shape
    cache: Any = DynamicCache(config=model.body.config)
    states = model.states(prompts, past_key_values=cache, use_cache=True)[:, -1:]
    live = _Beams(
        np.zeros((batch, 1), dtype=np.int64), torch.zeros(batch, 1, device=prompts.device), states.new_zeros(0)
    )
    for level in range(trie.levels):
        if level:
            states = _step(model, live, trie.digit[level], level, length, cache)
        parents = _extend(live, trie, level, model.level_logits(states, level), beams, normalise)
        live.seen = _inherit(live, parents, level)
    return _items(live, trie, k)


def _step(model: CodeLM, live: _Beams, digit: np.ndarray, level: int, length: int, cache: Any) -> torch.Tensor:
    """States of the beams' last tokens, (batch, beams, width)."""
    batch, width = live.nodes.shape
    device = live.scores.device
    tokens = torch.from_numpy(digit[live.nodes]).to(device) + model.vocabulary + model.offsets[level - 1]
    visible = torch.cat([torch.ones(batch, width, length, dtype=torch.bool, device=device), live.seen], dim=-1)
    positions = torch.full((batch, width), length + level - 1, device=device)
    return model.states(
        tokens, attention_mask=visible[:, None], position_ids=positions, past_key_values=cache, use_cache=True
    )


def _extend(
    live: _Beams, trie: CodeTrie, level: int, logits: torch.Tensor, beams: int, normalise: Normalise
) -> torch.Tensor:
    """Keeps the best children of all beams of a user; gives the beam that each came from, (batch, kept)."""
    child, exists = trie.children(level, live.nodes)
    digits = torch.from_numpy(trie.digit[level + 1][child]).to(logits.device)
    allowed = torch.from_numpy(exists).to(logits.device)
    if normalise == "level":
        logs = torch.log_softmax(logits, dim=-1).gather(-1, digits)
    else:
        logs = torch.log_softmax(logits.gather(-1, digits).masked_fill(~allowed, MINUS), dim=-1)
    scores = live.scores[..., None] + logs
    scores = scores.masked_fill(~allowed | (live.scores == MINUS)[..., None], MINUS).flatten(1)
    kept = min(beams, scores.shape[1])
    order = torch.sort(scores, dim=1, descending=True, stable=True)
    live.scores, chosen = order.values[:, :kept], order.indices[:, :kept]
    live.nodes = np.take_along_axis(child.reshape(len(child), -1), chosen.cpu().numpy(), axis=1)
    return chosen // child.shape[-1]


def _inherit(live: _Beams, parents: torch.Tensor, level: int) -> torch.Tensor:
    """What each kept beam sees of the generated tokens: what its parent saw, and itself."""
    batch, kept = parents.shape
    own = torch.eye(kept, dtype=torch.bool, device=parents.device).expand(batch, kept, kept)
    if not level:
        return own
    past = live.seen.gather(1, parents[..., None].expand(batch, kept, live.seen.shape[-1]))
    return torch.cat([past, own], dim=-1)


def _items(live: _Beams, trie: CodeTrie, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes to items: a shared code gives all of its items, in their declared order, at its score."""
    scores = live.scores.double().cpu().numpy()
    items = np.full((len(scores), k), NOBODY)
    kept = np.zeros((len(scores), k))
    single = trie.single_items()
    for row, (nodes, values) in enumerate(zip(live.nodes, scores, strict=True)):
        real = values > MINUS
        owners = [trie.items_of(int(leaf)) for leaf in nodes[real]] if single is None else single[nodes[real]][:, None]
        found = np.concatenate([*owners])[:k] if len(owners) else np.empty(0, np.int64)
        items[row, : len(found)] = found
        kept[row, : len(found)] = np.repeat(values[real], [len(owner) for owner in owners])[: len(found)]
    return items, kept
