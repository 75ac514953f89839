"""`harness bench scale` on a small size: every stage is there, in a process of its own, and lists are real."""

from __future__ import annotations

import json

import pytest

from harness.bench import scale
from harness.cli.app import main

pytestmark = pytest.mark.nightly


def test_a_size_has_all_stages_and_its_memory() -> None:
    (result,) = scale.measure([300], items=200)
    assert result["users"] == 300 and result["peak_memory_mb"] > 10
    for name in scale.MODELS:
        stages = result[name]["stages"]
        assert set(stages) == {"fit", "recommend", "audit", "measure"} and all(value > 0 for value in stages.values())
        assert result[name]["recall@10"] > 0.05  # the head of the catalogue takes a good share of the answers
    assert result["seconds"] > result["split_seconds"] > 0


def test_the_command_prints_one_document_or_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "scale", "--users", "150", "--items", "120"]
    assert main([*arguments, "--json"]) == 0
    assert [size["users"] for size in json.loads(str(capfd.readouterr().out))["sizes"]] == [150]
    assert main(arguments) == 0 and "markov s" in str(capfd.readouterr().out)


def test_histories_are_long_enough_to_split() -> None:
    data = scale.drawn(500, 100, 1)
    assert data.sequences.lengths.min() == scale.SHORTEST and 7 < data.sequences.lengths.mean() < 9
