"""`RunContext`: everything a recommender may use besides its data: seed, device, progress, files, validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.protocol.distributed import SINGLE_PROCESS, ProcessGroup
from harness.protocol.predictions import Predictions
from harness.protocol.protocol import DEPTH
from harness.protocol.requests import Requests

ASIDE, BACK = "aside", "back"  # the events between which the training clock stops


class Stage(Protocol):
    """One bar of progress."""

    def advance(self, steps: int = 1, **text: float | str) -> None:
        """Advances the bar by `steps`; `text` is shown beside it (loss, metric)."""


class Reporter(Protocol):
    """Receives progress and log events."""

    def open(self, name: str, total: int | None) -> Stage: ...

    def close(self, stage: Stage) -> None: ...

    def event(self, **fields: Any) -> None:
        """One line of `log.jsonl`: stage, step, loss, learning rate, validation metric, seconds."""


class SilentReporter:
    """Reports nothing."""

    def open(self, name: str, total: int | None) -> Stage:
        return self

    def close(self, stage: Stage) -> None:
        pass

    def advance(self, steps: int = 1, **text: float | str) -> None:
        pass

    def event(self, **fields: Any) -> None:
        pass


@dataclass(frozen=True)
class Validation:
    """The validation requests, and `score(predictions)`, which computes the metrics without showing the targets.
    `digest` is a hash of the targets by their raw item ids, for the cache keys of artefacts that are chosen by them.
    `depth`: the length of the lists, so that enough items are left where the protocol excludes the history."""

    requests: Requests
    score: Callable[[Predictions], dict[str, float]]
    digest: str = ""
    depth: int = DEPTH


@dataclass(frozen=True)
class RunContext:
    """`seed`: derive every stream from it (`harness.core.seeding`). `device`: a torch device name. `cache`: a folder
    shared between runs, for artefacts keyed by their content. `run_dir`: a folder for files that stay with the run (an
    index file), or None. `checkpoint`: this run's folder for checkpoints (safetensors and JSON only), or None where
    none are written. `validation`: None where the caller offers none.
    `validation_items`: the held-out validation item of each user, int64 (n_users,), -1 where there is none; given only
    to a model whose configuration declares that it leaks (`ModelConfig.leaks`), else None. `world`: the processes that
    make the run together, for a model that is `distributed`; only the main one has folders.
    """

    seed: int
    cache: Path
    device: str = "cpu"
    checkpoint: Path | None = None
    validation: Validation | None = None
    reporter: Reporter = field(default_factory=SilentReporter)
    run_dir: Path | None = None
    validation_items: np.ndarray | None = None
    world: ProcessGroup = SINGLE_PROCESS

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """A progress bar for the block."""
        stage = self.reporter.open(name, total)
        try:
            yield stage
        finally:
            self.reporter.close(stage)

    @contextmanager
    def excluded_from_timing(self, message: str) -> Iterator[None]:
        """Measurements during `fit`: the seconds of the block do not count as training time."""
        self.event(event=ASIDE, what=message)
        try:
            yield
        finally:
            self.event(event=BACK, what=message)

    def event(self, **fields: Any) -> None:
        """One line of the run's log."""
        self.reporter.event(**fields)
