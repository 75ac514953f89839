"""Prompts: what stands where, what is labelled, and what gives way in a short context."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.data.dataset import ItemText
from harness.errors import InputError
from harness.generative.tasks.prompts import IGNORED, Prompts, describe, name_of
from harness.generative.tasks.prompts import sample as written
from tests.generative import toy_models

SLOTS = {
    "seqrec": set(),
    "item2index": {"text"},
    "index2item": {"code"},
    "fusionseqrec.titles": {"history"},
    "fusionseqrec.codes": {"history"},
    "itemsearch": {"intention", "history"},
    "preferenceobtain.long": {"history"},
    "preferenceobtain.short": {"history"},
}


def test_prompts_end_with_the_history_and_carry_one_id_a_code_token(tmp_path: Path) -> None:
    backbone, codes = toy_models.backbone(tmp_path), toy_models.table()
    prompts = Prompts(backbone, codes)
    history = np.array([4, 0, 9])
    ids = prompts.history(history)
    assert ids[-9:] == (codes.flat[history] + backbone.vocabulary).reshape(-1).tolist()
    assert ids[:-9] == prompts.lead() and max(prompts.lead()) < backbone.vocabulary


def test_a_prompt_holds_the_whole_history_and_leaves_shortening_to_decoding(tmp_path: Path) -> None:
    backbone, codes = toy_models.backbone(tmp_path, "gpt2"), toy_models.table()  # 256 positions
    prompts = Prompts(backbone, codes)
    assert len(prompts.history(np.arange(200) % 30)) == len(prompts.lead()) + 200 * codes.levels


def test_templates_are_eight_distinct_ones_a_group_with_the_history_last(tmp_path: Path) -> None:
    prompts = Prompts(toy_models.backbone(tmp_path), toy_models.table())
    assert set(prompts.templates) == set(SLOTS)
    every = [text for texts in prompts.templates.values() for text in texts]
    assert len(set(every)) == len(every) == 8 * len(SLOTS)
    for group, texts in prompts.templates.items():
        for text in texts:
            assert set(re.findall(r"{(\w+)}", text)) == SLOTS[group]
            assert "history" not in SLOTS[group] or text.endswith("{history}")


def test_slots_are_filled_in_place_and_pieces_join_to_the_whole_text(tmp_path: Path) -> None:
    backbone = toy_models.backbone(tmp_path)
    prompts = Prompts(backbone, toy_models.table())
    request, history = prompts.tokens(["a red pen"])[0].tolist(), [backbone.vocabulary + 3, backbone.vocabulary + 5]
    for number, text in enumerate(prompts.templates["itemsearch"]):
        ids = prompts.fill("itemsearch", number, {"intention": request, "history": history})
        assert ids[-2:] == history
        assert backbone.tokenizer.decode(ids[:-2]) == text.replace("{intention}", "a red pen").replace("{history}", "")
        assert len(ids) - len(request) - 2 <= prompts.overhead("itemsearch", 8)


def test_a_text_is_cut_to_what_is_asked_and_to_what_fits(tmp_path: Path) -> None:
    backbone, codes = toy_models.backbone(tmp_path), toy_models.table()
    text = ItemText("word " * 400)
    for cut in (6, 48):
        prompts = Prompts(backbone, codes, cut)
        message = [label for label in prompts.index2item(2, text, 0).labels if label != IGNORED]
        assert len(message) == cut + 1 and message[-1] == backbone.eos
    narrow = Prompts(replace_context(backbone, 60), codes, 500)
    for number in range(8):
        assert len(narrow.index2item(2, text, number).ids) <= 60
    with pytest.raises(InputError, match="too short for the prompts of item2index"):
        Prompts(replace_context(backbone, 20), codes).item2index(2, text, 0)


def replace_context(backbone, positions: int):  # type: ignore[no-untyped-def]
    """The backbone with another longest input."""
    from copy import copy

    body = copy(backbone.body)
    body.config = copy(body.config)
    body.config.max_position_embeddings = positions
    return replace(backbone, body=body)


def test_an_item_without_a_title_is_called_by_what_is_known_of_it() -> None:
    assert name_of(ItemText("Pen", brand="BIC")) == "Pen"
    assert name_of(ItemText("", brand="BIC", categories=("x", "y"))) == "BIC. x, y"


def test_only_the_response_is_labelled() -> None:
    result = written([1, 2], [7, 8], 5)
    assert (result.ids, result.labels, result.item) == ([1, 2, 7, 8], [IGNORED, IGNORED, 7, 8], 5)


def test_samples_label_the_response_alone(tmp_path: Path) -> None:
    backbone, codes = toy_models.backbone(tmp_path), toy_models.table()
    prompts, text = Prompts(backbone, codes), ItemText("A title", "long words", "maker", ("x", "y"))
    assert describe(text) == "A title. maker. x, y. long words"
    forth, back = prompts.item2index(3, text, 2), prompts.index2item(3, text, 2)
    code = (codes.flat[3] + backbone.vocabulary).tolist()
    assert [label for label in forth.labels if label != IGNORED] == code == forth.ids[-3:] and forth.item == 3
    message = [label for label in back.labels if label != IGNORED]
    assert backbone.tokenizer.decode(message[:-1]) == " A title" and message[-1] == backbone.eos and back.item is None
    assert [token for token in back.ids if token >= backbone.vocabulary] == code
