"""How a ratio comes about: turns, medians, and units of unequal sides."""

from __future__ import annotations

import pytest

from harness.bench import timing as bench
from harness.bench.timing import Outcome, Paired, Side, Timing, paired


def test_sides_take_turns_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sides = [Side(name, lambda name=name: order.append(name), 1) for name in ("candidate", "reference")]
    timed = paired(sides[0], sides[1], rounds=3)
    assert order == [
        "candidate",
        "reference",
        "candidate",
        "reference",
        "reference",
        "candidate",
        "candidate",
        "reference",
    ]
    assert len(timed.candidate.seconds) == len(timed.reference.seconds) == 3


def test_the_ratio_counts_units_and_is_a_median_over_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    candidate, reference = Timing("a", 10, (1.0, 2.0, 1.0)), Timing("b", 5, (1.0, 2.0, 5.0))
    timed = Paired(candidate, reference, (None, None))
    assert timed.ratio == 2.0  # of 2, 2 and 10
    assert candidate.per_second == 10.0 and reference.per_second == 2.5


def test_a_clock_that_is_read_right(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])

    def take(seconds: float) -> str:
        now[0] += seconds
        return f"took {seconds}"

    timed = paired(Side("fast", lambda: take(1), 4), Side("slow", lambda: take(3), 2), warm=False)
    assert timed.candidate.seconds == (1, 1, 1) and timed.reference.seconds == (3, 3, 3)
    assert timed.ratio == 6.0 and timed.results == ("took 1", "took 3")


def test_fewer_than_three_rounds_are_refused() -> None:
    side = Side("x", lambda: None, 1)
    with pytest.raises(ValueError, match="at least 3"):
        paired(side, side, rounds=2)


def test_the_document_has_what_the_contract_names() -> None:
    timing = Timing("x", 1, (1.0, 1.0, 1.0))
    document = Outcome("train", "samples", True, Paired(timing, timing, (1, 1)), {}).document()
    assert document["identical"] is True and document["ratio"] == 1.0
    assert document["machine"]["threads"] >= 1
