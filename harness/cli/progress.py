"""Progress on stderr: a bar for every stage on a terminal, otherwise lines at intervals."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.cli.output import log

if TYPE_CHECKING:
    from rich.progress import Progress

QUIET = 1.0  # minimal seconds of a stage for a line at its end
EVERY = 20.0  # seconds between lines without a terminal
MAX_FINISHED = 12  # finished bars on the screen


class PlainReporter:
    """A `Reporter` that writes complete lines: for files, pipes and continuous integration."""

    def __enter__(self) -> PlainReporter:
        return self

    def __exit__(self, *items: object) -> None:
        pass

    def open(self, name: str, total: int | None) -> PlainStage:
        return PlainStage(name, total)

    def close(self, stage: Any) -> None:
        stage.close()

    def event(self, **fields: Any) -> None:
        pass


class PlainStage:
    """Counts steps, and prints progress every `EVERY` seconds."""

    def __init__(self, name: str, total: int | None) -> None:
        self.name, self.total = name, total
        self.steps, self.shown = 0, ""
        self.began = self.told = time.monotonic()

    def advance(self, steps: int = 1, **text: float | str) -> None:
        self.steps += steps
        self.shown = values(text) or self.shown
        now = time.monotonic()
        if now - self.told >= EVERY:
            self.told = now
            removed = now - self.began
            remaining = f", {clock(removed * (self.total / self.steps - 1))} left" if self.total and self.steps else ""
            self._say(f"{clock(removed)} gone{remaining}")

    def close(self) -> None:
        removed = time.monotonic() - self.began
        if removed >= QUIET:
            self._say(f"done in {clock(removed)}")

    def _say(self, config: str) -> None:
        of = f"{self.steps}/{self.total}" if self.total else str(self.steps)
        log("  ".join(part for part in (f"{self.name} {of}", config, self.shown) if part))


class BarReporter:
    """A `Reporter` with rich bars: steps, elapsed and remaining time, values of the stage."""

    def __enter__(self) -> BarReporter:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            Remaining(),
            TextColumn("{task.fields[shown]}", style="dim"),
        )
        self._progress: Progress = Progress(*columns, console=Console(stderr=True), speed_estimate_period=120)
        self._done: list[Any] = []
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def open(self, name: str, total: int | None) -> BarStage:
        return BarStage(self._progress, name, total)

    def close(self, stage: Any) -> None:
        if stage.close() < QUIET:
            self._progress.remove_task(stage.task)
            return
        self._done.append(stage.task)
        if len(self._done) > MAX_FINISHED:
            self._progress.remove_task(self._done.pop(0))

    def event(self, **fields: Any) -> None:
        pass


class BarStage:
    """One bar."""

    def __init__(self, progress: Progress, name: str, total: int | None) -> None:
        self._progress = progress
        self._shown = ""
        self._began = time.monotonic()
        self.task = progress.add_task(name, total=total, shown="")

    def advance(self, steps: int = 1, **text: float | str) -> None:
        self._shown = values(text) or self._shown
        self._progress.update(self.task, advance=steps, shown=self._shown)

    def close(self) -> float:
        """Stops the clock; the seconds it lasted."""
        self._progress.stop_task(self.task)
        return time.monotonic() - self._began


def reporter() -> BarReporter | PlainReporter:
    """The reporter for this terminal; a context manager."""
    return BarReporter() if sys.stderr.isatty() else PlainReporter()


def values(text: dict[str, Any]) -> str:
    """Loss, metric etc. next to a bar.

    >>> values({"loss": 2.34567, "lr": 1e-05, "phase": "warm-up"})
    'loss 2.346 lr 1e-05 phase warm-up'
    """
    return " ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in text.items()
    )


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(7), clock(201.4), clock(3661)
    ('0:07', '3:21', '1:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
