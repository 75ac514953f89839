"""`harness bench train`: all next items of a user in one pass, against one sample a next item.

The reference makes a sample with a complete prompt of every next item, sorts samples by length and batches them. Both
sides compute loss and gradients of the same targets with the same model and prompts, without the optimiser's step.
Before, the logits of every response token are compared; after, the timed gradients tensor by tensor. Histories are
those of the data set `-d`, else random.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from harness.bench.timing import Options, Outcome, Paired, Side, bench_context, gemm_rate, paired
from harness.core.seeding import generator
from harness.errors import InputError
from harness.generative.models.backbone import LAYERS
from harness.generative.models.precision import best_precision
from harness.generative.training.trainer import keep_freed_memory

SUBJECT = "eager.bench"  # imported by name, like the models of the registry
CASES = {8: 8, 20: 4}  # items a user: number of users
BATCH = 16  # batch size of the reference
CATALOGUE = 10_000
LOGITS, GRADIENTS = 1e-3, 1e-4  # tolerances; that of gradients is relative


def measure(options: Options) -> Outcome:
    """Runs the benchmark: `items` of a user (both 8 and 20 if not given), `users`, `layers`, `width`, `batch`,
    `dataset`."""
    cases = CASES if options.items is None else {options.items: CASES.get(options.items, 4)}
    if min(cases) < 2:
        raise InputError("a user with one item has no next item", where="--items", hint="give 2 or more")
    histories = {items: _histories(options, items, options.users or users) for items, users in cases.items()}
    n_items = max(CATALOGUE, 1 + max(int(row.max()) for rows in histories.values() for row in rows))
    if options.width is not None and options.width % 32:
        raise InputError(f"{options.width} is not a multiple of 32", where="--width", hint="heads are 32 wide")
    keep_freed_memory()  # as in the training loop
    context = bench_context(options.seed)
    bench = import_module(SUBJECT).TrainingBench(n_items, options.layers, options.width, context)
    entries = {items: _case(bench, rows, options) for items, rows in histories.items()}
    first = next(iter(entries))
    parts: dict[str, Any] = {f"{items} items": entries[items][1] for items in entries}
    settings = {
        "items": list(cases),
        "users": [len(rows) for rows in histories.values()],
        "layers": options.layers or ("all" if options.width is None else LAYERS),
        "width": options.width or "of SmolLM2",
        "batch": options.batch or BATCH,
        "dataset": options.dataset or "drawn",
        "precision": "float32",
        "seed": options.seed,
    }
    equal = all(part["identical"] for part in parts.values())
    checks = {name: part.pop("checks") for name, part in parts.items()}
    return Outcome(
        "train", f"next items of users with {first} items", equal, entries[first][0], settings, checks, parts
    )


def _histories(options: Options, items: int, users: int) -> list[np.ndarray]:
    """`users` sequences of `items` items: the first items of random users of the data set, or random with a
    long tail."""
    rng = generator(options.seed, "bench", "histories", items)
    if options.dataset is None:
        chances = 1 / (10 + np.arange(CATALOGUE))
        return [rng.choice(CATALOGUE, items, replace=False, p=chances / chances.sum()) for _ in range(users)]
    from harness.data.loading import load_dataset

    dataset = load_dataset(options.dataset)
    long = np.flatnonzero(dataset.sequences.lengths >= items)
    if len(long) < users:
        raise InputError(
            f"{len(long)} users have {items} items, {users} are requested",
            where=dataset.name,
            hint="give fewer --users or --items",
        )
    return [dataset.sequences[int(user)][:items] for user in rng.choice(long, users, replace=False)]


def _case(bench: Any, histories: list[np.ndarray], options: Options) -> tuple[Paired, dict[str, Any]]:
    """The timings in float32, and the fields of the document; with bfloat16 if the device computes in it."""
    batch = options.batch or BATCH
    work = bench.training(histories, batch, "float32")
    logits = _largest_difference(work)
    timed = _timed(work, options.rounds)
    gradients = _gradient_differences(*(side.gradients for side in timed.results))
    identical = logits <= LOGITS and gradients["worst_tensor"] <= GRADIENTS
    rate = gemm_rate() if bench.device == "cpu" else None
    operations = 6 * work.weights * work.tokens["shared"]
    fields: dict[str, Any] = {
        "identical": identical,
        "ratio": timed.ratio,
        "samples": work.samples,
        "tokens": work.tokens,
        "samples_per_second": timed.rates(),
        "operations": operations,
        "gemm_per_second": rate,
        "floor_seconds": None if rate is None else operations / rate,
        "seconds": timed.candidate.median,
        "share_of_gemm_rate": None if rate is None else operations / rate / timed.candidate.median,
        "checks": {"logits": logits, "gradients": gradients, "losses": [side.loss for side in timed.results]},
    }
    if best_precision(bench.device) == "bfloat16":
        half = _timed(bench.training(histories, batch, "bfloat16"), options.rounds)
        differences = _gradient_differences(*(side.gradients for side in half.results))
        fields["bfloat16"] = {"ratio": half.ratio, "samples_per_second": half.rates(), "gradients": differences}
    return timed, fields


def _timed(work: Any, rounds: int) -> Paired:
    work.shared()  # the first pass allocates; the reference is warm from its logits
    shared, plain = Side("one pass a user", work.shared, work.samples), Side("a sample each", work.plain, work.samples)
    return paired(shared, plain, rounds=rounds, warm=False)


def _largest_difference(work: Any) -> float:
    """Over all logits of text and code tokens, at every response token."""
    candidate, reference = work.states()
    pieces = zip(candidate.split(64), reference.split(64), strict=True)
    return max(float((work.logits(one) - work.logits(other)).abs().max()) for one, other in pieces)


def _gradient_differences(candidate: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
    """Norms of differences relative to the reference's gradients: in total, and of the worst tensor."""
    if set(candidate) != set(reference):
        raise AssertionError("the two sides train different parameters")
    parts = [(float((candidate[name] - reference[name]).norm()), float(reference[name].norm())) for name in reference]
    off, size = np.array(parts).T
    return {
        "all": float(np.linalg.norm(off) / np.linalg.norm(size)),
        "worst_tensor": float((off / np.maximum(size, 1e-12)).max()),
    }
