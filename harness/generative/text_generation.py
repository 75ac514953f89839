"""Perplexity and greedy generation of a `CodeLM` on plain text, over the text vocabulary only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import DynamicCache

from harness.generative.models.decoder_lm import CodeLM
from harness.generative.models.packing import read_padded
from harness.generative.models.precision import Precision, autocast, to_float64
from harness.generative.models.vocabulary_logsumexp import text_logsumexp

SPAN = 256  # tokens of a text span
SPANS = 16  # spans in a batch, of similar length
BATCH = 64  # prompts in a batch


@torch.inference_mode()
def perplexity(
    model: CodeLM, texts: Iterable[Sequence[int]], device: str, precision: Precision, bos: Sequence[int] = ()
) -> float | None:
    """exp of the mean negative log-likelihood (nats) a token of `texts` (token ids of the text vocabulary), split into
    spans of `SPAN` tokens, each after `bos`. The first token of a span is not scored; None if there is no scored token.
    Code tokens are not part of the normalisation, so that adding them does not change the figure."""
    lead = len(bos)
    spans = [np.asarray(text[at : at + SPAN]) for text in texts for at in range(0, len(text), SPAN)]
    spans = sorted((span for span in spans if len(span) > 1), key=len)
    total, head = 0.0, _cast(model.text_head, precision)
    for begin in range(0, len(spans), SPANS):
        batch = spans[begin : begin + SPANS]
        payload = torch.from_numpy(np.concatenate([span[1:] for span in batch])).to(device)
        with autocast(device, precision):
            read = read_padded(model, [np.concatenate([bos, span]).astype(np.int64) for span in batch])
            positions = [
                start + lead + np.arange(len(span) - 1) for start, span in zip(read.begins, batch, strict=True)
            ]
            states = read[np.concatenate(positions)]
            normaliser = text_logsumexp(states, head, model.head)
        chosen = model.head.finish((states.to(head.dtype).float() * head[payload].float()).sum(dim=-1), payload)
        total += float(to_float64(normaliser - chosen).sum())
    scored = sum(len(span) - 1 for span in spans)
    return math.exp(min(total / scored, 700.0)) if scored else None


@torch.inference_mode()
def continuations(
    model: CodeLM, prompts: Sequence[Sequence[int]], limit: int, device: str, precision: Precision
) -> list[list[int]]:
    """Greedy decoding of text tokens, up to the end-of-sequence token (left out) or `limit` tokens.

    Prompts may contain code tokens. Prompts of equal length share a batch without padding, so that an answer does not
    depend on the other prompts.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    lengths = np.array([len(prompt) for prompt in prompts])
    head = _cast(model.text_head, precision)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        for begin in range(0, len(rows), BATCH):
            batch = rows[begin : begin + BATCH]
            ids = torch.tensor([list(prompts[row]) for row in batch], device=device)
            with autocast(device, precision):
                payload = _greedy(model, head, ids, limit)
            for row, tokens in zip(batch, payload.tolist(), strict=True):
                answers[row] = tokens[: tokens.index(model.eos)] if model.eos in tokens else tokens
    return answers


def _cast(head: torch.Tensor, precision: Precision) -> torch.Tensor:
    """The head in the dtype of its products, cast once: autocast would cast it for every product."""
    return head.detach() if precision == "float32" else head.detach().bfloat16()


def _greedy(model: CodeLM, head: torch.Tensor, ids: torch.Tensor, limit: int) -> torch.Tensor:
    """Token ids (batch, up to `limit`); those after a row's end-of-sequence token are undefined."""
    cache: Any = DynamicCache(config=model.body.config)
    values: list[torch.Tensor] = []
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    step = ids
    for _ in range(limit):
        states = model.states(step, past_key_values=cache, use_cache=True)[:, -1]
        products = functional.linear(states.to(head.dtype), head)
        values.append((products if model.head.plain else model.head.finish(products.float())).argmax(dim=-1))
        ended |= values[-1] == model.eos
        if bool(ended.all()):
            break
        step = values[-1][:, None]
    return torch.stack(values, dim=1)
