"""A reporter that presses Ctrl-C in the middle of a loop, and counts what a resumed loop does."""

from __future__ import annotations

from harness.protocol.context import SilentReporter


class StopAfter(SilentReporter):
    """Raises `KeyboardInterrupt` at the call of `advance` with the number `at` (None: never). `calls` counts them, of
    whatever stage; a resumed stage needs one more to show where it begins."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.calls = at, 0

    def advance(self, steps: int = 1, **output: float | str) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
