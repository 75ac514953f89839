"""Comprehension: what is asked, what counts as right, and that it rises where the tasks teach it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eager.method import EagerLLM
from harness.generative import comprehension
from harness.generative.comprehension import perplexity, plain_text, sample_items, token_f1
from harness.generative.sequence_models import LanguageModel
from harness.generative.tasks.item_texts import held_out_items
from harness.protocol.context import SilentReporter
from tests import toys
from tests.eager.test_method import changed, fitted

HELD_OUT = 0.2
TAUGHT: dict[str, dict[str, Any]] = {
    "tuning": {"max_steps": 400, "rows": 16},
    "tasks": {"item2index": 3.0, "index2item": 3.0, "fusionseqrec": 0.0, "itemsearch": 0.0, "preferenceobtain": 0.0}
    | {"held_out": HELD_OUT, "templates": 1},
    "comprehension": {"items": 10},
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> EagerLLM:
    """A model that was trained on titles and codes above all."""
    return fitted(changed(**TAUGHT), tmp_path_factory.mktemp("taught"))


@pytest.mark.parametrize(
    ("message", "expected", "mark"),
    [("a b", "a b", 1.0), ("", "a", 0.0), ("a a", "a", 2 / 3), ("a b c", "c d", 0.4), ("", "", 1.0), ("x", "y", 0.0)],
)
def test_token_f1_by_hand(message: str, expected: str, mark: float) -> None:
    assert token_f1(message.split(), expected.split()) == pytest.approx(mark)


def test_items_are_asked_for_by_a_hash_of_their_raw_ids() -> None:
    names = [f"i{n}" for n in range(50)]
    of = np.arange(50) % 2 == 0
    chosen = sample_items(names, of, 9)
    assert len(chosen) == 9 and not (chosen % 2).any() and sorted(chosen) == chosen.tolist()
    back = sample_items(names[::-1], of[::-1], 9)
    assert {names[item] for item in chosen} == {names[::-1][item] for item in back}
    assert sample_items(names, of, 100).tolist() == np.flatnonzero(of).tolist()


@pytest.mark.nightly
def test_what_the_tasks_teach_is_understood_and_what_they_leave_out_is_not(taught: EagerLLM) -> None:
    result = taught.record()["comprehension"]
    assert list(result) == ["before", "aligned", "annealed", "measured_on"]
    previous, aligned = result["before"], result["aligned"]
    for task in ("title_to_code", "code_to_title"):
        assert previous[task]["exact"] <= 0.3 and aligned[task]["token_f1"] > previous[task]["token_f1"]
        for moment in ("before", "aligned", "annealed"):
            assert all(0 <= mark <= 1 for mark in result[moment][task].values())
    expected, unknown = aligned["title_to_code"], aligned["held_out"]["title_to_code"]
    assert expected["exact"] >= 0.2 > unknown["exact"] and expected["token_f1"] >= 0.4 > unknown["token_f1"]
    assert aligned["item_text_perplexity"] < previous["item_text_perplexity"], "the held-out texts are like the others"
    locked = int(held_out_items([f"i{n}" for n in range(24)], HELD_OUT).sum())
    assert result["measured_on"] == {
        "items": 10,
        "held_out_items": locked,
        "plain_text_tokens": len(plain_text().encode()),
    }


def test_drift_is_from_the_base_model(tmp_path: Path) -> None:
    model = fitted(changed(comprehension={"items": 2}), tmp_path)
    result = model.record()["comprehension"]
    base, now = result["before"], result["annealed"]
    assert base["plain_text_drift"] == 0 and now["plain_text_drift"] != 0
    ratio = now["plain_text_perplexity"] / base["plain_text_perplexity"]
    assert now["plain_text_drift"] == pytest.approx(ratio - 1)
    language_model = model.method.model
    assert isinstance(language_model, LanguageModel)
    text = [language_model.prompts.ids(plain_text())]
    repeated = perplexity(model.model.eval(), text, "cpu", language_model.precision)
    assert repeated == pytest.approx(now["plain_text_perplexity"], rel=0.02) and math.isfinite(ratio)


def test_the_plain_text_has_a_length_that_can_be_measured() -> None:
    assert 1200 < len(plain_text().split()) < 2500


def test_nothing_is_measured_where_no_items_are_asked_for(tmp_path: Path) -> None:
    assert fitted(changed(comprehension={"items": 0}), tmp_path).record()["comprehension"] is None


class Events(SilentReporter):
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def event(self, **fields: Any) -> None:
        self.seen.append(fields)


def test_it_is_set_aside_kept_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").mkdir()
    watch, split = Events(), toys.split()
    context = replace(toys.context(tmp_path, reporter=watch), checkpoint=tmp_path / "kept")
    first = EagerLLM(changed())
    first.fit(split.train, context)
    marks = [event["event"] for event in watch.seen if "event" in event]
    assert marks == ["aside", "back"] * 3
    document = json.loads((tmp_path / "kept/comprehension.json").read_text())
    assert list(document) == ["before", "aligned", "annealed"]

    def never(*value: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(comprehension, "recommend", never)
    repeated = EagerLLM(changed())
    repeated.fit(split.train, context)
    assert repeated.record()["comprehension"] == first.record()["comprehension"]


def test_measuring_changes_no_training(tmp_path: Path) -> None:
    import torch

    one = fitted(changed(), tmp_path / "one")
    other = fitted(changed(comprehension={"items": 0}), tmp_path / "other")
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
