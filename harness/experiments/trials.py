"""One trial of a study: a model fitted and measured on the validation cases alone. It is no run of the leaderboard.

The split that a trial works with has no test cases, so nothing in it can look at them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.core.files import sweep
from harness.evaluation.metrics import measure
from harness.protocol.context import Reporter
from harness.protocol.requests import Targets
from harness.protocol.split import Fold, Split
from harness.runs.job import Job
from harness.runs.progress_log import RunReporter
from harness.runs.run import context_of, ranked
from harness.store.atomic import write_text, writing
from harness.store.event_log import EventLog, read_events, seconds_between
from harness.store.run_store import RunFolder

BEGUN, DONE = "trial", "trial end"  # the events between which a trial's clock runs


def blind(split: Split) -> Split:
    """The split without its test cases."""
    nobody = np.empty(0, dtype=np.int64)
    return replace(split, test=Fold(split.test.requests.take(nobody), Targets(nobody, nobody)))


def attempt(job: Job, split: Split, path: Path, reporter: Reporter) -> dict[str, float]:
    """The validation metrics of one configuration. `path` keeps its configuration, its log, and, while it is under way,
    the checkpoint from which an interrupted trial goes on. What a model raises passes through."""
    folder, split = RunFolder(path), blind(split)
    with writing(folder.checkpoint):
        folder.checkpoint.mkdir(parents=True, exist_ok=True)
        sweep(path)  # a killed try may have left half a file; the study's lock is held
    write_text(folder.config, job.config_yaml())
    log = EventLog(folder.log)
    log.write(event=BEGUN)
    context = replace(
        context_of(job, split, RunReporter(log, reporter)), checkpoint=folder.checkpoint, keep=folder.path
    )
    recommender = job.recommender()
    recommender.fit(split.train, context)
    metrics = measure(ranked(recommender, split.valid.requests, context, split.protocol), split.valid.targets)
    log.write(event=DONE, **metrics)
    return metrics


def seconds(path: Path) -> float:
    """What a trial took, over all its sessions."""
    return seconds_between(read_events(RunFolder(path).log), BEGUN, DONE)
