"""`harness models NAME`: what is said of a model's settings."""

from __future__ import annotations

import json

import pytest

from harness.registry import MODELS, ModelEntry, model_entry
from harness.runs.describing import describe
from harness.runs.job import RunOptions, plan


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.name)
def test_every_setting_has_a_meaning(entry: ModelEntry) -> None:
    description = describe(entry)
    assert [row["name"] for row in (*description["settings"], *description["protocol"]) if not row["meaning"]] == []
    json.dumps(description, allow_nan=False)


@pytest.mark.parametrize("name", ["gru4rec", "tiger"])
def test_names_and_profiles_are_those_of_a_run(name: str) -> None:
    """Each default can be given back, and each profile makes the value that is said of it."""
    description = describe(model_entry(name))
    sets = tuple(f"{row['name']}={json.dumps(row['default'])}" for row in description["settings"])
    plan(name, RunOptions(sets=sets, device="cpu"))
    for profile in description["profiles"]:
        config = plan(name, RunOptions(profile=profile, device="cpu"))[0].settings.model.model_dump(mode="json")
        for row in (row for row in description["settings"] if profile in row["profiles"]):
            value = config
            for key in row["name"].split(".")[1:]:
                value = value[key]
            assert value == row["profiles"][profile], row["name"]


def test_variants_and_choices_are_told() -> None:
    rows = {row["name"]: row for row in describe(model_entry("tiger"))["settings"]}
    assert rows["tiger.training.optimiser"]["values"] == ["adamw", "adam", "adafactor"]
    assert rows["tiger.user_tokens"]["variants"]["paper"] == 2000 and rows["tiger.user_tokens"]["default"] == 0
