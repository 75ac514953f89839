"""What processes that make one run share besides the steps of training: the users to rank, and artefacts made once.

Each user is ranked by one process, with the model that all have, and all get all lists. Vectors and codes are made by
the first process and handed over: made by each, they could differ where machines do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.generative.decoding import generate
from harness.generative.decoding.generate import Decodable, DecodeReport, Decoding, Prompt, lost, spread
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.distributed import ALONE, World, dealt
from harness.protocol.predictions import Predictions
from harness.protocol.requests import Requests

SUMMED = (
    "users_expected", "users_scored", "short", "invalid", "duplicate", "shortened_prompts", "dropped_items",
    "prompt_tokens",
)  # fmt: skip


SMALLEST = ("batch", "shared_tokens")


def recommend(
    model: Decodable, trie: CodeTrie, requests: Requests, prompt: Prompt, k: int, how: Decoding, context: RunContext
) -> tuple[Predictions, DecodeReport]:
    """`decoding.recommend`, each process ranking every `size`-th user: none is left out, none ranked twice."""
    world = context.world
    if world.size == 1:
        return generate.recommend(model, trie, requests, prompt, k, how, context)
    mine = requests.take(dealt(world, len(requests)))
    alone = replace(context, world=ALONE, checkpoint=_folder(context, how))
    own, report = generate.recommend(model, trie, mine, prompt, k, replace(how, exact_users=0), alone)
    items = _in_order(world, own.items, len(requests))
    predictions = Predictions(requests.users, items, _in_order(world, own.scores, len(requests)))
    report = _joined(world, report)
    if how.exact_users and report.beams != "all":
        rows = spread(len(requests), how.exact_users)
        every = replace(how, beams="all", exact_users=0)
        exact, _ = recommend(model, trie, requests.take(rows), prompt, k, every, context)
        report.lost = lost(items[rows], exact.items)
    return predictions, report


def _folder(context: RunContext, how: Decoding) -> Path | None:
    """Where this process keeps its lists while they come: in the first's folder, where this machine has it too."""
    told = context.world.tell(None if context.checkpoint is None or not how.resume else str(context.checkpoint))
    return Path(told) if told is not None and Path(told).is_dir() else None


def _in_order(world: World, rows: np.ndarray, total: int) -> np.ndarray:
    """Everybody's rows, each where it was dealt from."""
    whole = np.empty((total, *rows.shape[1:]), rows.dtype)
    for rank, part in enumerate(world.gather(rows)):
        whole[rank :: world.size] = part
    return whole


def _joined(world: World, report: DecodeReport) -> DecodeReport:
    """One report of what all have done."""
    counts = np.array([[getattr(report, name) for name in (*SUMMED, *SMALLEST)]], np.int64)
    told = np.concatenate(world.gather(counts))
    summed = dict(zip(SUMMED, told.sum(axis=0).tolist(), strict=False))
    ranked = told[told[:, 0] > 0] if (told[:, 0] > 0).any() else told  # who had no user shared nothing
    smallest = dict(zip(SMALLEST, ranked[:, len(SUMMED) :].min(axis=0).tolist(), strict=True))
    return replace(report, **summed, **smallest)
