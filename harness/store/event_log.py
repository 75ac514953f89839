"""`log.jsonl`: one line an event, flushed at once.

A run that was interrupted and resumed has several sessions in one file; each begins with the event `session`.

`RunReporter` writes stages and events of a run to it, and forwards them to the progress display.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core.files import writing_results
from harness.protocol.context import Reporter, Stage
from harness.store.record import to_jsonable


class EventLog:
    """Appends events to one file. `seconds` in a line counts from the start of its session. `on_event` is called with
    each line that was written, as plain values."""

    def __init__(self, path: Path, on_event: Callable[[dict[str, Any]], None] = lambda line: None) -> None:
        self.path, self.on_event = path, on_event
        self._began = time.monotonic()
        with writing_results(path):
            cut_torn_line(path)
        self.write(event="session", time=datetime.now(UTC).isoformat())

    def write(self, **fields: Any) -> None:
        """One line, flushed. Raises `InputError` where the disk refuses."""
        line = {**fields, "seconds": round(time.monotonic() - self._began, 6)}
        if "seconds" in fields:  # the caller's measurement stays; the session's clock gets its own key
            line = {**line, "seconds": fields["seconds"], "session_seconds": line["seconds"]}
        line = to_jsonable(line)
        with writing_results(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.on_event(line)


def cut_torn_line(path: Path) -> None:
    """Removes a last line that a kill cut short, so that the next one does not continue it."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        total = file.read().rfind(b"\n") + 1
        file.truncate(total)


def read_events(path: Path) -> list[dict[str, Any]]:
    """All complete lines; a last line that a crash cut short is left out. Empty where there is no file."""
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def seconds_between(events: list[dict[str, Any]], begin: str, end: str) -> float:
    """Wall seconds between the events `begin` and `end`, over all sessions; where a session was cut short, up to its
    last line."""
    seconds, began, last = 0.0, None, 0.0
    for event in events:
        message = event.get("session_seconds", event.get("seconds", 0.0))
        now = float(message) if isinstance(message, int | float) and abs(message) < 1e12 else last
        if event.get("event") == "session" and began is not None:
            seconds, began = seconds + last - began, None
        if event.get("event") == begin:
            began = now
        elif event.get("event") == end and began is not None:
            seconds, began = seconds + now - began, None
        last = now
    return seconds if began is None else seconds + last - began


class _LoggedStage:
    """Counts steps for the log and forwards to the displayed stage."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name, self.shown = name, stage
        self.steps = 0
        self.last: dict[str, float | str] = {}
        self.began = time.monotonic()

    def advance(self, steps: int = 1, **text: float | str) -> None:
        self.steps += steps
        self.last.update(text)
        self.shown.advance(steps, **text)


class RunReporter:
    """A `Reporter`: one log line at the start of a stage, one at its end with the last displayed values."""

    def __init__(self, log: EventLog, stage: Reporter) -> None:
        self.log, self.shown = log, stage

    def open(self, name: str, total: int | None) -> Stage:
        self.log.write(event="stage", stage=name, total=total)
        return _LoggedStage(name, self.shown.open(name, total))

    def close(self, stage: Stage) -> None:
        assert isinstance(stage, _LoggedStage)
        self.shown.close(stage.shown)
        text = {key: value for key, value in stage.last.items() if key not in ("event", "stage", "step", "seconds")}
        seconds = round(time.monotonic() - stage.began, 6)
        self.log.write(event="stage end", stage=stage.name, step=stage.steps, **text, seconds=seconds)

    def event(self, **fields: Any) -> None:
        self.log.write(**fields)
        self.shown.event(**fields)
