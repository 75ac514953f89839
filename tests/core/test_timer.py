"""When work under way is kept."""

from __future__ import annotations

import pytest

from harness.core import timer
from harness.core.timer import CheckpointTimer


@pytest.mark.parametrize("cost, waits", [(0.0, 45.0), (4.0, 45.0), (50.0, 450.0)])
def test_a_snapshot_comes_every_45_seconds_and_a_dear_one_takes_a_tenth_of_the_time(
    monkeypatch: pytest.MonkeyPatch, cost: float, waits: float
) -> None:
    now = [1000.0]
    monkeypatch.setattr(timer.time, "monotonic", lambda: now[0])
    stored = CheckpointTimer()
    now[0] += 45.1
    assert stored.due
    with stored.timed():
        now[0] += cost
    now[0] += waits - 0.1
    assert not stored.due
    now[0] += 0.2
    assert stored.due
