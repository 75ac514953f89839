"""`~` in paths on the command line, and paths beside a configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from harness.cli.app import app
from harness.cli.options import expanded
from harness.runs.job import RunOptions, plan
from tests.cli.conftest import Harness


def test_the_home_folder_behind_an_equals_sign(
    harness: Harness, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert harness("run", "markov", "-d", toy, "--results=~/runs").code == 0
    assert harness("leaderboard", "--results=~/runs", "--format", "csv", "-o~/board.csv").code == 0
    assert (tmp_path / "user/runs/runs/markov").is_dir() and (tmp_path / "user/board.csv").is_file()
    assert not Path("~").exists()


def commands(group: typer.Typer) -> list:
    result = list(group.registered_commands)
    return result + [each for below in group.registered_groups for each in commands(below.typer_instance)]


def test_no_command_goes_round_it() -> None:
    for command in commands(app):
        assert command.callback.__code__.co_filename.endswith("options.py"), command.callback.__name__
    home = Path.home()
    assert expanded([Path("~/a"), "~/b"]) == [home / "a", "~/b"] and expanded(None) is None


def test_paths_of_a_configuration_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "codes.json").write_text("{}")
    (folder / "my.yaml").write_text("tiger:\n  index:\n    kind: file\n    file: codes.json\n")
    monkeypatch.chdir(tmp_path)
    (job,) = plan("tiger", RunOptions(config=Path("settings/my.yaml")))
    assert job.settings.model.index.file == folder / "codes.json"  # type: ignore[attr-defined]
