"""Every model still recommends what it did when `predictions.json` was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.registry import MODELS
from tests.golden.predictions import FILE, differences, overlap, predict

GOLDEN = json.loads(FILE.read_text("utf-8"))
QUICK = {"mostpop/1", "markov/1", "itemknn/1", "tiger/1"}
CASES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.nightly) for name in GOLDEN]


def test_every_model_is_there() -> None:
    assert {f"{entry.name}/{seed}" for entry in MODELS for seed in (1, 2, 3)} == set(GOLDEN)


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_as_recorded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    model, _, seed = name.partition("/")
    assert not differences(GOLDEN[name], predict(model, int(seed), tmp_path), near=True)


def test_other_predictions_are_noticed() -> None:
    """Exactly by their hashes; from another machine by the lists and the metric."""
    one, other = GOLDEN["markov/1"], GOLDEN["mostpop/1"]
    assert not differences(one, one) and not differences(one, one, near=True)
    assert differences(one, other) == ["items differ", "scores differ"]
    assert differences(one, other, near=True)[0].startswith("ndcg@10 differs")
    assert differences(one, {**one, "scores": "another sum"}) and not differences(
        one, {**one, "scores": "x"}, near=True
    )
    assert overlap([[1, 2, 3, 4]], [[4, 3, 9, 8]]) == 0.5
    assert overlap([[1]], []) == 0.0
