"""`harness run eager-llm` from the command line, as a user types it: raw files in, a leaderboard row out. Trainings are
in processes of their own; what only reads them, or is refused, runs in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.cli.app import main
from harness.store.record import Record
from tests.cli.conftest import Done
from tests.folders import lcrec_folder

ROOT = Path(__file__).resolve().parents[1]
First = tuple[dict[str, Any], set[Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("user")
    lcrec_folder(place / "toy")
    return place


def harness(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HARNESS_HOME": str(place / "home"), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


Command = Callable[..., Done]


@pytest.fixture
def command(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`command(*arguments)` in this process, in the folder `place`."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HARNESS_HOME", str(place / "home"))

    def run(*arguments: str) -> Done:
        capfd.readouterr()
        code = main(arguments)
        return Done(code, *capfd.readouterr())

    return run


def run(place: Path, *arguments: str) -> dict[str, Any]:
    done = harness(place, "run", "eager-llm", "-d", "toy", "--profile", "smoke", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def first(place: Path) -> First:
    """The first run, and the stages that it went through: any later one finds vectors that are kept."""
    document = run(place)
    events = [json.loads(line) for line in (place / document["path"] / "log.jsonl").read_text().splitlines()]
    return document, {event.get("stage") for event in events}


def test_from_raw_files_to_the_leaderboard(place: Path, first: First, command: Command) -> None:
    document, stages = first
    assert document["metrics"]["test"]["ndcg@10"] > 0.8
    integrity = document["integrity"]
    assert integrity["users_expected"] == integrity["users_scored"] == 60
    assert integrity["invalid"] == integrity["duplicate"] == integrity["short"] == 0
    assert document["details"]["model"]["decode"]["test"]["beams"] == 20
    assert document["details"]["model"]["index"]["collision_rate"] == 0

    folder = place / document["path"]
    stored = {path.name for path in folder.iterdir()}
    assert stored >= {"result.json", "predictions.parquet", "config.yaml", "log.jsonl", "item.index.json"}
    Record.model_validate_json((folder / "result.json").read_text())
    lists = pd.read_parquet(folder / "predictions.parquet")
    index = json.loads((folder / "item.index.json").read_text())
    assert set(lists["item"]) <= set(index) and lists.groupby("user").size().eq(20).all()
    assert stages >= {"behavior", "alignment", "annealing"}

    board = command("leaderboard", "-d", "toy", "--format", "json")
    assert board.code == 0 and "eager-llm" in board.out


@pytest.mark.nightly
def test_the_same_seed_again_gives_the_same_numbers_to_the_last_digit(place: Path, first: First) -> None:
    document, reused = first[0], run(place)
    assert reused["started"] == document["started"], "a complete run is returned, not made again"
    repeated = run(place, "--fresh")
    assert repeated["started"] > document["started"]
    assert repeated["metrics"] == document["metrics"] and repeated["run_id"] == document["run_id"]
    other = run(place, "--seed", "2")
    assert other["run_id"] != document["run_id"]
    assert other["details"]["model"]["index"] != document["details"]["model"]["index"]


def test_config_yaml_repeats_the_run(first: First, command: Command) -> None:
    document = first[0]
    done = command("run", "eager-llm", "--config", str(Path(document["path"]) / "config.yaml"), "--json")
    assert json.loads(done.out)["run_id"] == document["run_id"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(("--set", "eager.index.ordr=released"), "order", marks=pytest.mark.nightly),
        pytest.param(("--set", "eager.decode.beams=many"), "beams", marks=pytest.mark.nightly),
        pytest.param(("--set", "eager.index.k=1000"), "eager.index.k", marks=pytest.mark.nightly),
        (("--set", "eager.backbone.name=no-such-folder"), "no-such-folder"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_code_2(
    place: Path, command: Command, arguments: tuple[str, ...], message: str
) -> None:
    done = command("run", "eager-llm", "-d", "toy", "--profile", "smoke", *arguments)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not list((place / "results").rglob(".*.part")) and done.out == ""
