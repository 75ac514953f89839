"""`RunReporter`: writes stages and events of a run to its `log.jsonl`, and forwards them to the progress display."""

from __future__ import annotations

from typing import Any

from harness.protocol.context import Reporter, Stage
from harness.store.environment import Stopwatch
from harness.store.event_log import EventLog


class _LoggedStage:
    """Counts steps for the log and forwards to the displayed stage."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name, self.shown = name, stage
        self.steps = 0
        self.last: dict[str, float | str] = {}
        self.watch = Stopwatch()

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
        seconds = round(stage.watch.seconds, 6)
        self.log.write(event="stage end", stage=stage.name, step=stage.steps, **text, seconds=seconds)

    def event(self, **fields: Any) -> None:
        self.log.write(**fields)
        self.shown.event(**fields)
