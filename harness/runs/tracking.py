"""`--track`: the events of a run's log, its configuration and its final metrics, passed on to trackers as they come.

Tracking decides nothing: it is no part of a run's key, and a tracker that fails is given up with one warning. Which
logs have been begun stands in the run's `tracking.json`, so that a resumed run goes on with its curves, without steps
twice; a tracker that comes later (or anew) is first told the log so far, of a complete run all of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from harness.core.files import write_result_text
from harness.runs.trackers import Tracked, Tracker, TrackerSpec, tracker
from harness.store.event_log import read_events
from harness.store.record import Record
from harness.store.run_store import RunFolder, StoredRun, warn

Event = Mapping[str, Any]
STATE = "tracking.json"
NO_VALUES = {"event", "stage", "step", "epoch", "session_seconds"}


@dataclass(frozen=True)
class Point:
    """What one event says: numbers by `stage/name`, at a step and a time (seconds since 1970)."""

    values: dict[str, float]
    step: int
    when: float


@dataclass
class Curves:
    """Reads events one after the other; a step that a curve has had is not given again."""

    began: float = 0.0
    last: dict[str, int] = field(default_factory=dict)

    def on_event(self, event: Event) -> Point | None:
        """What is new in an event; None where it holds no numbers."""
        if event.get("event") == "session":
            self.began = datetime.fromisoformat(str(event["time"])).timestamp()
        stage = event.get("stage")
        numbers = {name: value for name, value in event.items() if name not in NO_VALUES and _is_number(value)}
        if "session_seconds" not in event:  # then these are the session's clock, and no measurement
            numbers.pop("seconds", None)
        if stage is None or not numbers:
            return None
        if event.get("event") is not None:  # of the end of a stage its time alone: its losses have been said
            numbers = {"stage_seconds": numbers["seconds"]} if event["event"] == "stage end" else {}
        first = next(iter(numbers), "")
        step = event.get("step", event.get("epoch"))
        step = int(step) if _is_number(step) else self.last.get(f"{stage}/{first}", 0) + 1
        names = {f"{stage}/{name}": float(value) for name, value in numbers.items()}
        new = {name: value for name, value in names.items() if step > self.last.get(name, -1)}
        self.last.update(dict.fromkeys(new, step))
        timestamp = self.began + float(event.get("session_seconds", event.get("seconds", 0.0)))
        return Point(new, step, timestamp) if new else None


class Tracking:
    """The trackers of one run that still work."""

    def __init__(self, tracker_specs: Sequence[TrackerSpec], run: Tracked) -> None:
        self.run = run
        self._path = run.folder / STATE
        self._state: dict[str, dict[str, Any]] = _read_state(self._path)
        self._open: dict[str, tuple[Tracker, Curves]] = {}
        past = read_events(RunFolder(run.folder).log)
        for wish in tracker_specs:
            with self._forgiven(wish.name):
                self._begin(wish, past)

    def on_event(self, event: Event) -> None:
        """Passes one event of the log on."""
        for name, (tool, curves) in list(self._open.items()):
            with self._forgiven(name):
                _say(tool, curves.on_event(event))

    def finish(self, record: Record) -> None:
        """Ends the logs of a complete run."""
        folds = {"test": record.metrics.test, "valid": record.metrics.valid}
        final = {f"{fold}/{name}": value for fold, values in folds.items() for name, value in values.items()}
        costs = record.cost.model_dump()
        final |= {f"cost/{name}": float(value) for name, value in costs.items() if _is_number(value)}
        for name, (tool, _) in list(self._open.items()):
            with self._forgiven(name):
                tool.end(final)
                del self._open[name]
                self._note(name, {**self._state[name], "complete": True})

    def close(self) -> None:
        """Ends the logs that are still open: of a run that was stopped."""
        for name, (tool, _) in list(self._open.items()):
            with self._forgiven(name):
                del self._open[name]
                tool.end(None)

    def _begin(self, wish: TrackerSpec, past: Sequence[Event]) -> None:
        known_by_name = self._state.get(wish.name, {})
        before = str(known_by_name.get("mark", "")) if known_by_name.get("where") == wish.where else ""
        if before and known_by_name.get("complete"):
            return
        tool, curves = tracker(wish), Curves()
        mark = tool.begin(self.run, before)
        self._open[wish.name] = (tool, curves)
        for event in past:
            point = curves.on_event(event)
            if mark != before:
                _say(tool, point)
        self._note(wish.name, {"where": wish.where, "mark": mark, "complete": False})

    @contextmanager
    def _forgiven(self, name: str) -> Iterator[None]:
        """Gives a tracker up where it fails, and forgets what it was told, so that the next session begins it anew."""
        try:
            yield
        except Exception as error:
            self._open.pop(name, None)
            warn(f"{name} is given up for this run: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            try:
                self._note(name, None)
            except Exception as again:
                warn(f"{self._path} cannot be written: {again}")

    def _note(self, name: str, known_by_name: dict[str, Any] | None) -> None:
        self._state.pop(name, None)
        if known_by_name is not None:
            self._state[name] = known_by_name
        write_result_text(self._path, json.dumps(self._state, indent=2) + "\n")


@contextmanager
def tracking(tracker_specs: Sequence[TrackerSpec], folder: RunFolder, final: RunFolder) -> Iterator[Tracking]:
    """The tracking of a run that is made in `folder` and will lie in `final`; whatever way the block is left, the logs
    are closed."""
    model, dataset, run_id = final.path.parts[-3:]
    settings = _settings(folder.config) if tracker_specs else {}
    current_tracking = Tracking(tracker_specs, Tracked(run_id, model, dataset, folder.path, settings))
    try:
        yield current_tracking
    finally:
        current_tracking.close()


def track_stored(tracker_specs: Sequence[TrackerSpec], run: StoredRun) -> None:
    """Tells trackers of a complete run what they have not been told."""
    if tracker_specs:
        with tracking(tracker_specs, run.folder, run.folder) as current_tracking:
            current_tracking.finish(run.record)


def _say(tool: Tracker, point: Point | None) -> None:
    if point is not None:
        tool.log(point.values, point.step, point.when)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _settings(path: Path) -> dict[str, str]:
    """A configuration, flattened to `section.key` and the text of its value."""
    try:
        return dict(_flat("", yaml.safe_load(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), below)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def _read_state(path: Path) -> dict[str, dict[str, Any]]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return (
        {name: names for name, names in result.items() if isinstance(names, dict)} if isinstance(result, dict) else {}
    )
