"""Cross-entropy of a code token among the tokens that lead on from its prefix to a real code.

The same rule as `normalise=children` of the search (`beam.py`): log p(token | prefix) = logit - log Σ exp(logit) over
the children of the prefix in the trie. Probabilities of all codes sum to one, and a prefix with one child costs
nothing. Children are read from the trie's CSR arrays, so that nothing of the size of a level is masked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.generative.trie import CodeTrie

LevelLogits = Callable[[torch.Tensor, int], torch.Tensor]


def child_cross_entropy(
    trie: CodeTrie, level_logits: LevelLogits, states: torch.Tensor, level: int, prefixes: torch.Tensor,
    digits: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """-log p of one token a state, float32 (n,): `digits` (n,) of `level`, behind the trie nodes `prefixes` (n,) of
    depth `level`, predicted from `states` (n, width). States whose prefix has one child are not read at all."""
    fan = trie.fan(level, prefixes)
    rows = torch.nonzero(fan > 1)[:, 0]
    if not len(rows):
        return states[:, :0].sum(dim=1).float()  # zeros, of the graph like any other cost
    logits = level_logits(states[rows], level)
    chosen = logits.gather(1, digits[rows, None])[:, 0]
    if level == 0:
        every = trie.digit[1]
        total = (logits if len(every) == logits.shape[1] else logits[:, every]).logsumexp(dim=-1)
    else:
        total = _over_children(trie, logits, level, prefixes[rows], fan[rows])
    return total.new_zeros(len(states)).index_put((rows,), total - chosen)


def _over_children(
    trie: CodeTrie, logits: torch.Tensor, level: int, prefixes: torch.Tensor, fan: torch.Tensor
) -> torch.Tensor:
    """log Σ exp over the children of each prefix, (n,); `logits` (n, size of the level)."""
    count = len(prefixes)
    owner = torch.repeat_interleave(torch.arange(count, device=fan.device), fan)
    nth = torch.arange(len(owner), device=fan.device) - (fan.cumsum(0) - fan)[owner]
    digits = trie.digit[level + 1][trie.first[level][prefixes][owner] + nth]
    values = logits[owner, digits]
    top = torch.full((count,), float("-inf"), device=values.device, dtype=values.dtype)
    top = top.scatter_reduce(0, owner, values.detach(), "amax")
    return torch.zeros_like(top).index_add(0, owner, (values - top[owner]).exp()).log() + top
