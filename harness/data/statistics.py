"""Statistics of a data set: `harness data stats`, and the comparison with published counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.data.dataset import Dataset, ItemText
from harness.data.raw.releases import Published
from harness.data.readers.times import LATEST
from harness.data.reading import TEXT_FIELDS

MEAN_DIGITS = 2  # of a published mean length


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts, density, lengths of sequences, counts of items, text coverage; JSON-able.

    `density` is interactions / (users * items); `repeats` are interactions with an item that the same user had before.
    `text` is None where the source has no item text; its coverages are shares of items, between 0 and 1.
    """
    users, items = len(dataset.users), len(dataset.items)
    counts = np.bincount(dataset.sequences.values, minlength=items)
    times = dataset.timestamps
    first, last = (None, None) if times is None or not len(times) else (_date(times.min()), _date(times.max()))
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
        "timestamps": times is not None,
        "first": first,
        "last": last,
        "text": None if dataset.text is None else _text(dataset.text),
        "notes": list(dataset.notes),
    }


def _date(time: float) -> str:
    """A time as a date in UTC."""
    return str(np.datetime64(int(time), "s")) if time < LATEST else f"{time:g} seconds since 1970"


def repeats(dataset: Dataset) -> int:
    """Interactions with an item that the same user had before."""
    pairs = dataset.sequences.rows() * len(dataset.items) + dataset.sequences.values
    return len(pairs) - len(np.unique(pairs))


def duplicated(texts: tuple[ItemText, ...]) -> int:
    """Items whose title another item has too (empty titles do not count)."""
    times = Counter(text.title.casefold() for text in texts if text.title)
    return sum(count for count in times.values() if count > 1)


def compared(dataset: Dataset, published: Sequence[Published]) -> list[dict[str, Any]]:
    """One line a published figure: `what`, `published`, `here`, `difference` (here - published; 0 where the figure was
    rounded and ours rounds to it) and whose figure it is."""
    counts = {"users": len(dataset.users), "items": len(dataset.items), "interactions": dataset.interactions}
    mean = round(dataset.interactions / max(len(dataset.users), 1), MEAN_DIGITS)
    lines: list[dict[str, Any]] = []
    for entry in published:
        for label, here in {**counts, "mean length": mean}.items():
            if (stated := getattr(entry, label.replace(" ", "_"))) is not None:
                unit = entry.rounded.get(label, 1)
                rounds = unit > 1 and abs(here - stated) <= unit / 2
                difference = 0 if rounds else round(here - stated, MEAN_DIGITS)
                fields = {"what": label, "published": stated, "here": here, "difference": difference}
                lines.append({**fields, "source": entry.source})
    return lines


def ties(dataset: Dataset) -> dict[str, Any]:
    """Shares between 0 and 1: interactions with the timestamp of the one before them in their sequence, and test and
    validation items of which that is true (users with 3 or more interactions)."""
    assert dataset.timestamps is not None
    times, offsets = dataset.timestamps, dataset.sequences.offsets
    tied = np.zeros(len(times), bool)
    tied[1:] = times[1:] == times[:-1]
    tied[offsets[:-1]] = False
    ends = offsets[1:][dataset.sequences.lengths >= 3]
    counted = {"interactions": tied, "test_items": tied[ends - 1], "validation_items": tied[ends - 2]}
    return {name: round(float(result.mean()), 6) if len(result) else 0.0 for name, result in counted.items()}


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
    return {
        "any": float(np.mean([not text.empty for text in texts])),
        **{name: float(np.mean([bool(getattr(text, name)) for text in texts])) for name in TEXT_FIELDS},
        "duplicate_titles": duplicated(texts),
        "mean_words": float(np.mean([len(f"{text.title} {text.description}".split()) for text in texts])),
    }
