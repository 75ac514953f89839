"""Toy data that any model can learn in seconds, and the run context that tests hand to models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.core.hashing import fingerprint
from harness.data.dataset import Dataset, ItemText
from harness.data.ragged import RaggedArray
from harness.evaluation.metrics import compute_metrics
from harness.protocol.context import Reporter, RunContext, SilentReporter, Validation
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import Protocol
from harness.protocol.requests import Targets
from harness.protocol.split import EvaluationSplit, Split
from harness.protocol.split import split as split_by

SHAPES = ("round", "square", "oval", "flat", "tall", "thin")
COLOURS = ("red", "blue", "green", "grey", "black")


def cycle(users: int = 60, items: int = 24, length: int = 8) -> Dataset:
    """A planted pattern: user `u` starts at item `7u mod items`, and each next item is the next number of a circle.

    Every item stands in some training part (for the default sizes), each has a title of its own, and the last item of
    the history tells the next one without doubt.
    """
    rows = [(7 * user + np.arange(length)) % items for user in range(users)]
    return dataset(rows, items, text=titles(items))


def noise(users: int = 40, items: int = 30, seed: int = 5) -> Dataset:
    """No pattern: 3 to 12 distinct items a user, drawn by popularity; some items only occur as answers."""
    random = np.random.default_rng(seed)
    weights = 1 / (1 + np.arange(items))
    weights /= weights.sum()
    rows = [random.choice(items, random.integers(3, 13), replace=False, p=weights) for _ in range(users)]
    return dataset(rows, items, text=titles(items))


def cold() -> Dataset:
    """The cycle with item 24 ("only a last item") put at the end of each tenth user: no training part has it."""
    current_dataset = cycle()
    rows = [np.append(row[:-1], 24) if user % 10 == 0 else row for user, row in enumerate(current_dataset.sequences)]
    return dataset(rows, 25, text=titles(25), name="toy-cold")


def dataset(rows: list[np.ndarray], items: int, text: tuple[ItemText, ...] | None, name: str = "toy") -> Dataset:
    """A data set from rows of item ids; raw ids are `u0`, `u1`, … and `i0`, `i1`, …."""
    return Dataset(
        name=name,
        users=tuple(f"u{user}" for user in range(len(rows))),
        items=tuple(f"i{item}" for item in range(items)),
        sequences=RaggedArray.of(rows),
        text=text,
        source="toy",
    )


def titles(items: int) -> tuple[ItemText, ...]:
    """A different title for each item, with a category."""
    return tuple(
        ItemText(
            title=f"{COLOURS[i % 5]} {SHAPES[i // 5 % 6]} box no {i}",
            description=f"a box that is {COLOURS[i % 5]} and {SHAPES[i // 5 % 6]}",
            brand="Boxes",
            categories=(COLOURS[i % 5],),
        )
        for i in range(items)
    )


def split(data: Dataset | None = None) -> Split:
    """The toy under the default protocol."""
    return split_by(cycle() if data is None else data, Protocol())


def context(
    folder: Path,
    fold: EvaluationSplit | None = None,
    *,
    seed: int = 1,
    checkpoint: Path | None = None,
    reporter: Reporter | None = None,
) -> RunContext:
    """A CPU context whose cache is `folder / "cache"`; with `fold` it offers validation."""
    validation = None
    if fold is not None:

        def judge(predictions: Predictions) -> dict[str, float]:
            """Over the cases that were ranked, as a run's own judge."""
            requested = np.isin(fold.targets.cases, predictions.cases)
            return compute_metrics(predictions, Targets(fold.targets.cases[requested], fold.targets.items[requested]))

        validation = Validation(fold.requests, judge, fingerprint(fold.targets.items))
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    reporter = reporter or SilentReporter()
    return RunContext(seed, cache, "cpu", checkpoint=checkpoint, validation=validation, reporter=reporter)
