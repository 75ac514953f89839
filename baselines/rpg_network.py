"""RPG's network and its two ways to rank: every item exactly, or a search in a graph of similar codes.

An item's input is the mean embedding of its code tokens. A causal transformer (GPT-2, random initial weights) reads the
history; from each state one residual block a digit predicts that digit of the next item, independently of the others:
p(token) ∝ exp(cos(state, embedding) / temperature), with the embeddings of the input. The score of an item is the sum
of its tokens' log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from harness.generative.item_codes import CodeTable
from harness.generative.models.precision import to_float64
from harness.generative.models.readers import PromptBatch
from harness.generative.trie import CodeTrie
from harness.protocol.predictions import NO_ITEM

MINUS = float("-inf")
CHUNK = 256  # items whose similarity to all others is computed at once


class ParallelNetwork(nn.Module):
    """`settings` are those of `network`; `limit` is the longest history, in items."""

    codes: torch.Tensor

    def __init__(self, table: CodeTable, settings: Any, limit: int) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        self.limit, self.temperature = limit, settings.temperature
        self.sizes, self.levels = table.sizes, table.levels
        self.body = GPT2Model(
            GPT2Config(
                vocab_size=sum(table.sizes),
                n_positions=limit,
                n_embd=settings.width,
                n_layer=settings.layers,
                n_head=settings.heads,
                n_inner=settings.inner,
                embd_pdrop=settings.dropout,
                attn_pdrop=settings.attention_dropout,
                resid_pdrop=settings.residual_dropout,
                bos_token_id=None,
                eos_token_id=None,
                use_cache=False,
            )
        )
        # Residual blocks, which begin as the identity.
        self.head = nn.Parameter(torch.zeros(table.levels, settings.width, settings.width))
        self.bias = nn.Parameter(torch.zeros(table.levels, settings.width))
        self.register_buffer("codes", torch.from_numpy(table.flat.copy()), persistent=False)

    @property
    def tokens(self) -> torch.Tensor:
        """Embeddings of the code tokens, (tokens, width), in the flat order of `CodeTable`."""
        return self.body.wte.weight

    def states(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        """States after each item of non-empty histories (item ids, oldest first, at most `limit`), padded on the right,
        (histories, longest, width)."""
        ids = PromptBatch.of(histories, self.codes.device).ids
        rows = self.codes[ids]
        inputs = functional.embedding_bag(rows.flatten(0, 1), self.tokens, mode="mean").view(*ids.shape, -1)
        return self.body(inputs_embeds=inputs).last_hidden_state

    def level_logits(self, states: torch.Tensor) -> list[torch.Tensor]:
        """Logits of the tokens of each level, (n, size), from states (n, width). Parameters are split once for all
        levels: the gradient of an indexed level would be as large as the whole parameter."""
        directions = (functional.normalize(self.tokens, dim=-1) / self.temperature).split(self.sizes)
        logits = []
        for head, bias, tokens in zip(self.head.unbind(), self.bias.unbind(), directions, strict=True):
            projected = states + functional.silu(torch.addmm(bias, states, head))
            logits.append(functional.normalize(projected, dim=-1) @ tokens.T)
        return logits

    def loss(self, windows: Sequence[np.ndarray]) -> torch.Tensor:
        """Mean negative log-likelihood a token of every next item of `windows` (two items at least)."""
        states = self.states([window[:-1] for window in windows])
        lengths = torch.tensor([len(window) - 1 for window in windows], device=states.device)
        real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
        following = torch.from_numpy(np.concatenate([window[1:] for window in windows])).to(states.device)
        codes, losses, begin = self.codes[following], [], 0
        for level, logits in enumerate(self.level_logits(states[real])):
            losses.append(functional.cross_entropy(logits.float(), codes[:, level] - begin))
            begin += self.sizes[level]
        return torch.stack(losses).mean()

    def log_probabilities(self, histories: Sequence[np.ndarray]) -> torch.Tensor:
        """Of all code tokens of the item after each history, float32 (histories, tokens)."""
        states = self.states(histories)
        last = torch.tensor([len(history) - 1 for history in histories], device=states.device)
        rows = states[torch.arange(len(states), device=states.device), last]
        return torch.cat([logits.float().log_softmax(dim=-1) for logits in self.level_logits(rows)], dim=1)


def code_sums(codes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(rows, items): for each row of `weights` (rows, tokens) the sum over the tokens of each of `codes`
    (items, levels)."""
    return functional.embedding_bag(codes, weights.T.contiguous(), mode="sum").T


