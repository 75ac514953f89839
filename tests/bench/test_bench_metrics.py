"""`harness bench metrics` on a few users: both ways agree, and it would say so if they did not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harness.bench import metrics
from harness.bench.timing import Options


@pytest.mark.nightly
def test_both_ways_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = metrics.measure(Options(users=150, items=12))
    document = json.loads(json.dumps(outcome.document()))
    assert document["identical"] and document["ratio"] > 1
    assert document["parts"]["first"]["seconds"] > 0
    assert document["ours"]["units"] == 150 and document["reference"]["units"] == 100
    monkeypatch.setattr(metrics, "_first", lambda *value: 0.0)
    exact = metrics.per_user
    monkeypatch.setattr(metrics, "per_user", lambda *value: {k: v + 1e-15 for k, v in exact(*value).items()})
    assert not metrics.measure(Options(users=150, items=12)).identical


def test_lists_are_distinct_and_half_of_them_hit() -> None:
    predictions, targets = metrics.lists(400, 20, 1)
    assert predictions.problems(targets.cases, metrics.CATALOGUE) == []
    hits = (predictions.items == targets.items[:, None]).any(axis=1)
    assert (
        0.4 < hits.mean() < 0.6 and np.unique(np.argmax(predictions.items == targets.items[:, None], axis=1)).size > 10
    )
