"""Progress on a terminal and without one."""

from __future__ import annotations

import io
from typing import Any

import pytest

from harness.cli import output
from harness.cli.output import BarReporter, PlainReporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set by the test."""
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    return now


def steps(reporter: Any, clock: list[float], seconds: float) -> None:
    stage = reporter.open("train", 4)
    for step in range(4):
        clock[0] += seconds
        stage.advance(1, loss=4.0 - step)
    reporter.close(stage)


def test_plain_lines(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with output.reporter() as reporter:
        assert isinstance(reporter, PlainReporter)
        steps(reporter, clock, 15.0)
        steps(reporter, clock, 0.1)
    assert capsys.readouterr().err.splitlines() == [
        "train 2/4  0:30 elapsed, 0:30 left  loss 3",
        "train 4/4  1:00 elapsed, 0:00 left  loss 1",
        "train 4/4  done in 1:00  loss 1",
    ]


def test_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(output, "QUIET", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with output.reporter() as reporter:
        assert isinstance(reporter, BarReporter)
        stage = reporter.open("train", 4)
        stage.advance(4, loss=1.25)
        reporter.close(stage)
    assert "train" in screen.getvalue() and "4/4" in screen.getvalue() and "loss 1.25" in screen.getvalue()
