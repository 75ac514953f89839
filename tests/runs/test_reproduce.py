"""The command of a stored run, told from its settings (tests/cli/test_leaderboard.py runs what is told)."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.core import config_files
from harness.registry import model_entry
from harness.runs.config import ConfigFile, resolve
from harness.runs.reproduce import command
from harness.store.run_store import Store
from tests.store.made import put


def test_every_variant_is_told_by_its_name(tmp_path: Path) -> None:
    """A variant's many settings are one `--set`."""
    entry = model_entry("tiger")
    settings = resolve(entry, "gpu", ConfigFile(), ["tiger.variant=letter", "tiger.training.epochs=3"])
    store = Store(tmp_path)
    put(store, model="tiger", profile="gpu", cost={"device": "cpu"})
    (run,) = store.query()
    stored = {"tiger": settings.model.resolved("cpu").model_dump(mode="json"), "protocol": {}}
    stored["protocol"] = settings.protocol.model_dump(mode="json")
    run.folder.config.write_text(config_files.write(stored))
    told = shlex.split(command([run]))
    assert [part for part in told if "=" in part] == ["tiger.variant=letter", "tiger.training.epochs=3"]


def test_what_cannot_be_told(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, model="elsewhere")
    put(store, model="markov", details={"no_such_setting": 3})
    other, ours = sorted(store.query(), key=lambda run: run.record.model)
    assert command([other]) == "harness evaluate PREDICTIONS -d toy --name elsewhere"
    assert command([ours]) == "", "settings of another version"
