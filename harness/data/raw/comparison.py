"""What others counted beside what came out, line by line; and how much of the order in time is a matter of ties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.data.raw.releases import Published

MEAN_DIGITS = 2  # of a published mean length


def compared(dataset: Dataset, published: Sequence[Published]) -> list[dict[str, Any]]:
    """One line a published figure: `what`, `published`, `here`, `difference` (here - published; 0 where the figure was
    rounded and ours rounds to it) and whose figure it is."""
    here = {"users": len(dataset.users), "items": len(dataset.items), "interactions": dataset.interactions}
    mean = dataset.interactions / max(len(dataset.users), 1)
    lines = []
    for entry in published:
        for what, ours in here.items():
            if (theirs := getattr(entry, what)) is not None:
                unit = entry.rounded.get(what, 1)
                rounds = abs(ours - theirs) <= unit / 2 if unit > 1 else ours == theirs
                lines.append(_line(what, theirs, ours, 0 if rounds else ours - theirs, entry.source))
        if entry.mean_length is not None:
            ours = round(mean, MEAN_DIGITS)
            difference = round(ours - entry.mean_length, MEAN_DIGITS)
            lines.append(_line("mean length", entry.mean_length, ours, difference, entry.source))
    return lines


def _line(what: str, published: float, here: float, difference: float, source: str) -> dict[str, Any]:
    return {"what": what, "published": published, "here": here, "difference": difference, "source": source}


def ties(dataset: Dataset) -> dict[str, Any]:
    """Shares between 0 and 1: interactions with the timestamp of the one before them in their sequence, and test and
    validation items of which that is true (users with 3 or more interactions)."""
    assert dataset.timestamps is not None
    times, offsets = dataset.timestamps, dataset.sequences.offsets
    same = np.zeros(len(times), bool)
    same[1:] = times[1:] == times[:-1]
    same[offsets[:-1]] = False
    ends = offsets[1:][dataset.sequences.lengths >= 3]
    counted = {"interactions": same, "test_items": same[ends - 1], "validation_items": same[ends - 2]}
    return {name: round(float(found.mean()), 6) if len(found) else 0.0 for name, found in counted.items()}
