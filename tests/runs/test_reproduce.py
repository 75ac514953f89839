"""The command that repeats a run (tests/cli/test_leaderboard.py runs such commands)."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from harness.runs.job import RunOptions, command_of, plan
from harness.store.run_store import Store
from tests.store.made import put

VARIANT = ("tiger.variant=letter", "tiger.training.epochs=3")


@pytest.mark.parametrize("sets", [(), VARIANT, ("protocol.max_history=7", 'tiger.semantic.encoder="/a b/1"')])
def test_a_configuration_file_becomes_few_assignments(toy: str, tmp_path: Path, sets: tuple[str, ...]) -> None:
    """Only what the profile does not give already, whichever way the settings came."""
    options = RunOptions(dataset=toy, profile="gpu", device="cpu", sets=sets, seeds=(3,))
    (job,) = plan("tiger", options)
    file = tmp_path / "config.yaml"
    file.write_text(job.config_yaml())
    (second,) = plan("tiger", RunOptions(config=file, device="cpu"))
    assert second.settings == job.settings and second.seed == 3
    words = second.command
    changed = tuple(word for previous, word in pairwise(words) if previous == "--set")
    (repeated,) = plan("tiger", replace(options, sets=changed))
    assert repeated.settings == job.settings
    assert job.command[:8] == words[:8] == ("harness", "run", "tiger", "-d", toy, "--profile", "gpu", "--seed")
    assert sorted(changed) == sorted(sets)


def test_rankings_and_records_of_schema_1(tmp_path: Path) -> None:
    store = Store(tmp_path)
    lists = ["harness", "evaluate", "/somewhere/lists.csv", "-d", "/somewhere/toy", "--name", "elsewhere"]
    put(store, model="elsewhere", seed=None, command=lists)
    older = {"schema": 1, "settings": None, "command": None}
    put(store, model="older", seed=None, **older)
    put(store, model="markov", seed=1, **older)
    put(store, model="markov", seed=2, **older)
    elsewhere, first, second, without = sorted(store.query(), key=lambda run: (run.record.model, run.record.run_id))
    assert command_of([elsewhere]) == "harness evaluate lists.csv -d toy --name elsewhere"
    assert command_of([without]) == "harness evaluate PREDICTIONS -d toy --name older"
    expected = f"harness run markov -d toy --config {first.folder.config} --seed 1 --seed 2"
    assert command_of([first, second]) == shlex.join(shlex.split(expected))
