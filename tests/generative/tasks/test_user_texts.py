"""A file of generated texts: read in place of the rule's, refused in one line where it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eager.config import EagerConfig
from harness.errors import InputError
from harness.generative.config import TasksConfig
from harness.generative.tasks.item_texts import task_texts
from tests import toys

TRAIN = toys.split().train
TEXT = TRAIN.text or ()
ITEMS = {item: f"wish  for {item}" for item in reversed(TRAIN.items)}  # another order than the catalogue's
USERS = {user: {"long": f"{user} long", "short": f"{user} short"} for user in TRAIN.users}


def write(folder: Path, content: Any) -> TasksConfig:
    path = folder / "texts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return TasksConfig(intentions=str(path))


def test_given_texts_take_the_place_of_the_rule(tmp_path: Path) -> None:
    texts = task_texts(TRAIN, TEXT, write(tmp_path, {"items": ITEMS, "users": USERS}))
    assert texts.intentions == [f"wish for {item}" for item in TRAIN.items]
    assert texts.preferences == {span: [f"{user} {span}" for user in TRAIN.users] for span in ("long", "short")}
    assert texts.written == {"intentions": "file", "preferences": "file"}


@pytest.mark.parametrize("part", ["items", "users"])
def test_a_part_that_is_left_out_is_written_by_the_rule(part: str, tmp_path: Path) -> None:
    texts = task_texts(TRAIN, TEXT, write(tmp_path, {part: {"items": ITEMS, "users": USERS}[part]}))
    rule = task_texts(TRAIN, TEXT, TasksConfig())
    value, remaining = ("intentions", "preferences") if part == "items" else ("preferences", "intentions")
    assert texts.written == {value: "file", remaining: "rule"}
    assert getattr(texts, remaining) == getattr(rule, remaining) and getattr(texts, value) != getattr(rule, value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"items": {"x1": "a", "x2": "b"}},
            r"items: 24 of 24 items are missing \('i0', …\) and 2 are not in this data",
        ),
        ({"items": {**ITEMS, "x": "a"}}, r"1 are not in this data set \('x', …\)"),
        ({"items": {i: t for i, t in ITEMS.items() if i != "i7"}}, r"1 of 24 items are missing \('i7', …\)"),
        ({"users": {u: t for u, t in USERS.items() if u != "u9"}}, r"users: 1 of 60 users are missing \('u9', …\)"),
        ({"items": {**ITEMS, "i3": 5}}, "item 'i3': the value must be a text"),
        ({"items": {**ITEMS, "i3": "  "}}, "item 'i3': the value must be a text"),
        ({"users": {**USERS, "u4": "likes boxes"}}, "user 'u4': the value must be an object of two texts"),
        ({"users": {**USERS, "u4": {"long": "a"}}}, "user 'u4': the value must be an object of two texts"),
        ({"users": {**USERS, "u4": {"long": "a", "short": None}}}, "user 'u4' short: the value must be a text"),
        ({"items": ["a"]}, "'items' is not an object"),
        ({"item": ITEMS}, "unknown part 'item'; did you mean items"),
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as error:
        task_texts(TRAIN, TEXT, write(tmp_path, content))
    assert "texts.json" in str(error.value) and "\n" not in str(error.value) and error.value.exit_code == 2


def test_it_is_found_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eager.method import EagerLLM
    from harness.generative.sequence_models import LanguageModel

    monkeypatch.setattr(LanguageModel, "load_backbone", lambda *value: pytest.fail("the backbone was loaded first"))
    tasks = {**EagerConfig.profiles["smoke"]["tasks"], "intentions": str(tmp_path / "nothing.json")}
    config = EagerConfig.model_validate({**EagerConfig.profiles["smoke"], "tasks": tasks})
    with pytest.raises(InputError, match=r"nothing\.json: the file is missing"):
        EagerLLM(config).fit(TRAIN, toys.context(tmp_path))


def test_its_content_is_part_of_the_key_of_a_run(tmp_path: Path) -> None:
    tasks = write(tmp_path, {"items": ITEMS})
    assert EagerConfig(tasks=tasks).files(TRAIN) == (tmp_path / "texts.json",)
    assert EagerConfig().files(TRAIN) == ()
