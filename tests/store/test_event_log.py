"""The event log over interrupted sessions, and what a run costs."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from harness.store.environment import MB, MemoryWatch
from harness.store.event_log import EventLog, read_events, seconds_between
from tests.waiting import PATIENCE


def test_lines_are_on_the_disk_at_once_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log.jsonl")
    log.write(event="step", stage="train", step=3, loss=np.float32(0.5))
    log.write(event="done", seconds=9.0)
    with log.path.open("a") as file:
        file.write('{"event": "to')
    session, step, done = read_events(log.path)
    assert session["event"] == "session" and "time" in session
    assert (step["step"], step["loss"]) == (3, 0.5) and step["seconds"] >= 0
    assert done["seconds"] == 9.0 and done["session_seconds"] < 9.0
    assert read_events(tmp_path / "none") == []


def test_training_time_counts_over_sessions() -> None:
    events = [
        {"event": "session", "seconds": 0.0},
        {"event": "train", "seconds": 1.0},
        {"event": "stage end", "seconds": 99.0, "session_seconds": 4.0},  # and then a crash
        {"event": "session", "seconds": 0.0},
        {"event": "train", "seconds": 0.5},
        {"event": "trained", "seconds": 2.5},
        {"event": "stage", "seconds": 50.0},
    ]
    assert seconds_between(events, "train", "trained") == 3.0 + 2.0
    assert seconds_between(events[:3], "train", "trained") == 3.0
    assert seconds_between([], "train", "trained") == 0.0


def test_the_log_is_one_json_document_a_line(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log.jsonl")
    log.write(event="text", said="two\nlines", odd=float("nan"))
    lines = log.path.read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[1])["odd"] is None


def test_peak_memory_sees_what_was_held_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled, sample = threading.Event(), MemoryWatch._sample
    monkeypatch.setattr(MemoryWatch, "_sample", lambda self: (sample(self), sampled.set()))
    with MemoryWatch() as previous:
        pass
    with MemoryWatch() as during:
        locked = np.ones(500 * MB // 8)  # part of it may be memory that the process has freed before
        sampled.clear()
        for _ in range(2):  # the first may have begun before all was there
            assert sampled.wait(PATIENCE)
            sampled.clear()
        assert locked.sum() > 0
        del locked
    assert during.peak_mb > previous.peak_mb + 250


def test_a_session_never_continues_a_torn_line(tmp_path: Path) -> None:
    EventLog(tmp_path / "log.jsonl").write(event="train")
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "st')
    EventLog(tmp_path / "log.jsonl").write(event="train")
    assert [event["event"] for event in read_events(tmp_path / "log.jsonl")] == ["session", "train"] * 2
    assert all(json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
