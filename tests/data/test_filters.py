"""Short users, rare items and items without text are left out on request, and counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.data.dataset import Dataset, ItemText, Review, filtered, with_text
from harness.data.reading import Reading
from harness.errors import InputError
from tests import toys


def slow_core(rows: list[list[str]], users: int, items: int) -> list[list[str]]:
    """The same by plain lists: one short user or rare item at a time."""
    while True:
        counts: dict[str, int] = {}
        for row in rows:
            for item in row:
                counts[item] = counts.get(item, 0) + 1
        rare = {item for item, count in counts.items() if count < items}
        short = next((n for n, row in enumerate(rows) if len(row) < users), None)
        if short is not None:
            rows = rows[:short] + rows[short + 1 :]
        elif rare:
            rows = [[item for item in row if item not in rare] for row in rows]
        else:
            return rows


def raw(data: Dataset) -> list[list[str]]:
    return [[data.items[item] for item in row] for row in data.sequences]


@pytest.mark.parametrize(("users", "items"), [(5, 5), (4, 0), (0, 9), (6, 3)])
def test_as_by_plain_lists(users: int, items: int) -> None:
    data = toys.noise(users=60, items=40)
    data = replace(data, timestamps=np.arange(data.interactions, dtype=np.float64))
    small = filtered(data, Reading(min_user=users, min_item=items))
    assert raw(small) == slow_core(raw(data), users, items)
    assert small.timestamps is not None and len(small.timestamps) == small.interactions
    assert small.text is not None and len(small.text) == len(small.items)
    assert sum(count for kind, count in small.lost if kind.startswith("interactions")) == (
        data.interactions - small.interactions
    )
    assert small.lost or small.interactions == data.interactions


def test_nothing_left_is_said() -> None:
    with pytest.raises(InputError, match=r"nothing is left with users of 999 .*--core"):
        filtered(toys.cycle(), Reading(min_user=999))
    assert filtered(toys.cycle(), Reading()) is not None


def test_items_without_text_leave_with_their_interactions() -> None:
    data = toys.cycle()
    assert data.text is not None
    bare = replace(
        data,
        text=(ItemText(), *data.text[1:]),
        reviews=(Review("u0", "i0", "good"), Review("u0", "i1", "bad")),
    )
    remaining = with_text(bare)
    assert "i0" not in remaining.items and len(remaining.items) == len(data.items) - 1
    assert remaining.interactions == data.interactions - int((data.sequences.values == 0).sum())
    assert remaining.reviews == (Review("u0", "i1", "bad"),)
    assert with_text(data) is data
