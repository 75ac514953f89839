"""A stage of tuning by one process, by two, and by both in turns; and what processes say to each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.protocol.world import ALONE
from tests.distributed import stages
from tests.distributed.cases import started
from tests.distributed.stages import STOPPED, Stage, found, interrupted

Found = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes have been here; one had been before them."""
    folder = tmp_path_factory.mktemp("stages")
    interrupted(Stage(ALONE, folder / "by-one"))
    with started("tests.distributed.cases", str(folder), "stages") as running:
        for process in running:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> Found:
    first, second = (json.loads((folder / f"stages-{rank}.json").read_text()) for rank in (0, 1))
    return first, second


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["steps"] == other["steps"]
    for mine, theirs in zip(one["values"], other["values"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5)
    np.testing.assert_allclose(one["seen"], other["seen"], rtol=1e-5)


def test_two_take_the_steps_of_one(both: Found) -> None:
    alone = found(Stage(ALONE))
    same(both[0]["whole"], alone)
    assert both[0]["whole"] == both[1]["whole"]
    unused = alone["values"][4:]
    assert both[0]["whole"]["values"][4:] == unused, "what no sample used is not decayed, as alone"


def test_a_process_without_samples_takes_the_same_steps(both: Found) -> None:
    same(both[0]["small"], found(Stage(ALONE, parts=1)))
    assert both[0]["small"] == both[1]["small"]


def test_two_continue_what_one_began(both: Found, folder: Path) -> None:
    same(both[0]["continued"], found(Stage(ALONE)))
    assert both[0]["continued"] == both[1]["continued"] == both[0]["again"] == both[1]["again"]


def test_one_continues_what_two_began(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "by-two", tmp_path / "kept")
    assert json.loads((tmp_path / "kept/stage/stage.json").read_text())["step"] == STOPPED
    same(found(Stage(ALONE, tmp_path / "kept")), found(Stage(ALONE)))


def test_a_clock_ends_the_stage_everywhere_at_one_step(both: Found) -> None:
    assert 0 < both[0]["clocked"]["steps"] < 100_000
    assert both[0]["clocked"] == both[1]["clocked"]


def test_what_is_said(both: Found) -> None:
    first, second = both[0]["talk"], both[1]["talk"]
    refused = first.pop("refused"), second.pop("refused")
    assert first == second
    assert first == {
        "told": {"rank": 0, "text": "é" * 40},
        "handed": ["int32", [[0, 1, 2], [3, 4, 5]]],
        "empty": [[0, 4], [0, 4]],
        "gathered": [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0, 13.0, 14.0]],
        "nobody": [0, 3],
        "summed": [3.0, 3.0],
        "spread": [[0.0, 0.0], [0.0, 0.0]],
        "agreed": 7,
        "once": 7,
    }
    why = "no such file; name another"
    assert refused[0][:3] == [f"InputError: process 1 of 2: {why}", f"InputError: {why}", f"InputError: {why}"]
    assert refused[0][3].startswith("InputError: process 1 of 2: it would make the run run-1, the first makes run-0")
    assert refused[0][4] == f"InputError: {why}"
    assert [line.partition(":")[0] for line in refused[1]] == ["Withdrawn"] * 5


def test_alone_is_a_world_of_one() -> None:
    told = stages.talk(ALONE)
    assert told["told"] == {"rank": 0, "text": "é" * 40} and told["gathered"] == [[0.0, 1.0, 2.0]]
    assert told["summed"] == [1.0, 1.0] and told["agreed"] == told["once"] == 7
