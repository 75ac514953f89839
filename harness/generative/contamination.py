"""`harness audit memory`: was the catalogue part of a language model's training data? (docs/audit.md)

Probes `ids` and `neighbours` score an item's title in its own context and in `CONTEXTS` contexts of other items: after
its raw id behind some rows `id::title` of the item file, or after the titles of the previous items in a training
sequence. The score is the log-likelihood a token, the gain the difference, so that the frequency of the title cancels
out: the shuffled-pairs test of Oren et al. (ICLR 2024, arXiv 2310.17623), over pairs instead of orders. `newer`
compares the titles with texts published after the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from harness.core.seeding import generator
from harness.generative.models.backbone import Backbone
from harness.generative.models.precision import to_float64
from harness.generative.models.readers import PromptBatch
from harness.protocol.context import RunContext
from harness.protocol.split import TrainingData

CONTEXTS = 3  # contexts of other items for each title
SHOTS = 4  # rows of the file before the scored one
HISTORY = 3  # titles before the scored one
BATCH = 16  # texts of a forward pass
LONGEST = 512  # tokens of a context and its title; older ones are dropped

Pair = tuple[str, str]  # a context and a title
Score = Callable[[Sequence[Pair]], np.ndarray]


def memory_probe(
    backbone: Backbone, data: TrainingData, context: RunContext, *, items: int = 200, newer: Sequence[str] = ()
) -> dict[str, Any]:
    """All probes over at most `items` items, JSON-able: for `ids` and `neighbours` the number of titles, the mean gain
    in nats a token with its standard error, and the share of titles that score best in their own context (chance: 1 /
    (`CONTEXTS` + 1)); for `newer` the two means and their difference. A probe without data is None."""
    assert data.text is not None
    rng = generator(context.seed, "memory probe")
    named = [item for item in range(data.n_items) if data.text[item].title.strip()]
    order = rng.permutation(np.array(named, dtype=np.int64)).tolist()
    shots, scored = order[:SHOTS], order[SHOTS : SHOTS + items]  # scored rows are never in the prompt
    titles = [" ".join(data.text[item].title.split()) for item in range(data.n_items)]
    rows = "".join(f"{data.items[item]}::{titles[item]}\n" for item in shots)
    with context.stage("scoring titles") as stage:
        score = partial(_score, backbone, stage)
        ids = [(rows, f"{data.items[item]}::") for item in scored]
        result: dict[str, Any] = {"ids": _gain(ids, scored, titles, score, rng)}
        sequences = _sequences(data, titles, items, rng)
        histories = ["".join(f"{titles[item]}\n" for item in row[:-1]) for row in sequences]
        nexts = [int(row[-1]) for row in sequences]
        result["neighbours"] = _gain([("", history) for history in histories], nexts, titles, score, rng)
        result["newer"] = _newer([titles[item] for item in scored], newer, score)
    return {"backbone": backbone.name, "dataset": data.dataset, "contexts": CONTEXTS, **result}


@torch.inference_mode()
def _score(backbone: Backbone, stage: Any, pairs: Sequence[Pair]) -> np.ndarray:
    """Mean log-likelihood a token of titles after their contexts, float64 (pairs,)."""
    device, values = next(backbone.body.parameters()).device, np.zeros(len(pairs))
    for begin in range(0, len(pairs), BATCH):
        rows = [_ids(backbone, *pair) for pair in pairs[begin : begin + BATCH]]
        batch, body = PromptBatch.of([tokens for tokens, _ in rows], device), cast(Any, backbone.body)
        ids = batch.ids.where(batch.real, backbone.eos)
        states = body(input_ids=ids, attention_mask=batch.real.long()).last_hidden_state
        for row, (tokens, start) in enumerate(rows):
            logits = backbone.shape.logits(states[row, start - 1 : len(tokens) - 1], backbone.head.to(device))
            targets = ids[row, start : len(tokens)]
            values[begin + row] = float(to_float64(logits.log_softmax(dim=-1).gather(1, targets[:, None])).mean())
        stage.advance(len(rows))
    return values


def _ids(backbone: Backbone, context: str, title: str) -> tuple[list[int], int]:
    """Token ids and the position where the title begins; the context has at least one token."""
    tokenizer: Any = backbone.tokenizer
    head = tokenizer(context, add_special_tokens=False)["input_ids"] if context else []
    tail = tokenizer(title, add_special_tokens=False)["input_ids"][: LONGEST // 2] or [backbone.eos]
    room = min(LONGEST, backbone.context) - len(tail) - len(backbone.bos)
    head = [*backbone.bos, *head[-room:]] or [backbone.eos]
    return [*head, *tail], len(head)


def _gain(
    contexts: Sequence[tuple[str, str]], answers: Sequence[int], titles: Sequence[str], score: Score, rng: Any
) -> dict[str, Any] | None:
    """`contexts`: pairs of the part that stays with the title, and the part that is exchanged between titles."""
    count = len(answers)
    if count <= CONTEXTS:
        return None
    shifts = rng.choice(np.arange(1, count), size=CONTEXTS, replace=False)
    pairs: list[Pair] = []
    for shift in (0, *shifts.tolist()):
        for place, answer in enumerate(answers):
            stays, exchanged = contexts[place][0], contexts[(place + shift) % count][1]
            pairs.append((stays + exchanged, titles[answer]))
    values = score(pairs).reshape(CONTEXTS + 1, count)
    gains = values[0] - values[1:].mean(axis=0)
    best = (values[0] > values[1:].max(axis=0)).mean()
    return {
        "titles": count,
        "gain": float(gains.mean()),
        "standard_error": float(gains.std(ddof=1) / np.sqrt(count)),
        "true_context_best": float(best),
        "chance": 1 / (CONTEXTS + 1),
    }


def _newer(titles: Sequence[str], newer: Sequence[str], score: Score) -> dict[str, Any] | None:
    texts = [" ".join(text.split()) for text in newer if text.strip()]
    if not texts or not titles:
        return None
    known_gain, new = (score([("", text) for text in part]) for part in (titles, texts))
    return {
        "texts": len(texts),
        "titles_mean": float(known_gain.mean()),
        "newer_mean": float(new.mean()),
        "difference": float(known_gain.mean() - new.mean()),
        "standard_error": float(np.sqrt(known_gain.var() / len(known_gain) + new.var() / len(new))),
    }


def _sequences(data: TrainingData, titles: Sequence[str], count: int, rng: Any) -> list[np.ndarray]:
    """Ends of training sequences whose items all have titles: at most `HISTORY` items and the next one."""
    rows = []
    for user in rng.permutation(data.n_users).tolist():
        row = data.sequences[user][-HISTORY - 1 :]
        if len(row) > 1 and row[-1] not in row[:-1] and all(titles[item] for item in row):
            rows.append(row)
        if len(rows) == count:
            break
    return rows
