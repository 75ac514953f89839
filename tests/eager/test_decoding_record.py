"""What a run's record says of decoding, with beams and with all items scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from eager.config import EagerConfig
from eager.method import EagerLLM
from harness.generative.config import DecodeConfig
from tests import toys
from tests.eager.test_method import changed, fitted


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> EagerLLM:
    return fitted(changed(backbone={"precision": "float32"}), tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("decode", [{"beams": 5}, {"beams": "all"}, {"beams": 30, "normalise": "vocabulary"}])
def test_the_record_says_how_lists_came_about(model: EagerLLM, tmp_path: Path, decode: dict[str, Any]) -> None:
    model.method = replace(model.method, decoding=changed(decode=decode).decode)
    requests = toys.split().test.requests
    lists = model.recommend(requests, 20, toys.context(tmp_path))
    result = model.record()["decode"]["test"]
    assert result["users_expected"] == result["users_scored"] == len(requests)
    assert result["invalid"] == result["duplicate"] == result["short"] == result["dropped_items"] == 0
    assert result["beams"] == ("all" if decode["beams"] == "all" else max(decode["beams"], 20))
    assert result["normalise"] == decode.get("normalise", "level")
    assert result["reader"] == "SharedReader" and result["shared_tokens"] > 0
    assert (lists.lengths == 20).all()


def test_enough_beams_for_all_items_give_what_scoring_all_gives(model: EagerLLM, tmp_path: Path) -> None:
    requests, context, lists = toys.split().test.requests, toys.context(tmp_path), []
    for beams in (24, "all"):
        model.method = replace(model.method, decoding=DecodeConfig(beams=beams))
        lists.append(model.recommend(requests, 20, context))
    np.testing.assert_array_equal(lists[0].items, lists[1].items)
    np.testing.assert_allclose(lists[0].scores, lists[1].scores, atol=1e-3)


@pytest.mark.parametrize("beams", [0, -3, 2.5, True, "some", None])
def test_beams_are_a_number_or_all(beams: Any) -> None:
    with pytest.raises(ValidationError, match="neither a positive integer nor"):
        DecodeConfig(beams=beams)
    assert EagerConfig.model_validate_json('{"decode": {"beams": "all"}}', strict=True).decode.beams == "all"
