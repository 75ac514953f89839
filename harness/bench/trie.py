"""`harness bench trie`: what a million items cost the search, beside ten thousand.

Both sides rank the same users by the same prompts with SmolLM2; the codes differ, and with them the trie. `ratio` is
below 1 by what a bigger trie costs; `parts.trie` says how long it took to build, and the memory at its peak.
`identical`: the trie leads to every item by its own code and to nothing else, and all lists are of distinct real items.
"""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import torch

from harness.bench.decode_cases import LISTED, PROMPTS, SPREAD, K, device
from harness.bench.timing import Options, Outcome, Side, paired
from harness.core.environment import cache_dir
from harness.core.seeding import derive_seed, generator
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.decoding.generate import Decoding, recommend
from harness.generative.item_codes import CodeTable
from harness.generative.models.backbone import EMBEDDED, load_backbone
from harness.generative.models.decoder_lm import CodeLM
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.requests import Requests

ITEMS, FEWER, MOST = 1_000_000, 10_000, 50_000_000
LEVELS, USERS, HISTORY = 4, 8, 8


def measure(options: Options) -> Outcome:
    """`--items` of the catalogue, `--users`, `--layers`. Raises `InputError` for a catalogue that is none."""
    items, users = options.items or ITEMS, options.users or USERS
    if not FEWER <= items <= MOST:
        raise InputError(f"{items} items", where="--items", hint=f"give {FEWER} to {MOST}")
    rng = generator(options.seed, "bench", "trie")
    wide, narrow = codes(items, rng), codes(FEWER, rng)
    built, trie = _build(wide)
    context = RunContext(options.seed, cache_dir() / "artefacts", device())
    search = _search(narrow, users, options, context)
    small = CodeTrie(narrow)
    timed = paired(
        Side(f"{items} items", lambda: search(trie), users),
        Side(f"{FEWER} items", lambda: search(small), users),
        rounds=options.rounds,
    )
    checks = {"codes_found": reached(trie, wide), "codes": items}
    lock = {"items": items, "users": users, "layers": options.layers, "seed": options.seed, "beams": LISTED}
    return Outcome("trie", "users", checks["codes_found"] == items == trie.codes, timed, lock, checks, {"trie": built})


def codes(items: int, rng: np.random.Generator) -> CodeTable:
    """Distinct codes drawn at random, as two trees over a catalogue of any size give them."""
    numbers = np.unique(rng.integers(K**LEVELS, size=items + items // 50 + 1000))
    digits = rng.permutation(numbers)[:items, None] // K ** np.arange(LEVELS)[::-1] % K
    return CodeTable(digits, (K,) * LEVELS)


def reached(trie: CodeTrie, table: CodeTable) -> int:
    """How many items the trie leads to by their own codes, each walked down from the root."""
    node, right = np.zeros(table.n_items, dtype=np.int64), np.ones(table.n_items, dtype=bool)
    for level, size in enumerate(table.sizes):
        first, digit = trie.first[level].numpy(), trie.digit[level + 1].numpy()
        edges = np.repeat(np.arange(len(first) - 1), np.diff(first)) * size + digit
        mask = node * size + table.digits[:, level]
        node = np.searchsorted(edges, mask).clip(max=len(edges) - 1)
        right &= edges[node] == mask
    owners = trie.single_items()
    return 0 if owners is None else int((right & (owners[node] == np.arange(table.n_items))).sum())


def _build(table: CodeTable) -> tuple[dict[str, float], CodeTrie]:
    """Seconds and memory apart, because counting memory takes time."""
    start_time = time.perf_counter()
    trie = CodeTrie(table)
    seconds = time.perf_counter() - start_time
    tracemalloc.start()
    CodeTrie(table)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"seconds": seconds, "peak_mb": peak / 2**20}, trie


def _search(table: CodeTable, users: int, options: Options, context: RunContext) -> Any:
    """Ranks by a trie. Histories are of `table`'s items, whatever is ranked, so that prompts are the same."""
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

    return lambda trie: recommend(model, trie, requests, prompt, LISTED, decoding, context)[0].items
