"""Samples of the two benchmarks that `docs/reliability.md` tells the figures of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.victims import Death, Place, differences, litter, run, torn

ROOT = Path(__file__).parents[1]


def figures(folder: Path, module: str, *arguments: str) -> dict[str, Any]:
    """Runs a benchmark; the JSON document of its figures."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    location = ("--folder", str(folder), "--json", str(folder / "figures.json"))
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, *location]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "figures.json").read_text())


@pytest.mark.nightly
def test_five_kills_over_the_stages(tmp_path: Path) -> None:
    result = figures(tmp_path, "kills", "--kills", "5", "--seed", "3", "--stages", "tiger,prepare,index,grid,download")
    assert result["kills"] >= 5 and result["failed"] == []
    assert all(stage["equal"] == stage["cases"] for stage in result["stages"])


@pytest.mark.nightly
def test_four_processes_on_one_results_folder(tmp_path: Path) -> None:
    result = figures(tmp_path, "shared_store", "--processes", "4", "--runs", "10", "--kills", "6", "--life", "0.1")
    assert (result["records"], result["distinct"], result["wrong"]) == (40, 40, [])
    assert result["kills"] > 0 and result["reads"] > 5


def test_what_the_benchmarks_look_for_is_found(tmp_path: Path) -> None:
    """A writer in place is torn by a kill, and a checker that could not see that would prove nothing."""
    place = Place(tmp_path / "case")

    def careless(_: Place) -> None:
        path = place.folder / "results" / "state.json"
        path.parent.mkdir(exist_ok=True)
        with path.open("w") as file:
            file.write('{"a": ')
            file.flush()
            os.fsync(file.fileno())
            file.write("1}")
        (place.folder / "left.tmp").touch()

    complete = run(careless, place)
    assert complete.code == 0 and torn(place) == [] and litter(place) == ["left.tmp"]
    states = []
    for change in range(1, complete.changes + 1):
        assert run(careless, place, Death(change=change)).code == -9
        states.append(len(torn(place)))
    assert 1 in states and 0 in states
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}}) != [] and differences({"a": 1}, {"a": 1}) == []


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_a_victim_is_told(tmp_path: Path, code: int) -> None:
    def leave(_: Place) -> int:
        if code:
            os._exit(code)
        return 0

    assert run(leave, Place(tmp_path / "case")).code == code


@pytest.mark.nightly
def test_a_victim_interrupted_at_any_moment_ends_as_an_interrupted_command(tmp_path: Path) -> None:
    """From before it is a process group of its own on: its fork must not live on in what this process was doing."""

    def linger(_: Place) -> None:
        time.sleep(60)

    for number in range(40):
        death = Death(after=number * 0.0005, how=signal.SIGINT)
        assert run(linger, Place(tmp_path / str(number)), death).code == 130, number
