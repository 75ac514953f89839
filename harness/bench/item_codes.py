"""`harness bench index`: item codes by balanced k-means trees, against the same algorithm one point at a time. And
`harness bench trie`: search over a million items, against ten thousand.

`index`: codes must be equal and unique. `parts.both` has the seconds of the trees of two sources, whose codes must be
equal in every round. `parts.repaired` is the alternative of balancing scikit-learn's k-means afterwards, for the first
level: its seconds, and its inertia relative to balanced k-means.

`trie`: both sides rank the same users by the same prompts with SmolLM2; codes and trie differ. `ratio` is below 1 by
the cost of the larger trie; `parts.trie` has the seconds and the peak memory of building it. `identical`: the trie
leads to every item by its own code and to nothing else, and all lists have distinct existing items.
"""

from __future__ import annotations

import tracemalloc
from importlib import import_module
from typing import Any

import numpy as np

from harness.bench.decode import LISTED, K, language_model
from harness.bench.timing import Options, Outcome, Side, bench_context, paired, seconds_of
from harness.core.seeding import generator
from harness.data.ragged import RaggedArray
from harness.errors import InputError
from harness.generative.decoding.generate import Decoding, Ranker, recommend
from harness.generative.item_codes import CodeTable
from harness.generative.trie import CodeTrie
from harness.protocol.context import RunContext
from harness.protocol.requests import Requests

SUBJECT = "eager.bench"  # imported by name, like the models of the registry
TREE_ITEMS, MAX_TREE_ITEMS = 10_000, 65_536
TREE_SIZES = (3_300, TREE_ITEMS)  # items of the trees of two sources
ITEMS, FEWER_ITEMS, MAX_ITEMS = 1_000_000, 10_000, 50_000_000
LEVELS, USERS, HISTORY = 4, 8, 8


def measure_index(options: Options) -> Outcome:
    """Runs the benchmark over `options.items` items."""
    items = options.items or TREE_ITEMS
    if not 512 <= items <= MAX_TREE_ITEMS:
        raise InputError(
            f"{items} items", where="--items", hint=f"give 512 to {MAX_TREE_ITEMS}: 256 children, two levels"
        )
    trees = import_module(SUBJECT).trees(items, options.seed)
    timed = paired(
        Side("balanced k-means", trees.balanced, items),
        Side("balanced k-means, one point at a time", trees.reference, items),
        rounds=options.rounds,
        warm=False,
    )
    codes, reference = timed.results
    seconds, repaired = seconds_of(trees.repaired)
    inertia = trees.inertia(codes[:, 0])
    sizes = np.bincount(codes[:, 0])
    parts = {str(n): _both(n, options) for n in (TREE_SIZES if options.items is None else (items,))}
    return Outcome(
        "index",
        "items",
        bool((codes == reference).all()) and all(one["equal_for_equal_seeds"] for one in parts.values()),
        timed,
        {"items": items, "seed": options.seed},
        {
            "codes_that_differ": int((codes != reference).any(axis=1).sum()),
            "distinct_codes": len(np.unique(codes, axis=0)),
            "largest_and_smallest_cluster": [int(sizes.max()), int(sizes.min())],
        },
        {
            "both": parts,
            "repaired": {
                "seconds": seconds,
                "inertia": trees.inertia(repaired) / inertia,
                "distinct_codes": "first level only",
            },
        },
    )


def _both(items: int, options: Options) -> dict[str, Any]:
    """The trees of two sources, built anew in each round."""
    seconds, results = [], []
    for _ in range(options.rounds):
        value = import_module(SUBJECT).trees(items, options.seed)
        took, codes_of_both = seconds_of(value.both)
        results.append(codes_of_both)
        seconds.append(took)
    identical = all(np.array_equal(results[0], other) for other in results[1:])
    return {"median_seconds": float(np.median(seconds)), "seconds": seconds, "equal_for_equal_seeds": identical}


def measure_trie(options: Options) -> Outcome:
    """Runs the benchmark: `items` of the catalogue, `users`, `layers`. Raises `InputError` for too few or too many
    items."""
    items, users = options.items or ITEMS, options.users or USERS
    if not FEWER_ITEMS <= items <= MAX_ITEMS:
        raise InputError(f"{items} items", where="--items", hint=f"give {FEWER_ITEMS} to {MAX_ITEMS}")
    rng = generator(options.seed, "bench", "trie")
    wide, narrow = codes(items, rng), codes(FEWER_ITEMS, rng)
    build, trie = _build(wide)
    context = bench_context(options.seed)
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
    seconds, trie = seconds_of(lambda: CodeTrie(table))
    tracemalloc.start()
    CodeTrie(table)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"seconds": seconds, "peak_mb": peak / 2**20}, trie


def _search(table: CodeTable, users: int, options: Options, context: RunContext) -> Any:
    """A function that ranks along a trie. Histories are items of `table` for either trie, so that prompts are equal."""
    model, prompt = language_model(table, "short", options.layers, context)
    rng = generator(context.seed, "bench", "histories")
    rows = RaggedArray.of([rng.integers(table.n_items, size=HISTORY) for _ in range(users)])
    requests, decoding = Requests("bench", np.arange(users), rows), Decoding(LISTED, users, "float32")
    return lambda trie: recommend(Ranker(model, trie, prompt), requests, LISTED, decoding, context)[0].items
