"""`harness bench trie`: search over a million items, against ten thousand.

Both sides rank the same users by the same prompts with SmolLM2; codes and trie differ. `ratio` is below 1 by the cost
of the larger trie; `parts.trie` has the seconds and the peak memory of building it. `identical`: the trie leads to
every item by its own code and to nothing else, and all lists have distinct existing items.
"""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import torch

from harness.bench.decode import LISTED, PROMPTS, SPREAD, K, device
from harness.bench.timing import Options, Outcome, Side, paired
from harness.core.environment import cache_dir
from harness.core.seeding import derive_seed, generator
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.decoding.generate import Decoding, Ranker, recommend
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import EMBEDDED, load_backbone
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.requests import Requests

ITEMS, FEWER_ITEMS, MAX_ITEMS = 1_000_000, 10_000, 50_000_000
LEVELS, USERS, HISTORY = 4, 8, 8


def measure(options: Options) -> Outcome:
    """Runs the benchmark: `items` of the catalogue, `users`, `layers`. Raises `InputError` for too few or too many
    items."""
    items, users = options.items or ITEMS, options.users or USERS
    if not FEWER_ITEMS <= items <= MAX_ITEMS:
        raise InputError(f"{items} items", where="--items", hint=f"give {FEWER_ITEMS} to {MAX_ITEMS}")
    rng = generator(options.seed, "bench", "trie")
    wide, narrow = codes(items, rng), codes(FEWER_ITEMS, rng)
    build, trie = _build(wide)
    context = RunContext(options.seed, cache_dir() / "artefacts", device())
    search = _search(narrow, users, options, context)
    small = CodeTrie(narrow)
    timed = paired(
        Side(f"{items} items", lambda: search(trie), users),
        Side(f"{FEWER_ITEMS} items", lambda: search(small), users),
        rounds=options.rounds,
    )
    checks = {"codes_found": reached(trie, wide), "codes": items}
    identical = checks["codes_found"] == items == trie.codes
    settings = {"items": items, "users": users, "layers": options.layers, "seed": options.seed, "beams": LISTED}
    return Outcome("trie", "users", identical, timed, settings, checks, {"trie": build})


def codes(items: int, rng: np.random.Generator) -> CodeTable:
    """Random distinct codes, of the form that two trees give."""
    numbers = np.unique(rng.integers(K**LEVELS, size=items + items // 50 + 1000))
    digits = rng.permutation(numbers)[:items, None] // K ** np.arange(LEVELS)[::-1] % K
    return CodeTable(digits, (K,) * LEVELS)


def reached(trie: CodeTrie, table: CodeTable) -> int:
    """Number of items that the trie leads to by their own codes."""
    node, correct = np.zeros(table.n_items, dtype=np.int64), np.ones(table.n_items, dtype=bool)
    for level, size in enumerate(table.sizes):
        first, digit = trie.first[level].numpy(), trie.digit[level + 1].numpy()
        edges = np.repeat(np.arange(len(first) - 1), np.diff(first)) * size + digit
        edge = node * size + table.digits[:, level]
        node = np.searchsorted(edges, edge).clip(max=len(edges) - 1)
        correct &= edges[node] == edge
    owners = trie.single_items()
    return 0 if owners is None else int((correct & (owners[node] == np.arange(table.n_items))).sum())


def _build(table: CodeTable) -> tuple[dict[str, float], CodeTrie]:
    """Time and memory in separate runs, as tracing memory takes time."""
    start_time = time.perf_counter()
    trie = CodeTrie(table)
    seconds = time.perf_counter() - start_time
    tracemalloc.start()
    CodeTrie(table)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"seconds": seconds, "peak_mb": peak / 2**20}, trie


def _search(table: CodeTable, users: int, options: Options, context: RunContext) -> Any:
    """A function that ranks along a trie. Histories are items of `table` for either trie, so that prompts are equal."""
    backbone = load_backbone(EMBEDDED, options.layers, "pretrained", context)
    torch.manual_seed(derive_seed(context.seed, "bench", "rows"))
    model = CodeLM(backbone, table.sizes).to(context.device).eval()
    with torch.no_grad():
        model.scale.mul_(SPREAD)
    lead: list[int] = list(backbone.tokenizer(PROMPTS["short"], add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]
    rng = generator(context.seed, "bench", "histories")
    rows = RaggedArray.of([rng.integers(table.n_items, size=HISTORY) for _ in range(users)])
    requests, decoding = Requests("bench", np.arange(users), rows), Decoding(LISTED, users, "float32")

    def prompt(history: np.ndarray) -> list[int]:
        return [*lead, *(table.flat[history] + model.vocabulary).reshape(-1).tolist()]

    return lambda trie: recommend(Ranker(model, trie, prompt), requests, LISTED, decoding, context)[0].items
