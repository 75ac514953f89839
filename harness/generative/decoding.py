"""From `Requests` to ranked lists: batches users by the length of their prompts and runs the beam search.

Users of one batch have prompts of one length, so that nothing is padded and a list does not depend on its neighbours.
Out of memory halves the batch and nothing else: beams and precision stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from harness.generative.beam import beam_search
from harness.generative.code_lm import CodeLM
from harness.generative.scoring import Normalise
from harness.generative.trie import CodeTrie
from harness.generative.tuning import Precision, autocast
from harness.protocol.context import RunContext
from harness.protocol.predictions import NOBODY, Predictions
from harness.protocol.requests import Requests


@dataclass(frozen=True)
class Decoding:
    """How lists are generated."""

    beams: int
    batch: int
    precision: Precision
    normalise: Normalise = "level"


def recommend(
    model: CodeLM,
    trie: CodeTrie,
    requests: Requests,
    prompt: Callable[[np.ndarray], list[int]],
    k: int,
    how: Decoding,
    context: RunContext,
) -> Predictions:
    """Up to `k` items a user. `prompt(history)` gives the token ids of one user's prompt."""
    prompts = [prompt(history) for history in requests.histories]
    items = np.full((len(requests), k), NOBODY)
    scores = np.zeros((len(requests), k))
    lengths = np.array([len(ids) for ids in prompts])
    beams, size = max(how.beams, k), how.batch
    model.eval()
    with context.stage(f"generating ({requests.fold})", len(requests)) as bar:
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            while len(rows):
                batch = rows[:size]
                ids = torch.tensor([prompts[row] for row in batch], device=context.device)
                try:
                    with autocast(context.device, how.precision):
                        items[batch], scores[batch] = beam_search(model, trie, ids, beams, k, how.normalise)
                except torch.OutOfMemoryError:
                    if size == 1:
                        raise
                    size //= 2
                    torch.cuda.empty_cache()
                    continue
                rows = rows[size:]
                bar.advance(len(batch))
    return Predictions(requests.users, items, scores)
