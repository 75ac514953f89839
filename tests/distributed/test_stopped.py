"""Runs of two processes that are stopped: by Ctrl-C, by the death of either, by one that stands still; and go on."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness
from harness.generative.training.checkpoint import read_snapshot
from harness.runs import distributed
from harness.store.event_log import read_events
from tests.distributed.cases import started
from tests.distributed.test_launchers import BY_ACCELERATE, SHORT, command, home, launched, lists, toy
from tests.waiting import PATIENCE, wait_for

__all__ = ["home", "toy"]  # fixtures
pytestmark = [pytest.mark.nightly, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]
LONG = {"tiger.training.max_steps": 100_000, "tiger.training.epochs": 100_000, "tiger.training.every": 1}
FINITE = {"tiger.training.max_steps": 50, "tiger.training.epochs": 1000, "tiger.training.every": 5}


def kept_steps(results: Path) -> int:
    for path in results.glob("runs/tiger/*/*/checkpoint/tiger.safetensors"):
        stage = read_snapshot(path)
        return int(stage[0]["step"]) if stage else 0
    return 0


def stopped(
    requested: list[str], results: Path, stop: Callable[[Any, Any], None], module: str = "harness"
) -> tuple[list[int | None], list[list[str]]]:
    """Exit codes, and what each said of it, of two processes that are stopped once they have kept something; those that
    `stop` gives up are not waited for."""
    with started(module, *requested, HARNESS_DEBUG="0") as both:
        wait_for(lambda: kept_steps(results) > 0 or any(one.poll() is not None for one in both), "a state that is kept")
        assert [one.poll() for one in both] == [None, None], both[0].communicate()[1]
        asleep = stop(*both)
        message = [one.communicate(timeout=PATIENCE)[1] if one is not asleep else "" for one in both]
        codes = [one.poll() for one in both]
    return codes, [[line for line in text.splitlines() if line.startswith("harness")] for text in message]


def test_ctrl_c_ends_both_and_the_same_command_goes_on(toy: Path, tmp_path: Path) -> None:
    requested = command(toy, tmp_path / "both", **FINITE)

    def interrupt(first: Any, second: Any) -> None:
        first.send_signal(signal.SIGINT)
        second.send_signal(signal.SIGINT)

    codes, message = stopped(requested, tmp_path / "both", interrupt)
    line = "harness: interrupted; the same command resumes the run"
    assert codes == [130, 130] and message == [[line], []]
    previous = kept_steps(tmp_path / "both")
    with started("harness", *requested, "--json") as both:
        out, *_ = [one.communicate(timeout=PATIENCE) for one in both]
    assert [one.returncode for one in both] == [0, 0] and "resuming the unfinished run" in out[1], out
    document = json.loads(out[0])
    events = read_events(Path(document["path"]) / "log.jsonl")
    second = max(number for number, event in enumerate(events) if event.get("event") == "session")
    steps = [event["step"] for event in events[second:] if event.get("stage") == "tiger" and "step" in event]
    assert 0 < previous < steps[0] and steps[-1] == FINITE["tiger.training.max_steps"], "it began anew"
    alone = harness.run("tiger", str(toy), profile="smoke", set={**SHORT, **FINITE}, results=tmp_path / "alone")
    assert not isinstance(alone, list)
    assert alone.record.run_id == document["run_id"]
    assert document["metrics"]["test"] == pytest.approx(alone.record.metrics.test)
    pd.testing.assert_frame_equal(lists(document["path"]), lists(alone.path))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_stands_still_is_missed(victim: int, toy: Path, tmp_path: Path) -> None:
    """As where a machine loses its power, or a network its machine: nobody closes a connection."""

    def freeze(*both: Any) -> Any:
        both[victim].send_signal(signal.SIGSTOP)
        return both[victim]

    codes, message = stopped(command(toy, tmp_path, **LONG), tmp_path, freeze, "tests.distributed.impatient")
    other = 1 - victim
    speaker = "harness, process 1 of 2" if other else "harness"
    kind = f"process {victim} of 2 has not responded for 4 seconds; the same command resumes the run"
    assert codes[other] == 1 and codes[victim] is None
    assert message[other] == [f"{speaker}: {kind}"]
    assert kept_steps(tmp_path) > 0


def test_the_first_dies_and_the_second_says_so(toy: Path, tmp_path: Path) -> None:
    codes, message = stopped(command(toy, tmp_path, **LONG), tmp_path, lambda first, second: first.kill())
    assert codes == [-9, 1] and len(message[1]) == 1
    assert message[1][0].startswith(
        "harness, process 1 of 2: another process of this run has ended; the same command resumes the run"
    )
    assert ".cc:" not in message[1][0], "where in its source the transport says it is nobody's business"


def test_accelerate_launches_two_on_processors(toy: Path, tmp_path: Path) -> None:
    arguments = ("run", "mostpop", "-d", str(toy), f"--results={tmp_path}", "--json")
    done = launched("accelerate.commands.accelerate_cli", *BY_ACCELERATE, "-m", "harness", *arguments)
    assert done.returncode == 0 and json.loads(done.stdout)["model"] == "mostpop"
    assert "mostpop runs in one process; the other 1 are idle" in done.stderr


class Store(dict[str, int]):
    def add(self, key: str, value: int) -> int:
        self[key] = self.get(key, 0) + value
        return self[key]


def test_one_that_leaves_in_order_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "BEAT", 0.02)
    monkeypatch.setattr(distributed, "SILENT", 0.6)
    store, message = Store(), list[str]()
    with distributed.heartbeat(store, 0, 3, message.append):
        with distributed.heartbeat(store, 1, 3, message.append), distributed.heartbeat(store, 2, 3, message.append):
            time.sleep(1.5)
        time.sleep(1.5)
        assert message == []
    with distributed.heartbeat(Store(), 1, 2, message.append):
        wait_for(lambda: message != [], "the end")
    assert len(message) == 1 and message[0].startswith("harness, process 1 of 2: process 0 of 2 has not responded for")
