"""RecTools' scores of sampled candidates, computed without a vector for each candidate of each position.

RecTools gathers a tensor (positions, candidates, width), whose backward pass scatters; this dominates a step on a CPU.
Products with sparse rows (`embedding_bag`) give equal values. Runs in the worker process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from rectools.models.nn.transformers.similarity import DistanceSimilarityModule
from scipy import sparse
from torch.nn import functional

ROWS = 4  # places scored at once; their candidates fit a core's cache


class SampledSimilarity(DistanceSimilarityModule):
    """Replaces RecTools' module on a CPU."""

    def _get_pos_neg_logits(
        self, session_embs: torch.Tensor, item_embs: torch.Tensor, candidate_item_ids: torch.Tensor
    ) -> torch.Tensor:
        if session_embs.device.type != "cpu":
            return super()._get_pos_neg_logits(session_embs, item_embs, candidate_item_ids)
        places = candidate_item_ids.shape[:-1]
        candidates = candidate_item_ids.reshape(-1, candidate_item_ids.shape[-1])
        return _Sampled.apply(session_embs.reshape(len(candidates), -1), item_embs, candidates).view(*places, -1)


class _Sampled(torch.autograd.Function):
    """`states` (n, width) times the rows of `table` (items, width) that `candidates` (n, c) names: (n, c)."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, table: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(states, table, candidates)
        scores = states.new_empty(candidates.shape)
        for begin in range(0, len(states), ROWS):
            rows = slice(begin, begin + ROWS)
            torch.bmm(functional.embedding(candidates[rows], table), states[rows, :, None], out=scores[rows, :, None])
        return scores

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        states, table, candidates = ctx.saved_tensors
        (of_scores,) = gradients
        of_scores = of_scores.contiguous()
        of_states = functional.embedding_bag(candidates, table, per_sample_weights=of_scores, mode="sum")
        # the transposed product: each item sums the states of the places that have it as candidate
        shape, ends = (len(candidates), len(table)), np.arange(len(candidates) + 1) * candidates.shape[1]
        by_place = sparse.csr_array((of_scores.numpy().ravel(), candidates.numpy().ravel(), ends), shape=shape)
        by_item = by_place.tocsc()
        places, begins, weights = map(torch.from_numpy, (by_item.indices, by_item.indptr[:-1], by_item.data))
        of_table = functional.embedding_bag(places, states, begins, mode="sum", per_sample_weights=weights)
        return of_states, of_table, None
