"""Statistics of a data set: `harness data stats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.data.dataset import Dataset, ItemText
from harness.data.readers.times import LATEST


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts, density, lengths of sequences, counts of items, text coverage; JSON-able.

    `density` is interactions / (users * items); `repeats` are interactions with an item that the same user had before.
    `text` is None where the source has no item text; its coverages are shares of items, between 0 and 1.
    """
    users, items = len(dataset.users), len(dataset.items)
    counts = np.bincount(dataset.sequences.values, minlength=items)
    return {
        "name": dataset.name,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "users": users,
        "items": items,
        "interactions": dataset.interactions,
        "density": dataset.interactions / max(users * items, 1),
        "repeats": repeats(dataset),
        "length": _spread(dataset.sequences.lengths),
        "item_count": _spread(counts),
        "timestamps": dataset.timestamps is not None,
        "first": _date(dataset.timestamps, np.min),
        "last": _date(dataset.timestamps, np.max),
        "text": None if dataset.text is None else _text(dataset.text),
        "notes": list(dataset.notes),
    }


def _date(times: np.ndarray | None, index: Callable[[np.ndarray], float]) -> str | None:
    """The first or last time as a date in UTC, None without times."""
    if times is None or not len(times):
        return None
    time = float(index(times))
    return str(np.datetime64(int(time), "s")) if time < LATEST else f"{time:g} seconds since 1970"


def repeats(dataset: Dataset) -> int:
    """Interactions with an item that the same user had before."""
    pairs = dataset.sequences.rows() * len(dataset.items) + dataset.sequences.values
    return len(pairs) - len(np.unique(pairs))


def duplicated(texts: tuple[ItemText, ...]) -> int:
    """Items whose title another item has too (empty titles do not count)."""
    times = Counter(text.title.casefold() for text in texts if text.title)
    return sum(count for count in times.values() if count > 1)


def _spread(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {"min": 0, "mean": 0.0, "median": 0.0, "p90": 0.0, "max": 0}
    return {
        "min": int(values.min()),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p90": float(np.percentile(values, 90)),
        "max": int(values.max()),
    }


def _text(texts: tuple[ItemText, ...]) -> dict[str, float]:
    words = np.array([len(f"{text.title} {text.description}".split()) for text in texts])
    return {
        "any": float(np.mean([not text.empty for text in texts])),
        "title": float(np.mean([bool(text.title) for text in texts])),
        "description": float(np.mean([bool(text.description) for text in texts])),
        "brand": float(np.mean([bool(text.brand) for text in texts])),
        "categories": float(np.mean([bool(text.categories) for text in texts])),
        "duplicate_titles": duplicated(texts),
        "mean_words": float(words.mean()),
    }