class Catalogue:
    """The items in the order of their codes, those of equal codes in the declared order of `CodeTrie.items_of`: the
    order of equal scores. What it ranks are columns, `items[column]` is the item."""

    def __init__(self, trie: CodeTrie, codes: torch.Tensor) -> None:
        self.items = np.concatenate([trie.items_of(leaf) for leaf in range(trie.codes)])
        self.codes = codes[torch.from_numpy(self.items).to(codes.device)]
        self._column = np.empty(len(self.items), np.int64)
        self._column[self.items] = np.arange(len(self.items))

    def columns(self, items: np.ndarray) -> torch.Tensor:
        """The columns of item ids."""
        return torch.from_numpy(self._column[items]).to(self.codes.device)

    def exact(
        self, logs: torch.Tensor, k: int, viewed: Sequence[np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `k` best of all items by token log-probabilities `logs` (users, tokens): item ids and scores, int64 and
        float64 (users, k), `NO_ITEM` behind the last. `viewed`: items that a user's list leaves out."""
        scores = code_sums(self.codes, logs)
        if viewed is not None:
            scores = scores.contiguous()
            for row, items in enumerate(viewed):
                scores[row, self.columns(items)] = MINUS
        return self._listed(torch.arange(len(self.items), device=scores.device).expand_as(scores), scores, k)

    def search(
        self,
        logs: torch.Tensor,
        k: int,
        graph: torch.Tensor,
        start: torch.Tensor,
        steps: int,
        viewed: Sequence[np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Graph-constrained decoding, its lists as those of `exact`. From the columns `start` (beams,), `steps` times:
        the neighbours in `graph` (items, edges), of which an item is one itself, of all beams are scored and the best
        kept. A viewed item can be passed through, not listed."""
        users, beams = len(logs), len(start)
        nodes = start.expand(users, beams)
        scores = self._scores(logs, nodes)
        for _ in range(steps):
            near = graph[nodes].flatten(1).sort(dim=1).values
            scores = self._scores(logs, near)
            scores[:, 1:].masked_fill_(near[:, 1:] == near[:, :-1], MINUS)
            scores, places = scores.topk(beams, dim=1)
            nodes = near.gather(1, places)
        if viewed is not None:
            for row, items in enumerate(viewed):
                scores[row, torch.isin(nodes[row], self.columns(items))] = MINUS
        return self._listed(nodes, scores, k)

    def _scores(self, logs: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Scores of the columns `nodes` (users, n), (users, n)."""
        return logs.gather(1, self.codes[nodes].flatten(1)).view(*nodes.shape, -1).sum(dim=-1)

    def _listed(self, nodes: torch.Tensor, scores: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` best of the columns `nodes` (users, n); equal scores by column, also where they end the list."""
        depth = min(k, scores.shape[1])
        threshold = scores.topk(depth, dim=1).values[:, -1:]
        width = int((scores >= threshold).sum(dim=1).max()) if len(scores) else depth
        values, places = scores.topk(width, dim=1)
        columns, order = nodes.gather(1, places).sort(dim=1)
        values, best = values.gather(1, order).sort(dim=1, descending=True, stable=True)
        columns, values = columns.gather(1, best)[:, :depth].cpu().numpy(), to_float64(values[:, :depth]).cpu().numpy()
        items, listed = np.full((len(columns), k), NO_ITEM), np.zeros((len(columns), k))
        real = values > MINUS
        items[:, :depth], listed[:, :depth] = np.where(real, self.items[columns], NO_ITEM), np.where(real, values, 0)
        return items, listed


@torch.inference_mode()
def decoding_graph(network: ParallelNetwork, catalogue: Catalogue, edges: int) -> torch.Tensor:
    """The columns of the `edges` items most similar to each, itself first, int64 (items, edges). Similarity is the sum
    over levels of the cosine of two items' tokens."""
    edges, codes, levels = min(edges, len(catalogue.items)), catalogue.codes, network.levels
    offsets = np.concatenate([[0], np.cumsum(network.sizes)])
    cosines = []
    for level in range(levels):
        directions = functional.normalize(network.tokens[offsets[level] : offsets[level + 1]].float(), dim=-1)
        cosines.append(directions @ directions.T)
    rows = []
    for begin in range(0, len(codes), CHUNK):
        part = codes[begin : begin + CHUNK]
        weights = torch.cat([cosines[level][part[:, level] - int(offsets[level])] for level in range(levels)], dim=1)
        similarity = code_sums(codes, weights).contiguous()
        indices = torch.arange(len(part), device=part.device)
        similarity[indices, begin + indices] = float("inf")  # an item of the same code is as near as itself
        rows.append(similarity.topk(edges, dim=1).indices)
    return torch.cat(rows)
