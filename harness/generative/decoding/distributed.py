"""What processes that make one run share besides the steps of training: the users to rank, and artefacts made once.

Each user is ranked by one process, with the model that all have, and all get all lists. Vectors and codes are made by
the first process and handed over: made by each, they could differ where machines do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.generative.decoding import generate
from harness.generative.decoding.generate import Decodable, DecodeReport, Decoding, Prompt, lost, spread
from harness.generative.item_codes import CodeTable
from harness.generative.tokenizers.code_embedding_init import SourceIndex, Vectors
from harness.generative.tokenizers.embeddings import ItemVectors
from harness.generative.tokenizers.index import ItemIndex
from harness.generative.trie import CodeTrie
from harness.protocol.audit.provenance import Provenance
from harness.protocol.context import RunContext
from harness.protocol.distributed import ALONE, World, dealt, once
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


def made_index(
    context: RunContext, make: Callable[[RunContext], tuple[Vectors, SourceIndex]]
) -> tuple[Vectors, SourceIndex]:
    """Vectors of sources and the item codes, made by the first process."""
    return once(context.world, lambda: make(replace(context, world=ALONE)), _pack, _unpack)


def made_codes(context: RunContext, make: Callable[[RunContext], ItemIndex]) -> ItemIndex:
    """Item codes alone, made by the first process."""
    return once(
        context.world,
        lambda: make(replace(context, world=ALONE)),
        lambda index: (_told(index), [index.table.digits]),
        lambda told, arrays: ItemIndex(**_parts(told, arrays[0])),
    )


def _pack(made: tuple[Vectors, SourceIndex]) -> tuple[Any, list[np.ndarray]]:
    vectors, index = made
    sources = {
        source: {"key": one.key, "provenance": one.provenance.model_dump(), "details": one.details}
        for source, one in vectors.items()
    }
    told = {"vectors": sources, "index": _told(index), "blocks": index.blocks}
    return told, [index.table.digits, *(one.values for one in vectors.values())]


def _unpack(told: Any, arrays: list[np.ndarray]) -> tuple[Vectors, SourceIndex]:
    vectors = {
        source: ItemVectors(values, one["key"], Provenance(**one["provenance"]), one["details"])
        for (source, one), values in zip(told["vectors"].items(), arrays[1:], strict=True)
    }
    blocks = tuple((source, levels) for source, levels in told["blocks"])
    return vectors, SourceIndex(**_parts(told["index"], arrays[0]), blocks=blocks)


def _told(index: ItemIndex) -> dict[str, Any]:
    return {"sizes": index.table.sizes, "provenance": index.provenance.model_dump(), "details": index.details}


def _parts(told: dict[str, Any], digits: np.ndarray) -> dict[str, Any]:
    """What an `ItemIndex` is made of."""
    table = CodeTable(digits, tuple(told["sizes"]))
    return {"table": table, "provenance": Provenance(**told["provenance"]), "details": told["details"]}
